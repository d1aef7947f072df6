#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The first process of a guest of uml-guest.sh, which copies it into the guest's root. The kernel passes
# `job`, the directory on the host with the job's file; the exit code goes there.
# shellcheck disable=SC1091,SC2154  # the job's file sets shares, directory and command

export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

# Step 1, on the shared read-only root: lay a writable root in memory over it and go there.
writable_root() {
    mount -n -t proc proc /proc
    mount -t tmpfs -o size=75%,mode=755 tmpfs /mnt
    mkdir /mnt/upper /mnt/work /mnt/root
    modprobe -q overlay
    mount -t overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work overlay /mnt/root
    cd /mnt/root || exit
    mount -n --move /proc proc
    pivot_root . mnt
    exec chroot . /bin/bash /uml-guest-init "$job"
}

# Step 2, on the writable root: what a machine has when its services have started, then the job.
machine() {
    umount -l /mnt
    mount -t sysfs sys /sys
    mount -t devtmpfs dev /dev
    mkdir -p /dev/pts /dev/shm
    mount -t devpts -o ptmxmode=666 devpts /dev/pts
    mount -t tmpfs tmpfs /dev/shm
    mount -t tmpfs -o mode=755 tmpfs /run
    mount -t tmpfs tmpfs /tmp
    mount -t cgroup2 cgroup /sys/fs/cgroup
    mkdir -p /run/lock /run/job
    mount -t hostfs none /run/job -o "$1"
}

services() {
    for share in "${shares[@]}"; do
        mkdir -p "$share"
        mount -t hostfs none "$share" -o "$share"
    done
    hostname uml-guest
    echo "127.0.0.1 localhost uml-guest" >/etc/hosts
    ip link set lo up
    modprobe -qa loop dm-mod dm-snapshot dm-thin-pool
    /lib/systemd/systemd-udevd --daemon
    stty -F /dev/tty1 raw -echo
}

if [ $# -eq 0 ]; then writable_root; fi
machine "$1"
. /run/job/job # here: what a function declares is gone after it
services
(
    export UML_GUEST=1 HOME=/root
    cd "$directory" && exec "${command[@]}"
) </dev/null 2>&1 | cat >/dev/tty1
echo "${PIPESTATUS[0]}" >/run/job/status
sync
echo o >/proc/sysrq-trigger
sleep 60
