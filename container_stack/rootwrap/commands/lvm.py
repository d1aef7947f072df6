# SPDX-License-Identifier: Apache-2.0
"""Logical volumes."""

from container_stack.rootwrap.commands.template import Command

# Volumes are called cs-ID and snapshots css-ID. Changes wait for the volume group's lock, so they
# count as long: a queue there must not hold up the short ones.
_NEW = "lvcreate --yes --wipesignatures y"
_TAGS = (
    "--addtag {id:tag} --addtag {state:tag} --addtag {owner:tag} --addtag {filesystem:tag}"
    " --addtag {labels:tag}"
)
_SNAPSHOT_TAGS = (
    "--addtag {id:tag} --addtag {volume:tag} --addtag {created:tag} --addtag {filesystem:tag}"
)
_REPORT = "--reportformat json --units b --nosuffix --options"

GROUP = Command("lvm_group", f"vgs {_REPORT} vg_size,vg_free,vg_extent_size {{group:group}}")
LIST = Command(
    "lvm_list",
    f"lvs {_REPORT} lv_name,lv_size,lv_tags,lv_active,lv_suspended,lv_merging,origin,pool_lv,"
    "data_percent {group:group}",
)
CREATE = Command(
    "lvm_create",
    f"{_NEW} --size {{size:size}}b --name {{name:volume_name}} {_TAGS} {{group:group}}",
    60,
    long=True,
    idempotent=False,
)
CREATE_THIN = Command(
    "lvm_create_thin",
    f"{_NEW} --virtualsize {{size:size}}b --thinpool {{pool:group}} --name {{name:volume_name}}"
    f" {_TAGS} {{group:group}}",
    60,
    long=True,
    idempotent=False,
)
SNAPSHOT = Command(
    "lvm_snapshot",
    "lvcreate --yes --snapshot --size {size:size}b --name {name:snapshot_name}"
    f" {_SNAPSHOT_TAGS} {{origin:volume}}",
    60,
    long=True,
    idempotent=False,
)
SNAPSHOT_THIN = Command(
    "lvm_snapshot_thin",
    "lvcreate --yes --snapshot --setactivationskip n --name {name:snapshot_name}"
    f" {_SNAPSHOT_TAGS} {{origin:volume}}",
    60,
    long=True,
    idempotent=False,
)
CLONE_THIN = Command(
    "lvm_clone_thin",
    "lvcreate --yes --snapshot --setactivationskip n --name {name:volume_name}"
    f" {_TAGS} {{origin:snapshot}}",
    60,
    long=True,
    idempotent=False,
)
# A thick snapshot can't be the origin of another: its content is copied, device to device.
COPY = Command("lvm_copy", "cp {origin:snapshot_device} {copy:volume_device}", 7200, long=True)
EXTEND = Command(
    "lvm_extend", "lvextend --size {size:size}b {volume:volume}", 60, long=True, idempotent=False
)
REDUCE = Command(
    "lvm_reduce",
    "lvreduce --yes --force --size {size:size}b {volume:volume}",
    60,
    long=True,
    idempotent=False,
)
MERGE = Command(
    "lvm_merge", "lvconvert --yes --merge {snapshot:snapshot}", 7200, long=True, idempotent=False
)
RESUME_MERGE = Command("lvm_resume_merge", "lvchange --poll y {volume:volume}", long=True)
RETAG = Command(
    "lvm_retag", "lvchange --yes --deltag {old:tag} --addtag {new:tag} {volume:volume}", long=True
)
ACTIVATE = Command("lvm_activate", "lvchange --activate y {volume:volume}", long=True)
DEACTIVATE = Command("lvm_deactivate", "lvchange --activate n {volume:volume}", long=True)
REMOVE = Command("lvm_remove", "lvremove --yes {lv:volume_or_snapshot}", 60, long=True)

ALL = (
    GROUP,
    LIST,
    CREATE,
    CREATE_THIN,
    SNAPSHOT,
    SNAPSHOT_THIN,
    CLONE_THIN,
    COPY,
    EXTEND,
    REDUCE,
    MERGE,
    RESUME_MERGE,
    RETAG,
    ACTIVATE,
    DEACTIVATE,
    REMOVE,
)
