# SPDX-License-Identifier: Apache-2.0
"""A device in a container that runs already: its node in /dev, and the right to use it.

The right is the cgroup's: in version 1 a list to which a line is added, in version 2 programs (see
:mod:`container_stack.rootwrap.disk_bpf`). Docker's API changes neither.

A container's root may have made of its /dev whatever it likes. So the node is made by a process
that has entered the container's mount namespace: no path there leads out of it.
"""

import contextlib
import ctypes
import os
import select
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from container_stack import exceptions
from container_stack.rootwrap import cgroups, disk_bpf

#: Of setns(2).
_NEWNS = 0x00020000
_libc = ctypes.CDLL(None, use_errno=True)


class Rights(Protocol):
    """What a cgroup may use."""

    def allow(self, number: int, *, read_only: bool) -> None:
        """Allow a block device, for this and nothing else; idempotent."""

    def deny(self, number: int) -> None:
        """Deny a block device that was allowed here; idempotent."""


class DeviceList:
    """What a version 1 cgroup may use.

    :param cgroup: its directory.
    """

    def __init__(self, cgroup: Path) -> None:
        self._cgroup = cgroup

    def allow(self, number: int, *, read_only: bool) -> None:
        if read_only:
            self._write("deny", number, "w")
        self._write("allow", number, "r" if read_only else "rw")

    def deny(self, number: int) -> None:
        self._write("deny", number, "rw")

    def _write(self, verb: str, number: int, access: str) -> None:
        rule = f"b {os.major(number)}:{os.minor(number)} {access}"
        (self._cgroup / f"devices.{verb}").write_text(rule, encoding="ascii")


class Inside:
    """A container that runs.

    :param pid: of one of its processes.
    :param cgroup: its directory.
    :param namespace: descriptor of its mount namespace.
    """

    def __init__(self, pid: int, cgroup: Path, rights: Rights, namespace: int) -> None:
        self.pid = pid
        self._cgroup = cgroup
        self._rights = rights
        self._namespace = namespace

    def show(self, target: str, number: int, *, read_only: bool) -> None:
        """Allow a device and make its node; idempotent.

        :raises AlreadyExists: something else has the name.
        :raises NotSupported: the container has a user namespace of its own.
        """
        mapped = Path(f"/proc/{self.pid}/uid_map").read_text(encoding="ascii").split()
        if mapped[:2] != ["0", "0"]:
            raise exceptions.NotSupported(
                "In a user namespace no device can be opened: let volumes be mounted instead."
            )
        with contextlib.ExitStack() as undo:
            undo.callback(self._rights.deny, number)
            self._rights.allow(number, read_only=read_only)
            self.within(lambda: _make(target, number))
            undo.pop_all()

    def hide(self, target: str, number: int) -> None:
        """Remove the node and the right to the device; idempotent.

        :raises Busy: a process has it open; nothing was changed.
        """
        # First, so that nobody opens it after the look.
        self.within(lambda: _unmake(target, number))
        if pid := self._user(number):
            self.within(lambda: _make(target, number))
            raise exceptions.Busy(f"Process {pid} of the server uses {target}.")
        self._rights.deny(number)

    def forget(self, number: int) -> None:
        """Take the right to a device that isn't the container's any more; idempotent."""
        self._rights.deny(number)

    def _user(self, number: int) -> int:
        """Return a process of the container's that has a device open, or 0."""
        for procs in self._cgroup.rglob("cgroup.procs"):
            for pid in procs.read_text(encoding="ascii").split():
                if _has_open(pid, number):
                    return int(pid)
        return 0

    def within(
        self,
        action: Callable[[], str],
        error: type[exceptions.ContainerStackError] = exceptions.AlreadyExists,
    ) -> None:
        """Do something in the container's mount namespace; what it returns is why it couldn't.

        Nothing can be imported there.
        """
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            _child(self._namespace, action, writer)
        os.close(writer)
        with os.fdopen(reader, "rb") as file:
            said = file.read().decode()
        if os.waitpid(child, 0)[1] or said:
            raise error(said or "The container can't be entered.")


@contextlib.contextmanager
def entered(container: str, pid: int) -> Iterator[Inside]:
    """Yield a container by its id and one of its processes, which is looked at closely.

    :raises Busy: the process isn't the container's, or not any more.
    :raises NotSupported: the host has no cgroups that could be changed.
    """
    with contextlib.ExitStack() as opened:
        try:
            pidfd = os.pidfd_open(pid)
            opened.callback(os.close, pidfd)
            namespace = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
            opened.callback(os.close, namespace)
            cgroup, listed = cgroups.of_container(pid, container, "devices")
            gone = bool(select.select([pidfd], [], [], 0)[0])
        except (FileNotFoundError, ProcessLookupError) as exc:
            raise exceptions.Busy("The container has ended.") from exc
        if gone:
            raise exceptions.Busy("The container has ended.")
        rights = DeviceList(cgroup) if listed else disk_bpf.Devices(cgroup)
        yield Inside(pid, cgroup, rights, namespace)


def _has_open(pid: str, number: int) -> bool:
    with contextlib.suppress(OSError):
        for name in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                found = os.stat(f"/proc/{pid}/fd/{name}")
                if stat.S_ISBLK(found.st_mode) and found.st_rdev == number:
                    return True
    return False


def _child(namespace: int, action: Callable[[], str], writer: int) -> None:
    code = 1
    try:
        if _libc.setns(namespace, _NEWNS):
            raise OSError(ctypes.get_errno(), "setns")
        os.umask(0)
        os.write(writer, action().encode())
        code = 0
    finally:
        os._exit(code)


def _make(target: str, number: int) -> str:
    mode = stat.S_IFBLK | 0o660
    try:
        os.mknod(target, mode, number)
    except FileExistsError:
        found = os.lstat(target)
        if not stat.S_ISBLK(found.st_mode):
            return f"The server has a file at {target}."
        if found.st_rdev != number:
            # A device that was there before the volume was swapped for another.
            os.unlink(target)
            os.mknod(target, mode, number)
    except OSError as exc:
        return f"{target} can't be made in the server: {exc.strerror}."
    return ""


def _unmake(target: str, number: int) -> str:
    with contextlib.suppress(OSError):
        found = os.lstat(target)
        if stat.S_ISBLK(found.st_mode) and found.st_rdev == number:
            os.unlink(target)
    return ""
