# SPDX-License-Identifier: Apache-2.0
"""What is mounted, read from the kernel's own table: no process, no privilege.

The format is that of proc_pid_mountinfo(5): fields between blanks, blanks in them as ``\\040``.
"""

import dataclasses
import os
import re

TABLE = "/proc/self/mountinfo"

_OCTAL = re.compile(r"\\([0-7]{3})")
#: What stands in the table as it is.
_PLAIN = re.compile(r"[A-Za-z0-9._-]*")


@dataclasses.dataclass(frozen=True, slots=True)
class Mount:
    """One line of the table.

    :param source: the device, or a word such as "tmpfs".
    :param number: device number of the file system; btrfs makes up one of its own.
    :param shared: mounts made below appear in the peers too, containers among them.
    :param root: what of the file system is there, such as a subvolume of btrfs.
    :param id: another in each mount namespace, also of what was copied from one to the other.
    :param group: of the peers, or 0.
    :param master: group from which mounts come here, and not back; or 0.
    """

    path: str
    source: str
    kind: str
    number: int
    read_only: bool
    shared: bool
    root: str = "/"
    id: int = 0
    group: int = 0
    master: int = 0

    def is_of(self, device: str) -> bool:
        """Return whether this is a mount of a block device, whatever the device is called."""
        wanted = _block_number(device)
        if os.major(self.number):
            return wanted == self.number
        return wanted is not None and wanted == _block_number(self.source)


def table(path: str = TABLE) -> list[Mount]:
    """Return all mounts that this process sees, the newest last."""
    return [parse(line) for line in _lines(path)]


def parse(line: str) -> Mount:
    """Return the mount that a line of the table describes."""
    front, _dash, back = line.rstrip("\n").partition(" - ")
    id_, _parent, number, root, path, options, *tags = front.split(" ")
    kind, source, super_options = back.split(" ")[:3]
    major, minor = number.split(":")
    groups = dict(tag.partition(":")[::2] for tag in tags)
    return Mount(
        path=_unescape(path),
        source=_unescape(source),
        kind=kind,
        number=os.makedev(int(major), int(minor)),
        read_only="ro" in (*options.split(","), *super_options.split(",")),
        shared="shared" in groups,
        id=int(id_),
        group=int(groups.get("shared", 0)),
        master=int(groups.get("master", 0)),
        root=_unescape(root),
    )


def at(path: str) -> Mount | None:
    """Return the mount on exactly this path, the uppermost if there are several."""
    real = resolve(path)
    found = [line for line in _naming(os.path.basename(real)) if _path(line) == real]
    return parse(found[-1]) if found else None


def is_named(name: str) -> bool:
    """Return False if no path, source or file system's part in the table is called so."""
    return bool(_naming(name))


def paths() -> frozenset[str]:
    """Return the paths on which something is mounted."""
    return frozenset(map(_path, _lines()))


def below(path: str) -> list[Mount]:
    """Return the mounts under a directory, without one on the directory itself."""
    prefix = resolve(path).rstrip("/") + "/"
    return [parse(line) for line in _lines() if _path(line).startswith(prefix)]


def holding(path: str, seen_by: str = TABLE) -> Mount:
    """Return the mount that a path lies in.

    :param seen_by: another process's table.
    """
    real = resolve(path)
    best = None
    for mount in table(seen_by):
        inside = real == mount.path or real.startswith(mount.path.rstrip("/") + "/")
        if inside and (best is None or len(mount.path) >= len(best.path)):
            best = mount
    assert best is not None, "everything lies below /"
    return best


def of(device: str) -> list[Mount]:
    """Return the mounts of a block device."""
    return [mount for mount in table() if mount.is_of(device)]


def resolve(path: str) -> str:
    """Return a path as the table has it: links in the directories above are followed."""
    parent, name = os.path.split(os.path.abspath(path))
    return os.path.join(os.path.realpath(parent), name)


def _lines(path: str = TABLE) -> list[str]:
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return file.readlines()


def _naming(name: str) -> list[str]:
    # Of a thousand lines one is wanted: the others needn't be understood.
    lines = _lines()
    return [line for line in lines if name in line] if _PLAIN.fullmatch(name) else lines


def _path(line: str) -> str:
    return _unescape(line.split(" ", 5)[4])


def _block_number(path: str) -> int | None:
    try:
        return os.stat(path).st_rdev or None
    except OSError:
        return None


def _unescape(text: str) -> str:
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), text)
