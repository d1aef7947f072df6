# SPDX-License-Identifier: Apache-2.0
"""Bringing all that one volume holds to another, on this host, whatever their file systems.

While that runs both are mounted below ``<state_dir>/mounts/moving``, where no container looks. It
may take hours and may be stopped by anybody; a process that is killed leaves at most what
:meth:`Transfers.release` takes away.
"""

import contextlib
import dataclasses
import fcntl
import os
import time
from collections.abc import Iterator, Mapping

from container_stack import exceptions
from container_stack.host import filesystem, locks
from container_stack.rootwrap import commands, executor

#: Seconds in which what was told to stop must have done so.
_PATIENCE = 30.0
_ERRORS: Mapping[str, type[exceptions.ContainerStackError]] = {
    each.__name__: each
    for each in (
        exceptions.Busy,
        exceptions.HostNotReady,
        exceptions.NoSpace,
        exceptions.NotSupported,
    )
}


@dataclasses.dataclass(frozen=True, slots=True)
class End:
    """One end of a transfer.

    :param device: the volume's block device.
    :param filesystem: "xfs", "ext4" or "btrfs".
    """

    device: str
    filesystem: str


class Transfers:
    """Transfers under one executor's state directory, each known by the target volume's id."""

    def __init__(self, runner: executor.Executor, filesystems: filesystem.Filesystems) -> None:
        self._executor = runner
        self._filesystems = filesystems
        self._tree = os.path.join(runner.state_dir, "mounts", "moving")
        self._locks = locks.ObjectLocks(os.path.join(runner.state_dir, "locks", "moving"))

    @contextlib.contextmanager
    def alone(self, name: str, *, wait: bool = False) -> Iterator[None]:
        """Let nobody else transfer under this name while the body runs.

        :raises Busy: somebody does, and we weren't to wait.
        """
        with self._locks.hold(name, wait=wait):
            self._clear(name)
            yield

    def copy(self, name: str, source: End, target: End, *, since: int = 0) -> None:
        """Make the target hold what the source does. Call it in :meth:`alone`.

        :param since: 0 if others may write to the source: the copy is then nearly the same. Else
            nobody may, it becomes the same to the byte, and this is when the first copying began,
            in seconds since 1970.
        :raises NoSpace: it doesn't fit.
        :raises NotSupported: the target's file system can't keep something.
        :raises Busy: it was stopped.
        """
        path = self._path(name)
        with contextlib.ExitStack() as undo:
            undo.callback(self._clear, name)
            self._filesystems.mount(source.device, f"{path}.from", source.filesystem)
            self._filesystems.mount(target.device, path, target.filesystem)
            with open(f"{path}.lock", "wb"):
                pass
            try:
                self._executor.run(
                    commands.copies.COPY, source=f"{path}.from", target=path, since=since
                )
            except exceptions.CommandFailed as exc:
                raise _meant(exc) from exc

    def usage(self, name: str) -> filesystem.Usage:
        """Return how much has come.

        :raises NotFound: nothing is being copied.
        """
        return self._filesystems.usage(self._path(name))

    def stop(self, name: str) -> None:
        """Stop a transfer, if there is one, whoever began it, and leave nothing mounted."""
        if os.path.isdir(self._tree):
            self._tell(name)
        with self.alone(name, wait=True):
            pass

    def release(self, name: str) -> None:
        """Take away what a killed process left, unless somebody is at work; idempotent."""
        with contextlib.suppress(exceptions.Busy), self.alone(name):
            pass

    def _clear(self, name: str) -> None:
        """End what a killed process left running, and unmount; the caller has the lock."""
        path = self._path(name)
        if os.path.exists(f"{path}.lock"):
            self._tell(name)
            self._await_end(f"{path}.lock")
        for each in (path, f"{path}.from"):
            self._filesystems.unmount(each)
        for each in (f"{path}.lock", f"{path}.stop"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(each)

    def _tell(self, name: str) -> None:
        with open(f"{self._path(name)}.stop", "wb"):
            pass

    def _await_end(self, path: str) -> None:
        end = time.monotonic() + _PATIENCE
        with open(path, "rb") as file:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError as exc:
                    if time.monotonic() > end:
                        raise exceptions.Busy(f"Copying to {path} doesn't end.") from exc
                    time.sleep(0.1)
                else:
                    return

    def _path(self, name: str) -> str:
        return os.path.join(self._tree, name)


def _meant(exc: exceptions.CommandFailed) -> exceptions.ContainerStackError:
    """Return the error that ``container-stack-copy`` named."""
    name, _, text = exc.stderr.strip().partition(": ")
    return _ERRORS[name](text[:1].upper() + text[1:]) if name in _ERRORS else exc
