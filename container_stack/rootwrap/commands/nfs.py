# SPDX-License-Identifier: Apache-2.0
"""Directories on an NFS server, and what is done to the trees of files in them."""

from container_stack.rootwrap.commands.template import Command

# A server that is silent is waited for: 5, 10 and 15 seconds; a first time, not at all. The
# unmounting asks no server, and looks at no path on it.
MOUNT = Command(
    "nfs_mount",
    "mount.nfs {source:nfs_source} {path:export}"
    " -o nosuid,nodev,timeo=50,retrans=2,retry=0,{options:nfs_options}",
    60,
    idempotent=False,
)
LEAVE = Command("nfs_leave", "umount --internal-only --no-canonicalize {path:export}")
BIND = Command(
    "nfs_bind",
    "mount -o bind,{access:access},nosuid,nodev {source:nfs_data} {path:mountpoint}",
    45,
    idempotent=False,
)
UNBIND = Command("nfs_unbind", "umount --internal-only --no-canonicalize {path:mountpoint}")

# What the files of tenants need, who may have planted links: see container_stack.rootwrap.tree.
_TREE = "container-stack-tree"
TREE_LIST = Command("tree_list", f"{_TREE} list {{root:nfs_root}}", 45, own=True)
TREE_CREATE = Command(
    "tree_create", f"{_TREE} create {{root:nfs_root}} {{node:digest}} {{id:id}}", 45, own=True
)
TREE_SETTLE = Command("tree_settle", f"{_TREE} settle {{root:nfs_root}} {{id:id}}", 45, own=True)
TREE_USAGE = Command(
    "tree_usage", f"{_TREE} usage {{root:nfs_root}} {{id:id}}", 300, long=True, own=True
)
TREE_COPY = Command(
    "tree_copy",
    f"{_TREE} copy {{root:nfs_root}} {{node:digest}} {{id:id}} {{origin:id}}",
    7200,
    long=True,
    own=True,
)
TREE_RESTORE = Command(
    "tree_restore",
    f"{_TREE} restore {{root:nfs_root}} {{node:digest}} {{id:id}} {{origin:id}}",
    7200,
    long=True,
    own=True,
)
TREE_REMOVE = Command(
    "tree_remove",
    f"{_TREE} remove {{root:nfs_root}} {{node:digest}} {{id:id}}",
    7200,
    long=True,
    own=True,
)
TREE_SWEEP = Command(
    "tree_sweep", f"{_TREE} sweep {{root:nfs_root}} {{node:digest}}", 600, long=True, own=True
)

ALL = (
    MOUNT,
    LEAVE,
    BIND,
    UNBIND,
    TREE_LIST,
    TREE_CREATE,
    TREE_SETTLE,
    TREE_USAGE,
    TREE_COPY,
    TREE_RESTORE,
    TREE_REMOVE,
    TREE_SWEEP,
)
