# The guest's only program, PID 1. It proves from inside which instance ran, and when.
#
# Every BEAT it writes one record into its own slot of the disk and one line to the serial console, and it answers
# on TCP port 7 with one line. Record = one line of "key=value" words in the first sector of a 4096-byte slot:
#   hf1 boot=ID slot=N name=NAME beats=N first_ms=T latest_ms=T uptime_ms=T state=running|stopped saw=EVIDENCE
# Each boot takes the first free slot. Before each write it reads its slot and both neighbours past the cache; what it
# finds there is proof, without any clock, that a second instance is alive (see holdfast/lab/records.py):
#   later:ID    the next slot was taken while this instance still runs
#   earlier:ID  the slot before it changed after this instance had started
#   shared:ID   another instance writes into this instance's slot
#   rewound:N   its own slot holds N beats, which is not what this memory wrote: memory older than its disk
# A disk that is larger than AREA bytes, such as a LUN, carries a journal behind them: every BEAT the guest appends one
# 4096-byte block, the same sector eight times (see holdfast/lab/journal.py):
#   hfj boot=ID number=N sum=CRC32
# Each boot begins with number 1 in the first free block. What it misses there, or finds behind it, is judged by the
# reader, not by the guest.
# On TCP port 9 it keeps connections open: each line is answered with how many lines its memory has answered so far.
# On UDP port 8 it measures its own pauses, by the clock of whoever asks, because its own stands still in a pause: after
# "start ID" it sends "tick N HEARD" every TICK and takes each answer for the time in microseconds; the longest time
# between two answers that came one after the other is its longest gap. HEARD is the latest of them, 0 before the first.
# A start that came twice begins nothing anew. It stops when nobody has answered for 60 s.
# Plain Perl without modules, because Debian's perl-base is on every machine and one process without forks is cheap
# under emulation.

$| = 1;
my ($name, $button_path) = @ARGV;
my ($SLOT, $BEAT, $BLKFLSBUF, $AREA) = (4096, 0.25, 0x1261, 4 << 20);
my ($TICK_MS, $TICK_PATIENCE_MS) = (5, 60_000);
my ($SYS_CLOCK_GETTIME, $SYS_REBOOT) = (228, 169);

sub clock_ms {
    my $time = "\0" x 16;
    syscall($SYS_CLOCK_GETTIME, $_[0], $time);
    my ($s, $ns) = unpack "qq", $time;
    return $s * 1000 + int($ns / 1_000_000);
}

sub first_line { open(my $file, "<", $_[0]) or return ""; my $line = <$file>; chomp $line; return $line }

# The host's wall clock is the emulated RTC; it ticks in whole seconds and keeps going while this memory sleeps in a
# file. So the guest's clock is pushed into the RTC's current second at every beat.
my $offset_ms = 0;
sub wall_ms {
    my $now = clock_ms(0) + $offset_ms;
    my $rtc = 1000 * first_line("/sys/class/rtc/rtc0/since_epoch");
    my $error = $now < $rtc ? $rtc - $now : $now > $rtc + 999 ? $rtc + 999 - $now : 0;
    $offset_ms += $error;
    return ($now + $error, $error);
}

my ($first_ms) = wall_ms();
my $boot = sprintf "%011x%s", $first_ms, substr(first_line("/proc/sys/kernel/random/boot_id"), 0, 8);

open(my $disk, "+<", "/dev/vda") or die "no disk: $!";
sub read_slots {
    my ($from, $count) = @_;
    ioctl $disk, $BLKFLSBUF, 0;
    sysseek $disk, $from * $SLOT, 0;
    sysread $disk, my $raw, $count * $SLOT;
    return map { (split /\n/, substr($raw, $_ * $SLOT, 512), 2)[0] =~ s/\0.*//sr } 0 .. $count - 1;
}
sub id_of { $_[0] =~ /boot=(\w+)/ ? $1 : "unreadable" }

my $blocks = int((-s "/dev/vda" || 512 * first_line("/sys/block/vda/size")) / $SLOT);
my $slots = $blocks < $AREA / $SLOT ? $blocks : $AREA / $SLOT;
my $slot = 0;
for my $text (read_slots(0, $slots - 1)) { last if $text eq ""; $slot++ }

my ($written, $beats, %saw) = ("", 0);
my $base = $slot ? $slot - 1 : 0;
my ($earlier) = $slot ? read_slots($base, 1) : ("");

sub look {
    my @around = read_slots($base, $slot - $base + 2);
    my ($before, $own, $after) = $slot ? @around : ("", @around);
    $saw{"earlier:" . id_of($before)} = 1 if $before ne $earlier;
    $saw{"later:" . id_of($after)} = 1 if $after ne "";
    if ($own ne $written) {
        my $id = id_of($own);
        $saw{$id eq $boot ? "rewound:" . ($own =~ /beats=(\d+)/)[0] : "shared:$id"} = 1;
    }
}

# The journal is written without holes, so its end is found by halving.
my ($free, $end, $number) = ($slots, $blocks, 0);
while ($free < $end) {
    my $middle = int(($free + $end) / 2);
    sysseek $disk, $middle * $SLOT, 0;
    sysread $disk, my $block, $SLOT;
    if ($block eq "\0" x $SLOT) { $end = $middle } else { $free = $middle + 1 }
}

sub crc32 {
    my $crc = 0xffffffff;
    for my $byte (unpack "C*", $_[0]) {
        $crc ^= $byte;
        $crc = $crc & 1 ? $crc >> 1 ^ 0xedb88320 : $crc >> 1 for 1 .. 8;
    }
    return $crc ^ 0xffffffff;
}

sub append {
    return if $free >= $blocks;
    $number++;
    my $text = "hfj boot=$boot number=$number";
    my $line = sprintf "%s sum=%08x\n", $text, crc32($text);
    sysseek $disk, $free++ * $SLOT, 0;
    syswrite $disk, ($line . "\0" x (512 - length $line)) x 8;
}

sub beat {
    my ($state) = @_;
    look();
    my ($now, $error) = wall_ms();
    $first_ms += $error if $beats < 8;
    $beats++;
    my $uptime = clock_ms(7);
    $written = "hf1 boot=$boot slot=$slot name=$name beats=$beats first_ms=$first_ms latest_ms=$now"
        . " uptime_ms=$uptime state=$state saw=" . join(",", (sort keys %saw)[0 .. (keys %saw < 8 ? keys(%saw) - 1 : 7)]);
    sysseek $disk, $slot * $SLOT, 0;
    syswrite $disk, $written . "\n" . "\0" x ($SLOT - 1 - length $written);
    append();
    ioctl $disk, $BLKFLSBUF, 0;
    print "$written\n";
}

sub listen_on {
    my ($port, $type, $protocol) = @_;
    my $socket;
    socket($socket, 2, $type, $protocol) && setsockopt($socket, 1, 2, 1)
        && bind($socket, pack("S n a4 x8", 2, $port, "\0" x 4)) or die "no port: $!";
    return $socket;
}
my ($server, $talk, $clock) = (listen_on(7, 1, 6), listen_on(9, 1, 6), listen_on(8, 2, 17));
listen($server, 16) && listen($talk, 16) or die "no port: $!";
open(my $button, "<", $button_path) or print "no power button: $!\n";

my ($answered, %talks) = (0);
my ($asker, $started, $ticks, $heard_at, $heard_us, $longest_us) = (undef, "", 0, 0, 0, 0);

sub hear_time {
    my $from = recv($clock, my $text, 64, 0);
    return unless defined $from;
    if ($text =~ /^start/) {
        ($asker, $started, $ticks, $heard_us, $longest_us) = ($from, $text, 0, 0, 0) if $text ne $started;
    }
    elsif ($text =~ /^(\d+)/) {
        $longest_us = $1 - $heard_us if $heard_us && $1 - $heard_us > $longest_us;
        $heard_us = $1 if $1 > $heard_us;
    }
    $heard_at = clock_ms(1);
}

my $next = clock_ms(1);
while (1) {
    my $now = clock_ms(1);
    if ($now >= $next) {
        beat("running");
        $next = clock_ms(1) + 1000 * $BEAT;
    }
    undef $asker if $asker && $now > $heard_at + $TICK_PATIENCE_MS;
    my $wait = $next - clock_ms(1);
    if ($asker) {
        send $clock, "tick " . ++$ticks . " $heard_us", 0, $asker;
        $wait = $TICK_MS if $wait > $TICK_MS;
    }
    my $ready = "";
    vec($ready, fileno $_, 1) = 1 for $server, $talk, $clock, ($button || ()), values %talks;
    select $ready, undef, undef, $wait > 0 ? $wait / 1000 : 0;
    hear_time() if vec $ready, fileno $clock, 1;
    if (vec($ready, fileno $server, 1) && accept(my $client, $server)) {
        syswrite $client, sprintf "boot=%s beats=%d name=%s slot=%d answered=%d ticks=%d longest_gap_us=%d\n",
            $boot, $beats, $name, $slot, $answered, $ticks, $longest_us;
    }
    if (vec($ready, fileno $talk, 1) && accept(my $client, $talk)) { $talks{fileno $client} = $client }
    for my $number (grep { vec $ready, $_, 1 } keys %talks) {
        if (sysread $talks{$number}, my $text, 4096) {
            $answered++;
            syswrite $talks{$number}, "boot=$boot answered=$answered\n";
        }
        else { delete $talks{$number} }
    }
    if ($button && vec $ready, fileno $button, 1) {
        sysread $button, my $event, 24;
        my ($type, $code, $value) = unpack "x16 S S l", $event;
        last if $type == 1 && $code == 116 && $value == 1;
    }
}
beat("stopped");
syscall $SYS_REBOOT, 0xfee1dead, 672274793, 0x4321fedc, 0;
