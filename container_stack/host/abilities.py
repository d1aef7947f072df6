# SPDX-License-Identifier: Apache-2.0
"""What this host can do, found out by looking: nothing here changes anything.

Every probe answers with a :class:`Finding`. Whether a lack matters depends on what the host is
for, so the caller says what is needed; what isn't needed is at most a warning.
"""

import contextlib
import dataclasses
import enum
import functools
import os
import pwd
import shutil
import stat
from collections.abc import Iterable, Mapping

from container_stack.host import mounts, resize, sparse

GIB = 1024**3


class Level(enum.StrEnum):
    """How good a finding is."""

    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """What a probe saw.

    :param subject: what was looked at.
    :param detail: what was seen, or what can't be done without it.
    :param fix: a command, as an administrator would type it, that cures it; may be empty.
    """

    subject: str
    level: Level
    detail: str
    fix: str = ""


def judge(subject: str, good: bool, detail: str, *, fix: str = "", needed: bool = True) -> Finding:
    """Return a finding: a lack is a failure where the thing is needed, else a warning."""
    lack = Level.FAILURE if needed else Level.WARNING
    return Finding(subject, Level.OK if good else lack, detail, "" if good else fix)


@functools.cache
def boot_id() -> str:
    """Return what changes with every boot of this host, and with nothing else."""
    return _read("/proc/sys/kernel/random/boot_id").strip()


# Kernel ------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class Feature:
    """Something that a kernel has built in, can load, or lacks.

    :param registered: its name in /proc/filesystems, /proc/devices or /proc/misc.
    :param symbol: a function of it in /proc/kallsyms, where it registers nothing.
    :param purpose: what can't be done without it.
    """

    name: str
    module: str
    purpose: str
    registered: str = ""
    symbol: str = ""


FEATURES: Mapping[str, Feature] = {
    feature.name: feature
    for feature in (
        Feature("overlay", "overlay", "the engine's usual storage driver", "overlay"),
        Feature("loop devices", "loop", "loop storage", "loop"),
        Feature("device-mapper", "dm_mod", "lvm storage", "device-mapper"),
        Feature("xfs", "xfs", "xfs volumes", "xfs"),
        Feature("ext4", "ext4", "ext4 volumes", "ext4"),
        Feature("btrfs", "btrfs", "btrfs volumes", "btrfs"),
        Feature("bridge", "bridge", "networks for share servers", symbol="br_dev_setup"),
        Feature("veth", "veth", "networks for share servers", symbol="veth_setup"),
        Feature("openvswitch", "openvswitch", "Open vSwitch bridges", symbol="ovs_vport_add"),
    )
}


def kernel(feature: Feature, *, needed: bool = True) -> Finding:
    """Tell whether the kernel has a feature, or a module that it can load for it."""
    subject = f"kernel: {feature.name}"
    if _present(feature):
        return judge(subject, True, "present")
    if _in_modules(feature.module, "modules.dep"):
        return judge(subject, True, "a module that is loaded when needed")
    return judge(
        subject,
        False,
        f"missing; no {feature.purpose} without it",
        fix=f"modprobe {feature.module}",
        needed=needed,
    )


def _present(feature: Feature) -> bool:
    return (
        feature.registered in _registered()
        or os.path.isdir(f"/sys/module/{feature.module}")
        or _in_modules(feature.module, "modules.builtin")
        or (bool(feature.symbol) and f" {feature.symbol}\n" in _read("/proc/kallsyms"))
    )


def _registered() -> set[str]:
    texts = (_read(f"/proc/{name}") for name in ("filesystems", "devices", "misc"))
    return {line.split()[-1] for text in texts for line in text.splitlines() if line.split()}


def _in_modules(module: str, index: str) -> bool:
    listed = _read(f"/lib/modules/{os.uname().release}/{index}")
    names = {module, module.replace("_", "-")}
    return any(f"/{name}.ko" in listed for name in names)


def ext4_online_grow(*, needed: bool = True) -> Finding:
    """Tell whether root on this host may grow a mounted ext4 (containers often can't)."""
    able = "ext4" in resize.grow_online()
    return judge(
        "ext4 grows while in use",
        able,
        "yes" if able else "no: root lacks CAP_SYS_RESOURCE here; use xfs or btrfs",
        needed=needed,
    )


# Programs ----------------------------------------------------------------------------------

#: Program to Debian package, for everything in the catalogue of privileged commands.
PACKAGES: Mapping[str, str] = {
    "blkid": "util-linux",
    "btrfs": "btrfs-progs",
    "btrfstune": "btrfs-progs",
    "bwrap": "bubblewrap",
    "cp": "coreutils",
    "e2fsck": "e2fsprogs",
    "fsfreeze": "util-linux",
    "ip": "iproute2",
    "ip6tables": "iptables",
    "losetup": "mount",
    "mkfs.btrfs": "btrfs-progs",
    "mkfs.ext4": "e2fsprogs",
    "mkfs.xfs": "xfsprogs",
    "mount": "mount",
    "mount.nfs": "nfs-common",
    "nsenter": "util-linux",
    "ovs-vsctl": "openvswitch-switch",
    "resize2fs": "e2fsprogs",
    "sysctl": "procps",
    "umount": "mount",
    "wipefs": "util-linux",
    "xfs_growfs": "xfsprogs",
}


def package(program: str) -> str:
    """Return the Debian package of a program of the catalogue."""
    if program.startswith(("lv", "vg", "pv")):
        return "lvm2"
    return PACKAGES.get(program, program)


def programs(names: Iterable[str], directories: str, needed: Iterable[str]) -> list[Finding]:
    """Tell for each package whether its programs are where the root helper looks for them.

    :param directories: rootwrap's ``exec_dirs``, separated by commas.
    :param needed: packages that this host can't do without.
    """
    path = directories.replace(",", os.pathsep)
    wanted: dict[str, list[str]] = {}
    for name in sorted(set(names)):
        wanted.setdefault(package(name), []).append(name)
    findings = []
    for owner, members in sorted(wanted.items()):
        missing = [name for name in members if not shutil.which(name, path=path)]
        findings.append(
            judge(
                f"programs of {owner}",
                not missing,
                f"missing: {', '.join(missing)}" if missing else ", ".join(members),
                fix=f"apt-get install {owner}",
                needed=owner in needed,
            )
        )
    return findings


# Directories -------------------------------------------------------------------------------


def directory(path: str) -> Finding:
    """Tell whether this process owns the state directory, and nobody else may write there."""
    me = user()
    subject = f"state directory {path}"
    fix = f"install -d -o {me} -m 0750 {path}"
    try:
        found = os.stat(path)
    except OSError as exc:
        return judge(subject, False, exc.strerror or str(exc), fix=fix)
    if not stat.S_ISDIR(found.st_mode):
        return judge(subject, False, "is no directory", fix=f"rm {path} && {fix}")
    mode = f"{stat.S_IMODE(found.st_mode):04o}"
    if found.st_uid != os.geteuid():
        return judge(subject, False, f"belongs to user {found.st_uid}, not to {me}", fix=fix)
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return judge(
            subject, False, f"others may write there: mode {mode}", fix=f"chmod go-w {path}"
        )
    return judge(subject, True, f"owned by {me}, mode {mode}")


def user() -> str:
    """Return the name of the user that this process runs as, or the number if it has none."""
    with contextlib.suppress(KeyError):
        return pwd.getpwuid(os.geteuid()).pw_name
    return str(os.geteuid())


def space(path: str) -> Finding:
    """Tell how much room the file system below a directory has."""
    room = shutil.disk_usage(existing(path))
    return judge(
        f"space below {path}",
        room.free >= GIB,
        f"{room.free / GIB:.1f} GiB of {room.total / GIB:.1f} GiB are free",
        needed=False,
    )


def reflink(path: str) -> Finding:
    """Tell whether files below a directory can share blocks, found by trying."""
    subject = f"reflinks below {path}"
    place = existing(path)
    if not os.access(place, os.W_OK):
        return judge(subject, False, "unknown: this user may not write there", needed=False)
    with contextlib.suppress(OSError):
        if sparse.can_share(place):
            return judge(subject, True, "present")
    return judge(subject, False, "missing; snapshots of loop volumes are full copies", needed=False)


def propagation(path: str) -> Finding:
    """Tell whether mounts below a directory reach containers that run already."""
    made = "not shared yet; the driver makes it so with the root helper when it starts"
    detail = "shared" if mounts.holding(path).shared else made
    return judge(f"mount propagation of {path}", True, detail)


def existing(path: str) -> str:
    """Return the directory itself, or its nearest ancestor that exists."""
    while not os.path.isdir(path) and path != "/":
        path = os.path.dirname(path)
    return path


def _read(path: str) -> str:
    with contextlib.suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
        return file.read()
    return ""
