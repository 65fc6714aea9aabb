#!/bin/busybox sh
# The first process of a virtual machine: moves to a file system that containers can leave, mounts what a
# host has, and obeys the shell commands that come through the port.
export PATH=/bin
if [ "$1" != moved ]; then
    /bin/busybox --install -s /bin
    mkdir -p /sbin /root
    ln -s /bin/busybox /sbin/modprobe
    mount -t tmpfs root /root
    cp -a /bin /sbin /lib /etc /init /root
    exec switch_root /root /init moved
fi
mkdir -p /proc /sys /dev /run /tmp /var/tmp /data
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t cgroup2 cgroup2 /sys/fs/cgroup
for module in virtio_pci virtio_blk virtio_console virtio_net; do modprobe "$module"; done
ip link set lo up
hostname machine
port=
until [ -n "$port" ]; do
    for port in /dev/vport*; do [ -c "$port" ] || port=; done
done
# It can be opened once.
exec 3<>"$port"
exec sh <&3 >&3 3<&-
