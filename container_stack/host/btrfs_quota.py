# SPDX-License-Identifier: Apache-2.0
"""What subvolumes of btrfs take and may take: each has a quota group of its own."""

import contextlib
import dataclasses
import fcntl
import os
import platform
import re
import struct
import uuid
from collections.abc import Iterator

from container_stack import exceptions
from container_stack.rootwrap import commands, executor

# BTRFS_IOC_FS_INFO of the kernel's include/uapi/linux/btrfs.h: the UUID is its third field.
_FS_INFO, _FS_INFO_SIZE = 0x8400941F, 1024
# BTRFS_IOC_INO_LOOKUP of it: who asks for a tree's first inode, 256, is told the tree's id.
_INO_LOOKUP, _INO_LOOKUP_SIZE, _FIRST_INODE = 0xD0009412, 4096, 256
#: BTRFS_QGROUP_LIMIT_MAX_RFER of the same header.
_LIMITED = 1
#: Bytes below which btrfs has no room for its own notes about a subvolume.
_LEAST = 1024**2
#: Bytes that nobody has.
_ANY = 2**60
_LINE = re.compile(r"^ID ([0-9]+) gen [0-9]+ top level ([0-9]+) path ", re.MULTILINE)


@dataclasses.dataclass(frozen=True, slots=True)
class Figures:
    """Bytes that a subvolume takes, shared ones included, and may take (0: no limit)."""

    used: int
    limit: int


class Quota:
    """The quota groups of a file system's subvolumes; safe under threads.

    :param directory: on it.
    """

    def __init__(self, runner: executor.Executor, directory: str) -> None:
        self._executor = runner
        self._directory = directory
        # By path and device number, of which each subvolume has its own.
        self._ids: dict[tuple[str, int], int] = {}
        self._sysfs = ""

    def enable(self) -> None:
        """Let the file system count; idempotent. What it holds is counted in the background."""
        self._executor.run(commands.btrfs.QUOTA, root=self._directory)
        self._sysfs = f"/sys/fs/btrfs/{_filesystem_id(self._directory)}/qgroups"

    def check(self, limit: int) -> None:
        """Refuse a limit that can't be meant.

        :raises InvalidRequest: it is too small to be of use.
        :raises NoSpace: the whole file system is smaller.
        """
        if limit < _LEAST:
            raise exceptions.InvalidRequest(f"A volume needs at least {_LEAST} bytes.")
        found = os.statvfs(self._directory)
        if limit > (total := found.f_blocks * found.f_frsize):
            raise exceptions.NoSpace(f"The whole file system has {total} bytes, not {limit}.")

    def limit(self, path: str, limit: int) -> None:
        """Let a subvolume take so many bytes."""
        self._executor.run(commands.btrfs.LIMIT, path=path, size=limit)

    def figures(self, path: str) -> Figures:
        """Return what a subvolume takes and may take."""
        return self.figures_of(self.id_of(path))

    def figures_of(self, number: int) -> Figures:
        """Return what the subvolume of an id takes and may take; nothing, if there is none."""
        group = os.path.join(self._sysfs, f"0_{number}")
        limited = _number(group, "limit_flags") & _LIMITED
        return Figures(
            used=_number(group, "referenced") + _number(group, "rsv_data"),
            limit=_number(group, "max_referenced") if limited else 0,
        )

    def limit_group(self, number: int, limit: int) -> None:
        """Let the subvolume of an id take so many bytes, if it is still there."""
        try:
            self._executor.run(commands.btrfs.LIMIT_ID, size=limit, id=number, root=self._directory)
        except exceptions.CommandFailed:
            if number in self.ids():  # else its subvolume has gone meanwhile
                raise

    def ids(self) -> frozenset[int]:
        """Return the ids of all subvolumes of the file system, and of some that are gone."""
        names = os.listdir(self._sysfs)
        return frozenset(int(name[2:]) for name in names if name.startswith("0_"))

    def place_of(self, number: int) -> str:
        """Return where a subvolume lies on its file system, or "" if there is none of the id."""
        try:
            said = self._executor.run(commands.btrfs.RESOLVE, id=number, root=self._directory)
        except exceptions.CommandFailed:
            return ""
        return said.removesuffix("\n")

    def id_of(self, path: str) -> int:
        """Return a subvolume's id within its file system."""
        key = (path, os.lstat(path).st_dev)
        known = self._ids.get(key)
        if known is None:
            try:
                known = _tree_id(path)
            except PermissionError:  # the tenant keeps even us out
                known = int(self._executor.run(commands.btrfs.ID, path=path))
            self._ids[key] = known
        return known

    def forget(self, path: str, number: int) -> None:
        """Remove the quota group of a subvolume that is deleted; kernels do so from 6.11 on."""
        for key in [key for key in list(self._ids) if key[0] == path]:
            self._ids.pop(key, None)
        if _kernel() < (6, 11):
            with contextlib.suppress(exceptions.CommandFailed):  # it goes with the next one
                self._executor.run(commands.btrfs.QGROUP_DELETE, id=number, root=self._directory)

    def delete_nested(self, number: int) -> None:
        """Delete the subvolumes inside one, which any user may make in a directory of his.

        Their names are the tenant's and may look like lines of a listing. So a listing only tells
        who may be meant, and the kernel is asked of each.
        """
        listed = self._executor.run(commands.btrfs.NESTED, root=self._directory)
        edges = [(int(child), int(parent)) for child, parent in _LINE.findall(listed)]
        outer = self.place_of(number)
        inside = [
            child
            for child in _descendants(edges, number)
            if self.place_of(child).startswith(outer + "/")
        ]
        for each in (number, *inside):
            self.limit_group(each, _ANY)  # to delete from a full one takes some room in it
        for child in reversed(inside):
            self._executor.run(commands.btrfs.DELETE_NESTED, id=child, root=self._directory)


def _descendants(edges: list[tuple[int, int]], top: int) -> Iterator[int]:
    """Yield what lies inside a subvolume, each after what it lies in."""
    seen, layer = {top}, {top}
    while layer:
        layer = {child for child, parent in edges if parent in layer} - seen
        seen |= layer
        yield from sorted(layer)


def _number(group: str, name: str) -> int:
    try:
        with open(os.path.join(group, name), encoding="utf-8") as file:
            return int(file.read())
    except FileNotFoundError:  # nothing of it is on the disk yet
        return 0


def _filesystem_id(path: str) -> uuid.UUID:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        info = bytearray(_FS_INFO_SIZE)
        fcntl.ioctl(fd, _FS_INFO, info)
    finally:
        os.close(fd)
    return uuid.UUID(bytes=bytes(info[16:32]))


def _tree_id(path: str) -> int:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        asked = bytearray(_INO_LOOKUP_SIZE)
        struct.pack_into("=QQ", asked, 0, 0, _FIRST_INODE)
        fcntl.ioctl(fd, _INO_LOOKUP, asked)
    finally:
        os.close(fd)
    return int(struct.unpack_from("=Q", asked)[0])


def _kernel() -> tuple[int, ...]:
    return tuple(int(word) for word in re.findall(r"[0-9]+", platform.release())[:2])
