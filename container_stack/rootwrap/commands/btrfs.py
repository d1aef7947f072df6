# SPDX-License-Identifier: Apache-2.0
"""Subvolumes of a btrfs."""

from container_stack.rootwrap.commands.template import Command

QUOTA = Command("btrfs_quota", "btrfs quota enable {root:btrfs}", 600, long=True)
# The daemon does this itself: see container_stack.rootwrap.volume.
CREATE = Command(
    "btrfs_create",
    "container-stack-volume create {path:subvolume} {size:size}",
    idempotent=False,
    inside=True,
)
SNAPSHOT = Command(
    "btrfs_snapshot",
    "btrfs -q subvolume snapshot {origin:subvolume} {path:subvolume}",
    idempotent=False,
)
SNAPSHOT_RO = Command(
    "btrfs_snapshot_ro",
    "btrfs -q subvolume snapshot -r {origin:subvolume} {path:subvolume}",
    idempotent=False,
)
LIMIT = Command("btrfs_limit", "btrfs qgroup limit {size:size} {path:subvolume}")
LIMIT_ID = Command("btrfs_limit_id", "btrfs qgroup limit {size:size} 0/{id:size} {root:btrfs}")
ID = Command("btrfs_id", "btrfs inspect-internal rootid {path:subvolume}")
DELETE = Command(
    "btrfs_delete", "container-stack-volume delete {path:subvolume}", idempotent=False, inside=True
)
# A tenant may make subvolumes in his volume; by their ids they go without following his paths.
NESTED = Command("btrfs_nested", "btrfs subvolume list {root:btrfs}", long=True)
RESOLVE = Command("btrfs_resolve", "btrfs inspect-internal subvolid-resolve {id:size} {root:btrfs}")
DELETE_NESTED = Command(
    "btrfs_delete_nested", "btrfs -q subvolume delete --subvolid {id:size} {root:btrfs}"
)
QGROUP_DELETE = Command("btrfs_qgroup_delete", "btrfs qgroup destroy 0/{id:size} {root:btrfs}")
SEND = Command("btrfs_send", "btrfs -q send -f {file:stream} {path:subvolume}", 7200, long=True)
SEND_SINCE = Command(
    "btrfs_send_since",
    "btrfs -q send -f {file:stream} -p {parent:subvolume} {path:subvolume}",
    7200,
    long=True,
)
RECEIVE = Command(
    "btrfs_receive",
    "btrfs -q receive -C -f {file:stream} {directory:inbox}",
    7200,
    long=True,
    idempotent=False,
)

ALL = (
    QUOTA,
    CREATE,
    SNAPSHOT,
    SNAPSHOT_RO,
    LIMIT,
    LIMIT_ID,
    ID,
    DELETE,
    NESTED,
    RESOLVE,
    DELETE_NESTED,
    QGROUP_DELETE,
    SEND,
    SEND_SINCE,
    RECEIVE,
)
