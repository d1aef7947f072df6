# SPDX-License-Identifier: Apache-2.0
"""Volumes and shares of servers."""

from container_stack.rootwrap.commands import fs, loop, nfs
from container_stack.rootwrap.commands.template import Command

# What may hold secrets comes by standard input: see container_stack.rootwrap.disk.
_DISK_PROGRAM = "container-stack-disk"
CONNECT = Command(
    "disk_connect",
    f"{_DISK_PROGRAM} connect {{server:id}} {{disk:id}} {{tree:tree}}",
    120,
    long=True,
    own=True,
)
DISCONNECT = Command(
    "disk_disconnect",
    f"{_DISK_PROGRAM} disconnect {{server:id}} {{disk:id}}",
    120,
    long=True,
    own=True,
)
SHOW = Command(
    "disk_show",
    f"{_DISK_PROGRAM} show {{server:id}} {{disk:id}} {{tree:tree}} {{container:container}}"
    " {pid:size} {target:node} {access:access}",
    own=True,
)
HIDE = Command(
    "disk_hide",
    f"{_DISK_PROGRAM} hide {{server:id}} {{disk:id}} {{container:container}} {{pid:size}}"
    " {target:node}",
    own=True,
)
# Only root may read what the host is called among initiators.
INITIATOR = Command("disk_initiator", f"{_DISK_PROGRAM} initiator", own=True)
EXTEND = Command(
    "disk_extend", f"{_DISK_PROGRAM} extend {{server:id}} {{disk:id}}", 60, long=True, own=True
)
MOUNT = Command(
    "disk_mount",
    f"{_DISK_PROGRAM} mount {{path:mountpoint}} {{container:container}} {{pid:size}}"
    " {name:place}",
    own=True,
)
UNMOUNT = Command(
    "disk_unmount",
    f"{_DISK_PROGRAM} unmount {{path:mountpoint}} {{container:container}} {{pid:size}}",
    own=True,
)
# A server that is silent is waited for, as NFS does: a share that gave up would lose writes.
MOUNT_SHARE = Command(
    "mount_share",
    "mount.nfs {source:nfs_source} {path:mountpoint} -o {access:access},nosuid,nodev,retry=0",
    60,
    idempotent=False,
)

ALL = (
    CONNECT,
    DISCONNECT,
    SHOW,
    HIDE,
    INITIATOR,
    EXTEND,
    MOUNT,
    UNMOUNT,
    *fs.DISK.values(),
    MOUNT_SHARE,
    nfs.UNBIND,
    fs.UNMOUNT,
    fs.GROW_XFS,
    fs.GROW_BTRFS,
    # Ephemeral disks.
    *loop.ALL,
    fs.MAKE_EXT4,
    fs.MOUNT_VOLUME_EXT4,
    fs.THAW,
)

# The root of a server that is rescued, for the one that rescues it.
MOUNT_ROOT = Command(
    "mount_root",
    "mount -t overlay overlay -o nosuid,nodev,lowerdir={lower:layers},upperdir={upper:layer_diff},"
    "workdir={work:layer_work} {path:mountpoint}",
)
