# SPDX-License-Identifier: Apache-2.0
"""Small JSON records, one file each, that are there whole or not at all whatever is killed."""

import contextlib
import ctypes
import functools
import json
import logging
import os
from typing import Any, TextIO

from container_stack import exceptions
from container_stack.host import sparse

LOG = logging.getLogger(__name__)

Record = dict[str, Any]

_SUFFIX = ".json"
# Of rename(2).
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


class Records:
    """Records in one directory, by name. For each name one writer at a time.

    :param directory: made when first needed, for its owner alone.
    :param durable: they outlive a loss of power, too, for which each change waits for the disk.
    """

    def __init__(self, directory: str, *, durable: bool = True) -> None:
        self.directory = directory
        self._durable = durable

    def path(self, name: str, suffix: str = _SUFFIX) -> str:
        """Return the path of a record, or of a file beside it."""
        return os.path.join(self.directory, name + suffix)

    def read(self, name: str) -> Record | None:
        """Return a record, or None.

        :raises InvalidRequest: somebody has edited it into something else.
        """
        try:
            with open(self.path(name), encoding="utf-8") as file:
                record = json.load(file)
        except FileNotFoundError:
            return None
        except ValueError as exc:
            raise exceptions.InvalidRequest(f"{self.path(name)} is no JSON: {exc}.") from exc
        if not isinstance(record, dict):
            raise exceptions.InvalidRequest(f"{self.path(name)} is no JSON object.")
        return record

    def all(self) -> dict[str, Record]:
        """Return all records by name, sorted, without those that can't be read."""
        found = {}
        for name in self.names():
            try:
                record = self.read(name)
            except exceptions.InvalidRequest as exc:
                LOG.warning("Left out a record: %(why)s", {"why": exc})
                continue
            if record is not None:
                found[name] = record
        return found

    def names(self) -> list[str]:
        """Return the names of all records, sorted."""
        try:
            names = os.listdir(self.directory)
        except FileNotFoundError:
            return []
        return sorted(name.removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX))

    def write(self, name: str, record: Record) -> None:
        """Write a record in one step."""
        new = self.path(name, _SUFFIX + ".new")
        # On one line, as it is encoded twenty times as fast.
        text = json.dumps(record, sort_keys=True)
        with self._made(new) as file:
            file.write(text)
            file.flush()
            if self._durable:
                os.fsync(file.fileno())
        if self._durable or not _exchange(new, self.path(name)):
            os.rename(new, self.path(name))
        else:
            os.unlink(new)
        self._sync()

    def remove(self, name: str) -> None:
        """Remove a record; idempotent."""
        sparse.remove(self.path(name, _SUFFIX + ".new"))
        sparse.remove(self.path(name))
        with contextlib.suppress(FileNotFoundError):
            self._sync()

    def strays(self) -> list[str]:
        """Return the names of records that were being written for the first time."""
        with contextlib.suppress(FileNotFoundError):
            ends = _SUFFIX + ".new"
            names = [n.removesuffix(ends) for n in os.listdir(self.directory) if n.endswith(ends)]
            return [name for name in names if not os.path.exists(self.path(name))]
        return []

    def _made(self, path: str) -> TextIO:
        try:
            return open(path, "w", encoding="utf-8", opener=_private)
        except FileNotFoundError:
            os.makedirs(self.directory, mode=0o700, exist_ok=True)
            return open(path, "w", encoding="utf-8", opener=_private)

    def _sync(self) -> None:
        if not self._durable:
            return
        fd = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _exchange(new: str, old: str) -> bool:
    """Let two files change places in one step; return False if there is one only, or it can't be.

    What takes another's place by rename(2), ext4 sends to the disk at once (ext4(5), auto_da_alloc)
    and whoever removes it then waits for the disk. Two that change places it leaves alone.
    """
    paths = os.fsencode(new), os.fsencode(old)
    return not _libc().renameat2(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], _RENAME_EXCHANGE)


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)
