# SPDX-License-Identifier: Apache-2.0
"""Subvolumes of btrfs with limits, in one directory; tenants write inside them.

A subvolume is named by a UUID. Its name begins with ``new.`` until it is whole and with ``old.``
while another takes its place; what a crash leaves under such names :meth:`Subvolumes.recover`
removes or renames. Nothing here follows a path inside a subvolume.

How much a subvolume takes is read from sysfs, which knows what is committed or promised: no
process, no privilege.
"""

import contextlib
import os
import re
from typing import Any

from container_stack import exceptions
from container_stack.host import btrfs_nested, btrfs_quota, mount_points, mounts, sparse
from container_stack.rootwrap import commands, executor

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_NEW, _OLD = "new.", "old."


class Subvolumes:
    """Subvolumes below ``<directory>/volumes``; for each name one caller at a time.

    :param directory: ``<state_dir>/backends/<name>`` on btrfs, or a link to such a place.
    """

    def __init__(self, runner: executor.Executor, directory: str) -> None:
        self._executor = runner
        self._directory = directory
        self._top = os.path.join(directory, "volumes")
        self._inbox = os.path.join(directory, "inbox")
        self._points = mount_points.MountPoints(runner, unmounting=commands.fs.UNMOUNT_DIRECTORY)
        self._quota = btrfs_quota.Quota(runner, directory)
        self._nested = btrfs_nested.Nested(directory, self._top, self._quota)

    def prepare(self) -> None:
        """Make ready to keep subvolumes; idempotent.

        :raises HostNotReady: the directory isn't on btrfs, or may not be written.
        """
        real = os.path.realpath(self._directory)
        kind = mounts.holding(os.path.join(real, "volumes")).kind
        if kind != "btrfs":
            raise exceptions.HostNotReady(
                f"{self._directory} lies on {kind}, not on btrfs: mount a btrfs file system there, "
                "or name a directory on one as root_vol."
            )
        try:
            mount_points.make_private(self._top)
            mount_points.make_private(self._inbox)
        except OSError as exc:
            raise exceptions.HostNotReady(
                f"{real} must belong to the daemon's user: {exc.strerror}."
            ) from exc
        self._quota.enable()

    def recover(self) -> None:
        """Remove what is half-made, and finish or undo what was to be replaced."""
        for name in os.listdir(self._top):
            if name.startswith(_OLD) and not self.exists(name.removeprefix(_OLD)):
                os.rename(self._path(name), self._path(name.removeprefix(_OLD)))
            elif name.startswith((_NEW, _OLD)):
                self._remove(self._path(name))
        for name in os.listdir(self._inbox):
            self._empty(os.path.join(self._inbox, name))

    def names(self) -> list[str]:
        """Return the names of all whole subvolumes, sorted."""
        return sorted(name for name in os.listdir(self._top) if _UUID.fullmatch(name))

    def exists(self, name: str) -> bool:
        """Return whether there is a whole subvolume of this name."""
        return os.path.lexists(self._path(name))

    def figures(self, name: str) -> btrfs_quota.Figures:
        """Return what a subvolume takes and may take, with those that a tenant made in it.

        :raises NotFound: there is none.
        """
        self._existing(name)
        return self._nested.figures(name)

    def look(self) -> None:
        """Keep subvolumes within their limits that have others inside; see :mod:`.btrfs_nested`."""
        self._nested.look()

    def create(self, name: str, limit: int) -> None:
        """Make an empty subvolume that can take ``limit`` bytes; idempotent.

        :raises NoSpace: the file system is full, or smaller than that.
        """
        self._quota.check(limit)
        self._make(name, 0, commands.btrfs.CREATE, size=limit)

    def snapshot(self, origin: str, name: str, *, read_only: bool) -> None:
        """Make a subvolume with another's content and limit; idempotent.

        :raises NotFound: there is no other.
        :raises NoSpace: the file system is full.
        """
        command = commands.btrfs.SNAPSHOT_RO if read_only else commands.btrfs.SNAPSHOT
        limit = self.figures(origin).limit
        self._make(name, limit, command, origin=self._path(origin))

    def grow(self, name: str, limit: int) -> None:
        """Let a subvolume take more; idempotent.

        :raises InvalidRequest: it may take more already.
        :raises NoSpace: the file system is smaller than that.
        """
        before = self.figures(name).limit
        if limit < before:
            raise exceptions.InvalidRequest(f"The volume is larger already: {before} bytes.")
        if limit > before:
            self._quota.check(limit)
            self._nested.limit(name, limit)

    def replace(self, name: str, origin: str) -> None:
        """Give a subvolume content and limit of another; at every moment it is there.

        :raises Busy: it is mounted; nothing was changed.
        """
        self._existing(name)
        mount_points.refuse_bound(self._path(name))
        new, old = self._path(_NEW + name), self._path(_OLD + name)
        with contextlib.ExitStack() as undo:
            self._fill(
                name,
                self.figures(origin).limit,
                undo,
                commands.btrfs.SNAPSHOT,
                origin=self._path(origin),
            )
            os.rename(self._path(name), old)
            undo.callback(os.rename, old, self._path(name))
            os.rename(new, self._path(name))
            undo.pop_all()
        self._remove(old)

    def delete(self, name: str) -> None:
        """Remove a subvolume for good, with those that tenants made in it; idempotent.

        :raises Busy: it is mounted.
        """
        mount_points.refuse_bound(self._path(name))
        for path in (self._path(_NEW + name), self._path(name)):
            self._remove(path)

    def mount(self, name: str, path: str, *, read_only: bool) -> None:
        """Mount a subvolume without setuid and devices; idempotent.

        :raises NotFound: there is none.
        :raises Busy: something else is mounted there.
        """
        self._points.bind(self._existing(name), path, read_only=read_only)

    def unmount(self, name: str, path: str) -> None:
        """Unmount a subvolume there; idempotent.

        :raises Busy: somebody uses it.
        """
        there = mounts.at(path)
        if there is None or mount_points.is_of(there, self._path(name)):
            self._points.unmount(path)

    def send(self, name: str, stream: str, *, since: str = "") -> None:
        """Write a read-only subvolume into a new file, or what changed since another.

        :param stream: ``<state_dir>/streams/<UUID>``.
        :raises AlreadyExists: there is such a file.
        """
        values: dict[str, Any] = {"file": stream, "path": self._existing(name)}
        command = commands.btrfs.SEND
        if since:
            command, values["parent"] = commands.btrfs.SEND_SINCE, self._existing(since)
        command.argv(self._executor.state_dir, **values)
        mount_points.make_private(os.path.dirname(stream))
        with contextlib.ExitStack() as undo:
            try:
                sparse.make(stream, 0)  # ours, though root writes it
            except FileExistsError as exc:
                raise exceptions.AlreadyExists(f"There is a file {stream} already.") from exc
            undo.callback(sparse.remove, stream)
            self._executor.run(command, **values)
            undo.pop_all()

    def receive(self, name: str, stream: str, limit: int) -> None:
        """Make a read-only subvolume of what was sent; idempotent.

        What it was sent ``since`` must have been received before.

        :raises InvalidRequest: the file holds no whole stream, or not that of one subvolume.
        """
        if self.exists(name):
            return
        box = os.path.join(self._inbox, name)
        self._empty(box)
        os.mkdir(box, mode=0o700)
        try:
            self._executor.run(commands.btrfs.RECEIVE, file=stream, directory=box)
            found = os.listdir(box)
            if len(found) != 1 or not _UUID.fullmatch(found[0]):
                raise exceptions.InvalidRequest(f"{stream} doesn't hold one volume.")
            origin = os.path.join(box, found[0])
            self._make(name, limit, commands.btrfs.SNAPSHOT_RO, origin=origin)
        except exceptions.CommandFailed as exc:
            raise exceptions.InvalidRequest(f"{stream} can't be received: {exc.stderr}") from exc
        finally:
            self._empty(box)

    def _make(self, name: str, limit: int, command: commands.Command, **values: Any) -> None:
        if self.exists(name):
            return
        with contextlib.ExitStack() as undo:
            self._fill(name, limit, undo, command, **values)
            os.rename(self._path(_NEW + name), self._path(name))
            undo.pop_all()

    def _fill(
        self,
        name: str,
        limit: int,
        undo: contextlib.ExitStack,
        command: commands.Command,
        **values: Any,
    ) -> None:
        """Make a subvolume under its name for the half-made.

        :param limit: bytes that it is let take then; 0 leaves it as the command made it.
        """
        new = self._path(_NEW + name)
        self._remove(new)
        undo.callback(self._remove, new)
        try:
            self._executor.run(command, path=new, **values)
            if limit:
                self._quota.limit(new, limit)
        except exceptions.CommandFailed as exc:
            if "No space" in exc.stderr or "quota exceeded" in exc.stderr:
                raise exceptions.NoSpace(f"{self._directory} is full; delete something.") from exc
            raise

    def _remove(self, path: str) -> None:
        if not os.path.lexists(path):
            return
        number = self._quota.id_of(path)
        try:
            self._executor.run(commands.btrfs.DELETE, path=path)
        except exceptions.CommandFailed as exc:
            if "not empty" not in exc.stderr:
                if not os.path.lexists(path):  # an answer was lost
                    return
                raise
            self._quota.delete_nested(number)
            self._executor.run(commands.btrfs.DELETE, path=path)
        self._quota.forget(path, number)

    def _empty(self, box: str) -> None:
        """Remove a directory of received subvolumes, whole or not."""
        with contextlib.suppress(FileNotFoundError):
            for name in os.listdir(box):
                self._remove(os.path.join(box, name))
            os.rmdir(box)

    def _existing(self, name: str) -> str:
        if not self.exists(name):
            raise exceptions.NotFound("Volume does not exist.")
        return self._path(name)

    def _path(self, name: str) -> str:
        return os.path.join(self._top, name)
