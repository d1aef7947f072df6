# SPDX-License-Identifier: Apache-2.0
"""Volumes and shares of other services, in servers: as devices, and as file systems.

A volume is a device of the container, as ``/dev/vdb``, unless its target is a directory: then its
file system is mounted on the host, below a directory that every server has at
:data:`DIRECTORY`. Shares are always file systems. What is attached after the start of a
container, or between two, has to be shown to it anew after each start: see :meth:`Disks.present`.
"""

import dataclasses
import logging
import os
from collections.abc import Collection, Sequence

from container_stack import exceptions
from container_stack.host import containers, mount_points
from container_stack.rootwrap import executor
from container_stack.servers import model

LOG = logging.getLogger(__name__)

#: Where file systems appear in every server, each in a directory of its own.
DIRECTORY = "/volumes"


@dataclasses.dataclass(frozen=True, slots=True)
class Connected:
    """What a container's spec needs for a server's disks.

    :param devices: path on the host, path in the container, "rw" or "r".
    """

    mounts: tuple[containers.Mount, ...] = ()
    devices: tuple[tuple[str, str, str], ...] = ()


class Disks:
    """The disks of servers; one server's are changed by one caller at a time, under its lock.

    What a server has is written down before it is connected, so that what a crash left can be
    disconnected without asking anybody.

    :param runner: runs what needs root; its ``state_dir`` is where mount points and notes are.
    """

    def __init__(self, runner: executor.Executor) -> None:
        self._executor = runner
        self._state_dir = runner.state_dir

    def start(self) -> None:
        """Let file systems that are mounted later appear in running servers; idempotent."""

    def connect(self, server_id: str, disks: Sequence[model.Disk]) -> Connected:
        """Connect a server's disks and return what its container is to be made with.

        For every start, too: of a volume that is connected, it sees to it that it still is what
        it was. Idempotent; if one fails, those that were connected here are disconnected.

        :raises InvalidRequest: a target or connection can't be.
        :raises NotSupported: there is no way to such a volume here.
        :raises ArrayUnavailable, AccessDenied, NotFound, HostNotReady: the target isn't reached.
        """
        for disk in disks:
            raise exceptions.NotSupported(f"Volume {disk.id} can't be connected here.")
        return Connected()

    def present(self, container: containers.Container, server_id: str) -> None:
        """Show a container that has just started what it wasn't made with; idempotent."""

    def disconnect(self, server_id: str, disks: Sequence[model.Disk] | None = None) -> None:
        """Disconnect disks of a server whose container doesn't run or is gone; None: all of them.

        Idempotent. The last of those on this host that use a volume gives it back.
        """

    def attach(self, server_id: str, container: containers.Container, disk: model.Disk) -> None:
        """Connect one more, and show it to the container if that runs; idempotent.

        :raises NotSupported: this host can't add a device to a container that exists.
        """
        raise exceptions.NotSupported(f"Volume {disk.id} can't be attached here.")

    def detach(self, server_id: str, container: containers.Container, disk_id: str) -> None:
        """Take a disk from a container, which may run, and disconnect it; idempotent.

        :raises Busy: a process of the server uses it.
        """

    def recover(self, server_ids: Collection[str]) -> None:
        """Disconnect what servers have that aren't any more."""

    def _directory(self, server_id: str) -> str:
        """Return where a server's file systems are mounted."""
        path = os.path.join(self._state_dir, "mounts", "servers", model.check_id(server_id))
        mount_points.make_private(os.path.dirname(path))
        return path
