# SPDX-License-Identifier: Apache-2.0
"""The kernel's table of mounts, as every process has one: proc_pid_mountinfo(5).

Fields stand between blanks; blanks in them are written ``\\040``.
"""

import dataclasses
import os
import re

_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclasses.dataclass(frozen=True, slots=True)
class Mount:
    """One line of the table.

    :param id: another in each mount namespace, also of what was copied from one to the other.
    :param parent: id of the mount that it is mounted in, which may be out of sight.
    :param number: device number of the file system; btrfs makes up one of its own.
    :param root: what of the file system is there, such as a subvolume of btrfs.
    :param options: of this mount; those of the file system are ``super_options``.
    :param group: of the peers, or 0: mounts made below appear in them, too, containers among them.
    :param master: group from which mounts come here, and not back; or 0.
    :param source: the device, or a word such as "tmpfs".
    """

    id: int
    parent: int
    number: int
    root: str
    path: str
    options: frozenset[str]
    group: int
    master: int
    kind: str
    source: str
    super_options: frozenset[str]

    @property
    def shared(self) -> bool:
        """Whether mounts made below appear elsewhere, too."""
        return self.group != 0

    @property
    def read_only(self) -> bool:
        """Whether the mount or its whole file system is."""
        return "ro" in self.options or "ro" in self.super_options

    def is_of(self, device: str) -> bool:
        """Return whether this is a mount of a block device, whatever the device is called."""
        wanted = _block_number(device)
        if os.major(self.number):
            return wanted == self.number
        return wanted is not None and wanted == _block_number(self.source)


def lines(process: int | str = "self") -> list[str]:
    """Return the table that a process sees, the newest mount last.

    :raises OSError: there is no such process.
    """
    path = f"/proc/{process}/mountinfo"
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return file.readlines()


def table(process: int | str = "self") -> list[Mount]:
    """Return what :func:`lines` say."""
    return [parse(line) for line in lines(process)]


def parse(line: str) -> Mount:
    """Return the mount that a line of the table describes."""
    front, _dash, back = line.rstrip("\n").partition(" - ")
    id_, parent, number, root, path, options, *tags = front.split(" ")
    kind, source, super_options = back.split(" ")[:3]
    major, minor = number.split(":")
    groups = dict(tag.partition(":")[::2] for tag in tags)
    return Mount(
        id=int(id_),
        parent=int(parent),
        number=os.makedev(int(major), int(minor)),
        root=_plain(root),
        path=_plain(path),
        options=frozenset(options.split(",")),
        group=int(groups.get("shared", 0)),
        master=int(groups.get("master", 0)),
        kind=kind,
        source=_plain(source),
        super_options=frozenset(super_options.split(",")),
    )


def path_of(line: str) -> str:
    """Return where a line's mount is, without looking at the rest."""
    return _plain(line.split(" ", 5)[4])


def _block_number(path: str) -> int | None:
    try:
        return os.stat(path).st_rdev or None
    except OSError:
        return None


def _plain(text: str) -> str:
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), text)
