# SPDX-License-Identifier: Apache-2.0
"""Mount points below a state directory: made, mounted on, and removed again."""

import contextlib
import os
import time
from collections.abc import Callable

from container_stack import exceptions
from container_stack.host import locks, mounts
from container_stack.rootwrap import commands, executor, mountinfo

#: Seconds for which a busy mount is tried again: a client's last file may be just closing.
_PATIENCE = 2.0

Same = Callable[[mountinfo.Mount], bool]


class MountPoints:
    """Directories below ``<state_dir>/mounts``, and others that a caller names as trees.

    :param unmounting: the command that takes them away again.
    """

    def __init__(
        self,
        runner: executor.Executor,
        *more_trees: str,
        unmounting: commands.Command = commands.fs.UNMOUNT,
    ) -> None:
        self._executor = runner
        self._unmounting = unmounting
        # The mount table, which may be long, needn't be read before and after it.
        self._takes_all = unmounting == commands.fs.UNMOUNT_DIRECTORY
        self._trees = (os.path.join(runner.state_dir, "mounts"), *more_trees)
        self._locks = locks.ObjectLocks(os.path.join(runner.state_dir, "locks", "mounts"))

    def mount(self, command: commands.Command, path: str, same: Same, **values: str | int) -> None:
        """Mount by a command of the catalogue, which is given ``path`` too; idempotent.

        :param path: below one of the trees; the directory is made, for its owner alone.
        :param same: tells of a mount whether it is the one that is wanted.
        :raises Busy: something else is mounted there.
        :raises InvalidRequest: the directory holds files, which the mount would hide.
        """
        # Made before any directory, it refuses a path that isn't ours.
        command.argv(self._executor.state_dir, path=path, **values)
        with self._locks.hold(_lock_name(path)), contextlib.ExitStack() as undo:
            # Of a thousand mounts none is looked at if the path wasn't there.
            if not self._make_directory(path, undo):
                if self._is_mounted(path, same):
                    return
                if os.listdir(path):
                    raise exceptions.InvalidRequest(
                        f"{path} holds files that a mount would hide; move them away."
                    )
            undo.callback(self._unmount, path)  # a bind mount may have got half-way
            self._executor.run(command, timeout=None, stdin=None, path=path, **values)
            undo.pop_all()

    def bind(self, source: str, path: str, *, read_only: bool = False) -> None:
        """Mount a volume that is a directory, without setuid and devices; idempotent.

        :param source: ``<state_dir>/backends/<name>/volumes/<id>``.
        :raises Busy: something else is mounted there.
        """
        self.mount(
            commands.fs.MOUNT_DIRECTORY,
            path,
            lambda mount: os.path.samefile(path, source) and mount.read_only == read_only,
            access="ro" if read_only else "rw",
            source=source,
        )

    def unmount(self, path: str) -> None:
        """Unmount and remove the mount point's directory; idempotent.

        :raises Busy: somebody uses it, and goes on doing so for two seconds.
        """
        self._unmounting.argv(self._executor.state_dir, path=path)
        with self._locks.hold(_lock_name(path)):
            self._unmount(path)
            with contextlib.suppress(OSError):
                os.rmdir(path)

    def _unmount(self, path: str) -> None:
        end = time.monotonic() + _PATIENCE
        while self._takes_all or mounts.at(path):
            if self._try_unmount(path, last=time.monotonic() > end) and self._takes_all:
                return

    def _try_unmount(self, path: str, *, last: bool) -> bool:
        """Return whether nobody was in the way."""
        try:
            self._executor.run(self._unmounting, path=path)
        except exceptions.CommandFailed as exc:
            if "busy" not in exc.stderr:
                if mounts.at(path):
                    raise
                return True
            if last:
                raise exceptions.Busy(
                    f"{path} is in use; `fuser -vm {path}` shows by whom."
                ) from exc
            time.sleep(0.1)
            return False
        return True

    def _is_mounted(self, path: str, same: Same) -> bool:
        present = mounts.at(path)
        if present and not same(present):
            raise exceptions.Busy(f"{present.source} is mounted at {path} already; unmount it.")
        return present is not None

    def _make_directory(self, path: str, undo: contextlib.ExitStack) -> bool:
        """Make a mount point, and return whether it is new."""
        tree = next(tree for tree in self._trees if path.startswith(tree + "/"))
        make_private(tree)
        _make_passage(tree, os.path.dirname(path))
        try:
            os.mkdir(path, mode=0o700)
        except FileExistsError:
            return False
        undo.callback(os.rmdir, path)
        return True


def is_of(mount: mountinfo.Mount, source: str) -> bool:
    """Tell whether this is a mount of a volume that is a directory in a file system."""
    return mount.root.endswith(f"/volumes/{os.path.basename(source)}")


def refuse_bound(source: str) -> None:
    """Refuse what needs a volume, which is a directory, that nobody has mounted.

    :raises Busy: naming where it is mounted.
    """
    if not mounts.is_named(os.path.basename(source)):
        return
    table, own = mountinfo.table(), mounts.resolve(source)
    # It may be a file system as a whole, too.
    numbers = {mount.number for mount in table if mount.path == own and mount.root == "/"}
    for mount in table:
        whole = mount.number in numbers and mount.root == "/"
        if mount.path != own and (whole or is_of(mount, source)):
            raise exceptions.Busy(f"The volume is mounted at {mount.path}; unmount it first.")


def prune(path: str) -> None:
    """Remove a directory and those below it, as far as nothing is in them or mounted on them.

    Nobody waits for the disk when a mount point is removed, so a loss of power can bring it back
    although its volume is gone for good. Whoever calls this keeps others from mounting there.
    """
    mounted = {mount.path for mount in mounts.below(path)}
    found = []
    for directory, names, _ in os.walk(mounts.resolve(path)):
        names[:] = [name for name in names if os.path.join(directory, name) not in mounted]
        found.append(directory)
    for directory in reversed(found):
        with contextlib.suppress(OSError):
            os.rmdir(directory)


def make_private(path: str) -> None:
    """Make a directory for its owner alone; idempotent."""
    os.makedirs(path, mode=0o700, exist_ok=True)


def _make_passage(tree: str, path: str) -> None:
    """Make the directories between a tree and a mount point.

    A container's users pass through them; the tree itself keeps out the host's.
    """
    if path == tree or os.path.isdir(path):
        return
    _make_passage(tree, os.path.dirname(path))
    with contextlib.suppress(FileExistsError):
        os.mkdir(path)
        os.chmod(path, 0o711)  # noqa: S103 - whatever the umask; see above


def _lock_name(path: str) -> str:
    return path.strip("/").replace("/", ".")[-200:].lstrip("._-")
