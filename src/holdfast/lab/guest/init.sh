#!/bin/busybox sh
# First program of the guest: file systems, drivers, the address from the kernel's command line; then the agent is PID 1.
# Kernel parameters: lab.name=NAME lab.address=A.B.C.D/LEN
B=/bin/busybox
$B mount -t devtmpfs dev /dev
$B mount -t proc proc /proc
$B mount -t sysfs sys /sys
while read -r module; do $B insmod "/modules/$module"; done < /modules/order
for word in $($B cat /proc/cmdline); do
    case $word in
        lab.name=*) name=${word#*=} ;;
        lab.address=*) address=${word#*=} ;;
    esac
done
$B hostname "$name"
$B ip link set lo up
echo 1 > /proc/sys/net/ipv4/conf/eth0/arp_notify
$B ip address add "$address" dev eth0
$B ip link set eth0 up
for event in /sys/class/input/event*; do
    read -r device < "$event/device/name"
    [ "$device" = "Power Button" ] && button=/dev/input/${event##*/}
done
exec /bin/perl /agent.pl "$name" "$button"
