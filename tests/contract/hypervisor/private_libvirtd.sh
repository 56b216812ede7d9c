#!/bin/sh
# PID 1 of a private libvirt: hide the machine's directories below our own, then reap orphans for ever.
set -e
folder=$1
mount --make-rprivate /
for pair in run:/run lib:/var/lib/libvirt cache:/var/cache/libvirt log:/var/log/libvirt etc:/etc/libvirt; do
    mkdir -p "$folder/${pair%%:*}" "${pair#*:}"
    mount --bind "$folder/${pair%%:*}" "${pair#*:}"
done
mount -t tmpfs tmpfs /dev/shm
ip link set lo up
cat >/etc/libvirt/qemu.conf <<'CONF'
user = "root"
group = "root"
security_driver = "none"
cgroup_controllers = []
namespaces = []
dynamic_ownership = 0
stdio_handler = "file"
CONF
printf 'host_uuid = "%s"\nauth_unix_rw = "none"\n' "$(cat /proc/sys/kernel/random/uuid)" >/etc/libvirt/libvirtd.conf
touch "$folder/ready"
exec python3 -S -c '
import os, time
while True:
    try:
        os.wait()
    except ChildProcessError:
        time.sleep(0.05)
'
