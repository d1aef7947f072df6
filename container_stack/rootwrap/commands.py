# SPDX-License-Identifier: Apache-2.0
"""Every privileged command, each as ONE template.

From a template come the argv, its validation and the line in the shipped ``.filters`` file, so
the three can't disagree. A template reads like the command line; ``{name:kind}`` stands for one
value whose shape is given by :data:`KINDS`::

    LOOP_DETACH = Command("loop_detach", "losetup --detach {device:loop}")
    LOOP_DETACH.argv(STATE_DIR, device="/dev/loop3")  # ('losetup', '--detach', '/dev/loop3')

There is no shell here, and no docker, rm, cat, dd or tee: a command that can do anything to any
file is root by another name.

oslo.rootwrap splits a filter at commas, drops every line whose regular expression is broken, and
lets ``$`` match before a final newline. So patterns hold no comma (a literal one is written
``\\x2c``), are anchored with ``\\Z``, use ASCII classes only, and group every alternative.
"""

import dataclasses
import functools
import re
import string
from collections.abc import Mapping

from container_stack import exceptions

#: Where volumes and mount points live unless an operator says otherwise, and drivers that have a
#: place of their own.
STATE_DIR = "/var/lib/container-stack"
STATE_DIRS: Mapping[str, str] = {"osd": "/var/lib/osd"}
#: Where pip puts console scripts unless it is that of a venv.
SCRIPTS = "/usr/local/bin"

_NAME = r"[a-z0-9][a-z0-9_-]*(?:\.[a-z0-9_-]+)*"
_GROUP = r"[A-Za-z0-9_][A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]+)*"
_LOOP = r"/dev/loop[0-9]+"
# Everybody may make links in /dev/shm and /dev/mqueue: no volume group is called so.
_DEV = "/dev/(?!shm/|mqueue/)"
_LV = rf"{_DEV}{_GROUP}/cs-{_NAME}"
_UUID = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
# What tenants call a volume of Open Storage: it can't begin with a dot.
_PLACE = "[A-Za-z0-9][A-Za-z0-9_.-]*"
# Below resize/ a volume is mounted for a moment that nobody uses: file systems grow mounted only.
_MOUNT = rf"<state>/(?:mounts|resize)/{_PLACE}(?:/{_PLACE})*"
_KEPT = rf"<state>/backends/{_PLACE}"
# Where an NFS server's directory is mounted, and a link to one that is this host's own.
_ROOT = f"{_KEPT}/(?:export|local)"
_HOST = r"[A-Za-z0-9][A-Za-z0-9-]*(?:\.[A-Za-z0-9-]+)*"
_WORD = "[A-Za-z0-9_-][A-Za-z0-9._-]*"
_NITRO = "nvme-Amazon_Elastic_Block_Store_vol[0-9a-f]+"
# What is left of a port's id in the name of a link.
_PORT = "[0-9a-f]{8}-[0-9a-f]{2}"
# Of the engine's storage: a layer of an image or a container. What is mounted of it is without
# setuid and devices.
_LAYER = rf"(?:/{_WORD})+/overlay2/[0-9a-f]{{64}}"
_IP4 = r"[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+"
_IP6 = r"[0-9a-f]*:[0-9a-f:]*"

#: The shape of every value that a template can take; ``<state>`` is the state directory.
KINDS: Mapping[str, str] = {
    "access": "(?:rw|ro)",
    "address4": f"{_IP4}/[0-9]+",
    "address6": f"{_IP6}/[0-9]+",
    "alone4": _IP4,
    "alone6": _IP6,
    "bridge": _GROUP,
    "btrfs": _KEPT,
    "container": "[0-9a-f]{64}",
    "destination": f"(?:{_IP4}|{_IP6})/[0-9]+",
    "device": rf"(?:{_LOOP}|{_LV})",
    "digest": "[0-9a-f]{16}",
    # Links of root's own: see container_stack.rootwrap.disk.
    "disk": f"/run/container-stack-disks/{_UUID}",
    # As udev and Xen show it. What has the letters a to e is somebody else's, such as the root.
    "ebs": rf"/dev/(?:disk/by-id/{_NITRO}|xvd(?:[f-p]|[bc][a-z]))",
    "export": f"{_KEPT}/export",
    "group": _GROUP,
    "gateway": f"(?:{_IP4}|{_IP6})",
    "id": _UUID,
    "image": rf"<state>/volumes/{_NAME}\.img",
    "inbox": rf"{_KEPT}/inbox/{_UUID}",
    "inside": "eth[0-9][0-9]?",
    "kept": f"{_KEPT}/volumes/{_UUID}",
    "layer_diff": f"{_LAYER}/diff",
    "layer_work": f"{_LAYER}/work",
    "layers": f"{_LAYER}(?:-init)?/diff(?::{_LAYER}(?:-init)?/diff)*",
    "loop": _LOOP,
    "mac": "[0-9a-f][02468ace](?::[0-9a-f]{2}){5}",
    # Linux bridges that we make: of a network, of a port; the names of two kinds are Neutron's.
    "made_bridge": f"(?:csb[0-9a-f]{{12}}|(?:brq|qbr){_PORT})",
    "mountpoint": _MOUNT,
    "nfs_data": f"{_ROOT}/{_UUID}/data",
    "nfs_options": r"(?:soft|hard)(?:\x2cvers=(?:3|4|4\.[0-2]))?",
    "nfs_root": _ROOT,
    # What a container is to call a disk; the first is where others have the root.
    "node": "/dev/(?:vd|sd|xvd|hd)(?:[b-z]|[a-z][a-z])",
    "nfs_source": rf"(?:{_HOST}|\[{_IP6}\]):/(?:{_WORD}(?:/{_WORD})*)?",
    "place": _PLACE,
    "plug": "csp[0-9a-f]{12}",
    "port": _GROUP,
    "port_bridge": f"qbr{_PORT}",
    "port_inner": f"qvb{_PORT}",
    "port_outer": f"qvo{_PORT}",
    # What Docker names the network namespace of a container; the host's own is "default".
    "sandbox": "/(?:var/)?run/docker/netns/[0-9a-f]{12}",
    "silent": f"(?:csb[0-9a-f]{{12}}|(?:brq|qbr|tap){_PORT})",
    "size": "[1-9][0-9]*",
    "snapshot": rf"{_GROUP}/css-{_NAME}",
    "snapshot_device": rf"{_DEV}{_GROUP}/css-{_NAME}",
    "snapshot_name": f"css-{_NAME}",
    "stream": rf"<state>/streams/{_UUID}",
    # Whole, half-made, about to be replaced, or just received.
    "subvolume": rf"{_KEPT}/(?:volumes/(?:(?:new|old)\.)?|inbox/{_UUID}/){_UUID}",
    "switched": f"(?:tap|qvo){_PORT}",
    "tag": r"container_stack\.[a-z]+=[A-Za-z0-9_+.=&-]*",
    # As Neutron's agents know the interface of a port.
    "tap": f"tap{_PORT}",
    "tap_chain": f"cs-tap{_PORT}-[0-9a-f]{{8}}",
    "tree": "<state>/mounts",
    "volume": f"{_GROUP}/cs-{_NAME}",
    "volume_device": _LV,
    "volume_name": f"cs-{_NAME}",
    "volume_or_snapshot": f"{_GROUP}/css?-{_NAME}",
}

_STATE_DIR = re.compile(r"(?:/[A-Za-z0-9_-][A-Za-z0-9._-]*)+")


@dataclasses.dataclass(frozen=True, slots=True)
class Command:
    """One privileged command.

    :param name: unique; names the filter, and the command in errors.
    :param template: the command line; words are separated by blanks.
    :param deadline: seconds after which it is killed, unless the caller gives another limit.
    :param long: it may take seconds, so it must not hold up the short ones.
    :param idempotent: running it again after a lost answer does no harm.
    :param own: the program is a console script of this package: its filter holds its path, as
        pip may put it where rootwrap doesn't look.
    """

    name: str
    template: str
    deadline: float = 30.0
    long: bool = False
    idempotent: bool = True
    own: bool = False

    def argv(self, state_dir: str = STATE_DIR, /, **values: str | int) -> tuple[str, ...]:
        """Return the command line for these values.

        :raises InvalidRequest: a value is missing, unknown or of the wrong shape.
        """
        wanted = {name for word in self._words() for name, _kind in _fields(word)}
        if wanted != set(values):
            odd = ", ".join(sorted(wanted ^ set(values)))
            raise exceptions.InvalidRequest(f"{self.name}: missing or unknown values: {odd}.")
        return tuple(self._fill(word, state_dir, values) for word in self._words())

    def filter(self, state_dir: str = STATE_DIR, scripts: str = SCRIPTS) -> str:
        """Return the line that admits this command, and only this one, in a filters file."""
        patterns = [rf"{_pattern(word, state_dir)}\Z" for word in self._words()]
        program = f"{scripts}/{self.program}" if self.own else self.program
        return f"{self.name}: " + ", ".join(["RegExpFilter", program, "root", *patterns])

    @property
    def program(self) -> str:
        """The program's name, looked up in the ``exec_dirs`` of rootwrap.conf."""
        return self._words()[0]

    def _words(self) -> list[str]:
        return self.template.split()

    def _fill(self, word: str, state_dir: str, values: Mapping[str, str | int]) -> str:
        for name, kind in _fields(word):
            value = str(values[name])
            if not re.fullmatch(_shape(kind, state_dir), value):
                raise exceptions.InvalidRequest(
                    f"{self.name}: {value!r} is not acceptable as {name} ({kind})."
                )
            word = word.replace(f"{{{name}:{kind}}}", value)
        return word


@functools.cache
def _fields(word: str) -> tuple[tuple[str, str], ...]:
    parsed = string.Formatter().parse(word)
    return tuple((name, kind or "") for _, name, kind, _ in parsed if name)


def _pattern(word: str, state_dir: str) -> str:
    parts = []
    for text, name, kind, _conversion in string.Formatter().parse(word):
        parts.append(re.escape(text).replace(",", r"\x2c"))
        if name:
            parts.append(_shape(kind or "", state_dir))
    return "".join(parts)


@functools.lru_cache(1024)
def _shape(kind: str, state_dir: str) -> str:
    if not _STATE_DIR.fullmatch(state_dir) or "/.." in state_dir:
        raise exceptions.InvalidRequest(
            f"{state_dir!r} can't be the state directory: give an absolute path of letters, "
            "digits, '.', '_' and '-'."
        )
    return KINDS[kind].replace("<state>", re.escape(state_dir))


# Loop devices ------------------------------------------------------------------------------

# --nooverlap returns the device that has the file already, so a repeated attach is harmless.
LOOP_ATTACH = Command("loop_attach", "losetup --find --show --nooverlap {file:image}")
LOOP_RESIZE = Command("loop_resize", "losetup --set-capacity {device:loop}")
LOOP_DETACH = Command("loop_detach", "losetup --detach {device:loop}")

LOOP = (LOOP_ATTACH, LOOP_RESIZE, LOOP_DETACH)

# File systems ------------------------------------------------------------------------------

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
FILESYSTEM = (
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
MOUNT_DIRECTORY = Command(
    "mount_directory",
    "mount -o bind,{access:access},nosuid,nodev {source:kept} {path:mountpoint}",
    idempotent=False,
)

VOLUMES = (*_KEEP, MOUNT_VOLUME_XFS, MOUNT_VOLUME_EXT4, MOUNT_VOLUME_BTRFS, MOUNT_DIRECTORY)

# What is on a device, and that it is nothing: a crash may leave half of a file system.
PROBE = Command("probe", "blkid --probe --output value --match-tag TYPE {device:device}")
WIPE = Command("wipe", "wipefs --quiet --all {device:device}")

# Only a driver that has EBS may touch it.
_EBS = {
    command.name: dataclasses.replace(
        command,
        name=f"{command.name}_ebs",
        template=command.template.replace("{device:device}", "{device:ebs}"),
    )
    for command in (
        *(MAKE_XFS, MAKE_EXT4, MOUNT_VOLUME_XFS, MOUNT_VOLUME_EXT4, CHECK_EXT4, GROW_EXT4),
        *(PROBE, WIPE),
    )
}
EBS = (PROBE, WIPE, *_EBS.values())


# Volumes of the compute service, where container-stack-disk has connected them.
_DISK = {
    command.name: dataclasses.replace(
        command,
        name=f"{command.name}_disk",
        template=command.template.replace("{device:device}", "{device:disk}"),
    )
    for command in (
        *(MAKE_XFS, MAKE_EXT4, MOUNT_VOLUME_XFS, MOUNT_VOLUME_EXT4, MOUNT_VOLUME_BTRFS),
        *(GROW_EXT4, PROBE),
    )
}


def on(device: str, command: Command) -> Command:
    """Return the command that does to this device what the given one does to any of its own."""
    for kind, there in (("ebs", _EBS), ("disk", _DISK)):
        if re.fullmatch(KINDS[kind], device):
            return there.get(command.name, command)
    return command


# Subvolumes --------------------------------------------------------------------------------

BTRFS_QUOTA = Command("btrfs_quota", "btrfs quota enable {root:btrfs}", 600, long=True)
BTRFS_CREATE = Command(
    "btrfs_create", "btrfs -q subvolume create {path:subvolume}", idempotent=False
)
BTRFS_SNAPSHOT = Command(
    "btrfs_snapshot",
    "btrfs -q subvolume snapshot {origin:subvolume} {path:subvolume}",
    idempotent=False,
)
BTRFS_SNAPSHOT_RO = Command(
    "btrfs_snapshot_ro",
    "btrfs -q subvolume snapshot -r {origin:subvolume} {path:subvolume}",
    idempotent=False,
)
BTRFS_LIMIT = Command("btrfs_limit", "btrfs qgroup limit {size:size} {path:subvolume}")
BTRFS_ID = Command("btrfs_id", "btrfs inspect-internal rootid {path:subvolume}")
BTRFS_DELETE = Command(
    "btrfs_delete", "btrfs -q subvolume delete {path:subvolume}", idempotent=False
)
# A tenant may make subvolumes in his volume; by their ids they go without following his paths.
BTRFS_NESTED = Command("btrfs_nested", "btrfs subvolume list {root:btrfs}", long=True)
BTRFS_RESOLVE = Command(
    "btrfs_resolve", "btrfs inspect-internal subvolid-resolve {id:size} {root:btrfs}"
)
BTRFS_DELETE_NESTED = Command(
    "btrfs_delete_nested", "btrfs -q subvolume delete --subvolid {id:size} {root:btrfs}"
)
BTRFS_QGROUP_DELETE = Command(
    "btrfs_qgroup_delete", "btrfs qgroup destroy 0/{id:size} {root:btrfs}"
)
BTRFS_SEND = Command(
    "btrfs_send", "btrfs -q send -f {file:stream} {path:subvolume}", 7200, long=True
)
BTRFS_SEND_SINCE = Command(
    "btrfs_send_since",
    "btrfs -q send -f {file:stream} -p {parent:subvolume} {path:subvolume}",
    7200,
    long=True,
)
BTRFS_RECEIVE = Command(
    "btrfs_receive",
    "btrfs -q receive -C -f {file:stream} {directory:inbox}",
    7200,
    long=True,
    idempotent=False,
)

BTRFS = (
    BTRFS_QUOTA,
    BTRFS_CREATE,
    BTRFS_SNAPSHOT,
    BTRFS_SNAPSHOT_RO,
    BTRFS_LIMIT,
    BTRFS_ID,
    BTRFS_DELETE,
    BTRFS_NESTED,
    BTRFS_RESOLVE,
    BTRFS_DELETE_NESTED,
    BTRFS_QGROUP_DELETE,
    BTRFS_SEND,
    BTRFS_SEND_SINCE,
    BTRFS_RECEIVE,
)

# Directories on NFS --------------------------------------------------------------------------

# A server that is silent is waited for: 5, 10 and 15 seconds; a first time, not at all. The
# unmounting asks no server, and looks at no path on it.
NFS_MOUNT = Command(
    "nfs_mount",
    "mount.nfs {source:nfs_source} {path:export}"
    " -o nosuid,nodev,timeo=50,retrans=2,retry=0,{options:nfs_options}",
    60,
    idempotent=False,
)
NFS_LEAVE = Command("nfs_leave", "umount --internal-only --no-canonicalize {path:export}")
NFS_BIND = Command(
    "nfs_bind",
    "mount -o bind,{access:access},nosuid,nodev {source:nfs_data} {path:mountpoint}",
    45,
    idempotent=False,
)
NFS_UNBIND = Command("nfs_unbind", "umount --internal-only --no-canonicalize {path:mountpoint}")

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

NFS = (
    NFS_MOUNT,
    NFS_LEAVE,
    NFS_BIND,
    NFS_UNBIND,
    TREE_LIST,
    TREE_CREATE,
    TREE_SETTLE,
    TREE_USAGE,
    TREE_COPY,
    TREE_RESTORE,
    TREE_REMOVE,
    TREE_SWEEP,
)

# Logical volumes ---------------------------------------------------------------------------

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

LVM_GROUP = Command("lvm_group", f"vgs {_REPORT} vg_size,vg_free,vg_extent_size {{group:group}}")
LVM_LIST = Command(
    "lvm_list",
    f"lvs {_REPORT} lv_name,lv_size,lv_tags,lv_active,lv_merging,origin,pool_lv,data_percent"
    " {group:group}",
)
LVM_CREATE = Command(
    "lvm_create",
    f"{_NEW} --size {{size:size}}b --name {{name:volume_name}} {_TAGS} {{group:group}}",
    60,
    long=True,
    idempotent=False,
)
LVM_CREATE_THIN = Command(
    "lvm_create_thin",
    f"{_NEW} --virtualsize {{size:size}}b --thinpool {{pool:group}} --name {{name:volume_name}}"
    f" {_TAGS} {{group:group}}",
    60,
    long=True,
    idempotent=False,
)
LVM_SNAPSHOT = Command(
    "lvm_snapshot",
    "lvcreate --yes --snapshot --size {size:size}b --name {name:snapshot_name}"
    f" {_SNAPSHOT_TAGS} {{origin:volume}}",
    60,
    long=True,
    idempotent=False,
)
LVM_SNAPSHOT_THIN = Command(
    "lvm_snapshot_thin",
    "lvcreate --yes --snapshot --setactivationskip n --name {name:snapshot_name}"
    f" {_SNAPSHOT_TAGS} {{origin:volume}}",
    60,
    long=True,
    idempotent=False,
)
LVM_CLONE_THIN = Command(
    "lvm_clone_thin",
    "lvcreate --yes --snapshot --setactivationskip n --name {name:volume_name}"
    f" {_TAGS} {{origin:snapshot}}",
    60,
    long=True,
    idempotent=False,
)
# A thick snapshot can't be the origin of another: its content is copied, device to device.
LVM_COPY = Command("lvm_copy", "cp {origin:snapshot_device} {copy:volume_device}", 7200, long=True)
LVM_EXTEND = Command(
    "lvm_extend", "lvextend --size {size:size}b {volume:volume}", 60, long=True, idempotent=False
)
LVM_REDUCE = Command(
    "lvm_reduce",
    "lvreduce --yes --force --size {size:size}b {volume:volume}",
    60,
    long=True,
    idempotent=False,
)
LVM_MERGE = Command(
    "lvm_merge", "lvconvert --yes --merge {snapshot:snapshot}", 7200, long=True, idempotent=False
)
LVM_RESUME_MERGE = Command("lvm_resume_merge", "lvchange --poll y {volume:volume}", long=True)
LVM_RETAG = Command(
    "lvm_retag", "lvchange --yes --deltag {old:tag} --addtag {new:tag} {volume:volume}", long=True
)
LVM_ACTIVATE = Command("lvm_activate", "lvchange --activate y {volume:volume}", long=True)
LVM_DEACTIVATE = Command("lvm_deactivate", "lvchange --activate n {volume:volume}", long=True)
LVM_REMOVE = Command("lvm_remove", "lvremove --yes {lv:volume_or_snapshot}", 60, long=True)

LVM = (
    LVM_GROUP,
    LVM_LIST,
    LVM_CREATE,
    LVM_CREATE_THIN,
    LVM_SNAPSHOT,
    LVM_SNAPSHOT_THIN,
    LVM_CLONE_THIN,
    LVM_COPY,
    LVM_EXTEND,
    LVM_REDUCE,
    LVM_MERGE,
    LVM_RESUME_MERGE,
    LVM_RETAG,
    LVM_ACTIVATE,
    LVM_DEACTIVATE,
    LVM_REMOVE,
)

# Networks ----------------------------------------------------------------------------------

_GUARD = "-o csn+ -m physdev ! --physdev-is-bridged -m conntrack --ctstate NEW -j DROP"

# nsenter enters the namespaces of Docker's containers only (see the kind), to run one fixed
# command each: a process id could be that of any process, the host's own namespace included.
# The inner programs are absolute: nsenter would look them up in PATH.
PLUG_ADD = Command(
    "plug_add",
    "ip link add {host:plug} mtu {mtu:size} type veth"
    " peer name {inside:inside} address {mac:mac} mtu {mtu:size} netns {sandbox:sandbox}",
    idempotent=False,
)
PLUG_DELETE = Command("plug_delete", "ip link delete dev {host:plug}", idempotent=False)
PLUG_UP = Command(
    "plug_up", "nsenter --net={sandbox:sandbox} /sbin/ip link set dev {inside:inside} up"
)
PLUG_ADDRESS4 = Command(
    "plug_address4",
    "nsenter --net={sandbox:sandbox} /sbin/ip address replace {address:address4}"
    " dev {inside:inside}",
)
# Docker turns IPv6 off in containers of networks without it. Duplicate address detection would
# hold the address back for a second; whoever gave the address answers for it.
PLUG_ENABLE6 = Command(
    "plug_enable6",
    "nsenter --net={sandbox:sandbox} /sbin/sysctl -q -w"
    " net.ipv6.conf.{inside:inside}.disable_ipv6=0 net.ipv6.conf.{inside:inside}.accept_ra=0",
)
PLUG_ADDRESS6 = Command(
    "plug_address6",
    "nsenter --net={sandbox:sandbox} /sbin/ip address replace {address:address6}"
    " dev {inside:inside} nodad",
)
PLUG_ROUTE = Command(
    "plug_route",
    "nsenter --net={sandbox:sandbox} /sbin/ip route replace default via {gateway:gateway}"
    " dev {inside:inside} onlink",
)
PLUG_BRIDGE = Command(
    "plug_bridge", "ip link set dev {host:plug} master {bridge:bridge} alias {mark:digest} up"
)
PLUG_READY = Command("plug_ready", "ip link set dev {host:plug} alias {mark:digest} up")
PLUG_OVS = Command(
    "plug_ovs",
    "ovs-vsctl --timeout=10 --may-exist add-port {bridge:bridge} {host:plug}"
    " -- set Interface {host:plug} external_ids:iface-id={port:port}"
    " external_ids:attached-mac={mac:mac} external_ids:iface-status=active",
)
UNPLUG_OVS = Command("unplug_ovs", "ovs-vsctl --timeout=10 --if-exists del-port {host:plug}")

# Engines before 27 filter no IPv6 unless told to: between the tenants' networks, and from outside,
# it would be routed freely. The bridges of our networks begin with "csn"; answers, and what stays
# within one bridge, pass. An operator who wants to admit somebody puts his rule above.
GUARD_CHECK = Command("guard_check", f"ip6tables --wait --check FORWARD {_GUARD}")
GUARD_INSERT = Command(
    "guard_insert", f"ip6tables --wait --insert FORWARD {_GUARD}", idempotent=False
)

NETWORK = (
    GUARD_CHECK,
    GUARD_INSERT,
    PLUG_ADD,
    PLUG_DELETE,
    PLUG_UP,
    PLUG_ADDRESS4,
    PLUG_ENABLE6,
    PLUG_ADDRESS6,
    PLUG_ROUTE,
    PLUG_BRIDGE,
    PLUG_READY,
    PLUG_OVS,
    UNPLUG_OVS,
)

# Interfaces of servers, whose outer ends have the names that Neutron's agents look for. What is
# done within the container is the same.
_TAPS = {
    command.name: dataclasses.replace(
        command,
        name=f"{command.name}_tap",
        template=command.template.replace("{host:plug}", "{host:tap}"),
    )
    for command in (PLUG_ADD, PLUG_DELETE, PLUG_BRIDGE, PLUG_READY)
}
PLUG_DISABLE6 = Command(
    "plug_disable6",
    "nsenter --net={sandbox:sandbox} /sbin/sysctl -q -w"
    " net.ipv6.conf.{inside:inside}.disable_ipv6=1",
)
# With several interfaces the default route of the first counts, as long as it is there.
PLUG_WAY = Command(
    "plug_way",
    "nsenter --net={sandbox:sandbox} /sbin/ip route replace {destination:destination}"
    " via {gateway:gateway} dev {inside:inside} onlink metric {metric:size}",
)
PLUG_LINK_WAY = Command(
    "plug_link_way",
    "nsenter --net={sandbox:sandbox} /sbin/ip route replace {destination:destination}"
    " dev {inside:inside} metric {metric:size}",
)
PORT_OVS = Command(
    "port_ovs",
    "ovs-vsctl --timeout=10 --may-exist add-port {bridge:bridge} {host:switched}"
    " -- set Interface {host:switched} external_ids:iface-id={port:id}"
    " external_ids:attached-mac={mac:mac} external_ids:iface-status=active"
    " external_ids:vm-uuid={server:id}",
)
UNPLUG_PORT_OVS = Command(
    "unplug_port_ovs", "ovs-vsctl --timeout=10 --if-exists del-port {host:switched}"
)
BRIDGE_ADD = Command(
    "bridge_add",
    "ip link add name {bridge:made_bridge} type bridge forward_delay 0 stp_state 0"
    " mcast_snooping 0",
    idempotent=False,
)
# An agent may filter what it has on either side of a port's bridge: this learns no addresses.
BRIDGE_ADD_PORT = Command(
    "bridge_add_port",
    "ip link add name {bridge:port_bridge} type bridge forward_delay 0 stp_state 0"
    " mcast_snooping 0 ageing_time 0",
    idempotent=False,
)
# The host is nobody's neighbour there: it answers for none of its addresses that aren't the
# link's, takes no advertised routes, and hears nobody whom it wouldn't answer that way.
SILENCE = Command(
    "silence",
    "sysctl -q -w net.ipv6.conf.{link:silent}.disable_ipv6=1"
    " net.ipv4.conf.{link:silent}.arp_ignore=1 net.ipv4.conf.{link:silent}.rp_filter=1",
)
BRIDGE_UP = Command("bridge_up", "ip link set dev {bridge:made_bridge} up")
BRIDGE_DELETE = Command(
    "bridge_delete", "ip link delete dev {bridge:made_bridge}", idempotent=False
)
HYBRID_ADD = Command(
    "hybrid_add",
    "ip link add {inner:port_inner} mtu {mtu:size} type veth peer name {outer:port_outer}"
    " mtu {mtu:size}",
    idempotent=False,
)
HYBRID_JOIN = Command(
    "hybrid_join", "ip link set dev {inner:port_inner} master {bridge:port_bridge} up"
)
HYBRID_UP = Command("hybrid_up", "ip link set dev {outer:port_outer} up")
HYBRID_DELETE = Command("hybrid_delete", "ip link delete dev {inner:port_inner}", idempotent=False)

# A switch in user space sees what the kernel has left to the hardware: half a checksum.
OVS_DATAPATH = Command(
    "ovs_datapath", "ovs-vsctl --timeout=10 get Bridge {bridge:bridge} datapath_type"
)
PLUG_CHECKSUM = Command(
    "plug_checksum", "nsenter --net={sandbox:sandbox} /sbin/ethtool -K {inside:inside} tx off"
)
# A port that nobody filters says only what it is: a chain for each admits its addresses.
_EBTABLES = "ebtables --concurrent"
FILTER_LIST = Command("filter_list", f"{_EBTABLES} -L")
FILTER_NEW = Command("filter_new", f"{_EBTABLES} -N {{chain:tap_chain}} -P DROP", idempotent=False)
FILTER_MAC = Command("filter_mac", f"{_EBTABLES} -A {{chain:tap_chain}} -s ! {{mac:mac}} -j DROP")
FILTER_ARP = Command(
    "filter_arp",
    f"{_EBTABLES} -A {{chain:tap_chain}} -p ARP --arp-mac-src {{mac:mac}}"
    " --arp-ip-src {address:alone4} -j ACCEPT",
)
FILTER_IP4 = Command(
    "filter_ip4",
    f"{_EBTABLES} -A {{chain:tap_chain}} -p IPv4 --ip-src {{address:alone4}} -j ACCEPT",
)
FILTER_IP6 = Command(
    "filter_ip6",
    f"{_EBTABLES} -A {{chain:tap_chain}} -p IPv6 --ip6-src {{address:alone6}} -j ACCEPT",
)
FILTER_INPUT = Command(
    "filter_input", f"{_EBTABLES} -I INPUT -i {{host:tap}} -j {{chain:tap_chain}}"
)
FILTER_FORWARD = Command(
    "filter_forward", f"{_EBTABLES} -I FORWARD -i {{host:tap}} -j {{chain:tap_chain}}"
)
FILTER_NO_INPUT = Command(
    "filter_no_input",
    f"{_EBTABLES} -D INPUT -i {{host:tap}} -j {{chain:tap_chain}}",
    idempotent=False,
)
FILTER_NO_FORWARD = Command(
    "filter_no_forward",
    f"{_EBTABLES} -D FORWARD -i {{host:tap}} -j {{chain:tap_chain}}",
    idempotent=False,
)
FILTER_EMPTY = Command("filter_empty", f"{_EBTABLES} -F {{chain:tap_chain}}")
FILTER_REMOVE = Command("filter_remove", f"{_EBTABLES} -X {{chain:tap_chain}}", idempotent=False)
# Docker drops what its own networks don't know, on bridges too where the kernel shows it those.
_ADMIT = "DOCKER-USER -i csb+ -o csb+ -m physdev --physdev-is-bridged -j ACCEPT"
ADMIT_LIST4 = Command("admit_list4", "iptables --wait --list-rules DOCKER-USER")
ADMIT_LIST6 = Command("admit_list6", "ip6tables --wait --list-rules DOCKER-USER")
ADMIT_INSERT4 = Command("admit_insert4", f"iptables --wait --insert {_ADMIT}", idempotent=False)
ADMIT_INSERT6 = Command("admit_insert6", f"ip6tables --wait --insert {_ADMIT}", idempotent=False)

PORTS = (
    *_TAPS.values(),
    PLUG_UP,
    PLUG_ADDRESS4,
    PLUG_ADDRESS6,
    PLUG_ENABLE6,
    PLUG_DISABLE6,
    PLUG_WAY,
    PLUG_LINK_WAY,
    PORT_OVS,
    UNPLUG_PORT_OVS,
    BRIDGE_ADD,
    BRIDGE_ADD_PORT,
    SILENCE,
    BRIDGE_UP,
    BRIDGE_DELETE,
    HYBRID_ADD,
    HYBRID_JOIN,
    HYBRID_UP,
    HYBRID_DELETE,
    OVS_DATAPATH,
    PLUG_CHECKSUM,
    FILTER_LIST,
    FILTER_NEW,
    FILTER_MAC,
    FILTER_ARP,
    FILTER_IP4,
    FILTER_IP6,
    FILTER_INPUT,
    FILTER_FORWARD,
    FILTER_NO_INPUT,
    FILTER_NO_FORWARD,
    FILTER_EMPTY,
    FILTER_REMOVE,
    ADMIT_LIST4,
    ADMIT_LIST6,
    ADMIT_INSERT4,
    ADMIT_INSERT6,
)


def outer(device: str, command: Command) -> Command:
    """Return the command that does to this outer end what the given one does to those of ours."""
    return _TAPS[command.name] if re.fullmatch(KINDS["tap"], device) else command


# Remote block devices ----------------------------------------------------------------------

# It takes no argument; what it does is its own: see container_stack.rootwrap.brick.
BRICK = Command("brick", "container-stack-brick", own=True)

ATTACH = (BRICK,)

# Losing the right to volumes ------------------------------------------------------------------

# Kills who uses what is mounted there, and unmounts it: see container_stack.rootwrap.fence.
OSD_FENCE = Command("osd_fence", "container-stack-fence {tree:tree}", own=True)

# Volumes and shares of servers ---------------------------------------------------------------

# What may hold secrets comes by standard input: see container_stack.rootwrap.disk.
_DISK_PROGRAM = "container-stack-disk"
DISK_CONNECT = Command(
    "disk_connect",
    f"{_DISK_PROGRAM} connect {{server:id}} {{disk:id}} {{tree:tree}}",
    120,
    long=True,
    own=True,
)
DISK_DISCONNECT = Command(
    "disk_disconnect",
    f"{_DISK_PROGRAM} disconnect {{server:id}} {{disk:id}}",
    120,
    long=True,
    own=True,
)
DISK_SHOW = Command(
    "disk_show",
    f"{_DISK_PROGRAM} show {{server:id}} {{disk:id}} {{tree:tree}} {{container:container}}"
    " {pid:size} {target:node} {access:access}",
    own=True,
)
DISK_HIDE = Command(
    "disk_hide",
    f"{_DISK_PROGRAM} hide {{server:id}} {{disk:id}} {{container:container}} {{pid:size}}"
    " {target:node}",
    own=True,
)
# Only root may read what the host is called among initiators.
DISK_INITIATOR = Command("disk_initiator", f"{_DISK_PROGRAM} initiator", own=True)
DISK_EXTEND = Command(
    "disk_extend", f"{_DISK_PROGRAM} extend {{server:id}} {{disk:id}}", 60, long=True, own=True
)
DISK_MOUNT = Command(
    "disk_mount",
    f"{_DISK_PROGRAM} mount {{path:mountpoint}} {{container:container}} {{pid:size}}"
    " {name:place}",
    own=True,
)
DISK_UNMOUNT = Command(
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

DISKS = (
    DISK_CONNECT,
    DISK_DISCONNECT,
    DISK_SHOW,
    DISK_HIDE,
    DISK_INITIATOR,
    DISK_EXTEND,
    DISK_MOUNT,
    DISK_UNMOUNT,
    *_DISK.values(),
    MOUNT_SHARE,
    NFS_UNBIND,
    UNMOUNT,
    GROW_XFS,
    GROW_BTRFS,
)

# The root of a server that is rescued, for the one that rescues it.
MOUNT_ROOT = Command(
    "mount_root",
    "mount -t overlay overlay -o nosuid,nodev,lowerdir={lower:layers},upperdir={upper:layer_diff},"
    "workdir={work:layer_work} {path:mountpoint}",
)

# What each driver may do, one filters file each ---------------------------------------------

DRIVERS: Mapping[str, tuple[Command, ...]] = {
    "glance": ATTACH,
    "manila": (*LOOP, *FILESYSTEM, *LVM, *NETWORK),
    "nova": (*PORTS, *DISKS, MOUNT_ROOT),
    "osd": (*LOOP, *VOLUMES, *LVM, *BTRFS, *NFS, *EBS, OSD_FENCE),
}


def filters(driver: str, state_dir: str | None = None, scripts: str = SCRIPTS) -> str:
    """Return the text of a driver's filters file.

    :param state_dir: None for the driver's own, if an operator says nothing else.
    :param scripts: the directory with this package's console scripts.
    """
    state_dir = state_dir or STATE_DIRS.get(driver, STATE_DIR)
    lines = "\n".join(command.filter(state_dir, scripts) for command in DRIVERS[driver])
    return (
        f"# What the {driver} driver of container-stack may run as root.\n"
        f"# Made by `container-stack rootwrap filters {driver} --state-dir {state_dir}`;\n"
        "# made again, not edited.\n"
        f"[Filters]\n{lines}\n"
    )
