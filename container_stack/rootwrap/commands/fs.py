# SPDX-License-Identifier: Apache-2.0
"""File systems: making, mounting, resizing and freezing them."""

import re

from container_stack.rootwrap.commands.kinds import KINDS
from container_stack.rootwrap.commands.template import Command

MAKE_XFS = Command("make_xfs", "mkfs.xfs -q {device:device}", 600, long=True, idempotent=False)
MAKE_EXT4 = Command(
    "make_ext4", "mkfs.ext4 -q -m 0 {device:device}", 600, long=True, idempotent=False
)
MAKE_BTRFS = Command(
    "make_btrfs", "mkfs.btrfs -q {device:device}", 600, long=True, idempotent=False
)
# A clone carries the UUID of its origin, which xfs refuses to mount twice unless told.
MOUNT_XFS = Command(
    "mount_xfs",
    "mount -t xfs -o {access:access},nosuid,nodev,noexec,nouuid {device:device} {path:mountpoint}",
)
MOUNT_EXT4 = Command(
    "mount_ext4",
    "mount -t ext4 -o {access:access},nosuid,nodev,noexec {device:device} {path:mountpoint}",
)
MOUNT_BTRFS = Command(
    "mount_btrfs",
    "mount -t btrfs -o {access:access},nosuid,nodev,noexec {device:device} {path:mountpoint}",
)
UNMOUNT = Command("unmount", "umount {path:mountpoint}", idempotent=False)
GROW_XFS = Command("grow_xfs", "xfs_growfs {path:mountpoint}", 600, long=True)
GROW_EXT4 = Command("grow_ext4", "resize2fs {device:device}", 600, long=True)
GROW_BTRFS = Command("grow_btrfs", "btrfs filesystem resize max {path:mountpoint}", 600, long=True)
# ext4 unmounted resizes only what was checked since its last mount; exit code 1 is "corrected".
CHECK_EXT4 = Command("check_ext4", "e2fsck -f -p {device:device}", 600, long=True)
SHRINK_EXT4 = Command("shrink_ext4", "resize2fs {device:device} {kib:size}K", 600, long=True)
SHRINK_BTRFS = Command(
    "shrink_btrfs", "btrfs filesystem resize {size:size} {path:mountpoint}", 600, long=True
)
# A clone carries the UUID of its origin, by which btrfs would take the one for the other.
RENEW_BTRFS = Command("renew_btrfs", "btrfstune -m {device:device}", long=True)
FREEZE = Command("freeze", "fsfreeze --freeze {path:mountpoint}", idempotent=False)
THAW = Command("thaw", "fsfreeze --unfreeze {path:mountpoint}", idempotent=False)
# Containers see mounts made after their start only below a mount that propagates.
BIND_TREE = Command("bind_tree", "mount --bind {path:tree} {again:tree}", idempotent=False)
SHARE_TREE = Command("share_tree", "mount --make-rshared {path:tree}")
UNMOUNT_TREE = Command("unmount_tree", "umount {path:tree}", idempotent=False)

_KEEP = (
    MAKE_XFS,
    MAKE_EXT4,
    MAKE_BTRFS,
    MOUNT_XFS,
    MOUNT_EXT4,
    MOUNT_BTRFS,
    UNMOUNT,
    GROW_XFS,
    GROW_EXT4,
    GROW_BTRFS,
    CHECK_EXT4,
    RENEW_BTRFS,
    FREEZE,
    THAW,
)
SHARES = (
    *_KEEP,
    SHRINK_EXT4,
    SHRINK_BTRFS,
    BIND_TREE,
    SHARE_TREE,
    UNMOUNT_TREE,
)

# Volumes of Open Storage: containers may have programs in theirs.
MOUNT_VOLUME_XFS = Command(
    "mount_volume_xfs",
    "mount -t xfs -o {access:access},nosuid,nodev,nouuid {device:device} {path:mountpoint}",
)
MOUNT_VOLUME_EXT4 = Command(
    "mount_volume_ext4",
    "mount -t ext4 -o {access:access},nosuid,nodev {device:device} {path:mountpoint}",
)
MOUNT_VOLUME_BTRFS = Command(
    "mount_volume_btrfs",
    "mount -t btrfs -o {access:access},nosuid,nodev {device:device} {path:mountpoint}",
)
# The daemon does these itself: see container_stack.rootwrap.volume.
MOUNT_DIRECTORY = Command(
    "mount_directory",
    "container-stack-volume bind {access:access} {source:kept} {path:mountpoint}",
    idempotent=False,
    inside=True,
)
UNMOUNT_DIRECTORY = Command(
    "unmount_directory", "container-stack-volume unbind {path:mountpoint}", inside=True
)

VOLUMES = (
    *_KEEP,
    MOUNT_VOLUME_XFS,
    MOUNT_VOLUME_EXT4,
    MOUNT_VOLUME_BTRFS,
    MOUNT_DIRECTORY,
    UNMOUNT_DIRECTORY,
)

# What is on a device, and that it is nothing: a crash may leave half of a file system.
PROBE = Command("probe", "blkid --probe --output value --match-tag TYPE {device:device}")
WIPE = Command("wipe", "wipefs --quiet --all {device:device}")

# Only a driver that has EBS may touch it.
_EBS = {
    command.name: command.variant("device", "ebs")
    for command in (
        *(MAKE_XFS, MAKE_EXT4, MOUNT_VOLUME_XFS, MOUNT_VOLUME_EXT4, CHECK_EXT4, GROW_EXT4),
        *(PROBE, WIPE),
    )
}
EBS = (PROBE, WIPE, *_EBS.values())


# Volumes of the compute service, where container-stack-disk has connected them.
DISK = {
    command.name: command.variant("device", "disk")
    for command in (
        *(MAKE_XFS, MAKE_EXT4, MOUNT_VOLUME_XFS, MOUNT_VOLUME_EXT4, MOUNT_VOLUME_BTRFS),
        *(GROW_EXT4, PROBE),
    )
}


def on(device: str, command: Command) -> Command:
    """Return the command that does to this device what the given one does to any of its own."""
    for kind, there in (("ebs", _EBS), ("disk", DISK)):
        if re.fullmatch(KINDS[kind], device):
            return there.get(command.name, command)
    return command
