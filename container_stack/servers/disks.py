# SPDX-License-Identifier: Apache-2.0
"""Volumes and shares of other services, in servers: as devices, and as file systems.

A volume is a device of its server's container, such as ``/dev/vdb``. Only the host's root can
mount one, so that an operator may choose to have volumes mounted instead, as shares always are:
on the host, and from there in the container below :data:`DIRECTORY`. (What is on a volume is its
tenant's, and file systems of the kernel aren't made to withstand hostile ones.)

A container isn't made with its disks, as Docker could never take them away from it again: they
are shown to it whenever it has started, and whenever one is attached.
"""

import contextlib
import dataclasses
import glob
import logging
import os
from collections.abc import Collection, Mapping, Sequence

from container_stack import exceptions
from container_stack.host import containers, records
from container_stack.rootwrap import disk_tree, executor
from container_stack.servers import disk_places, model
from container_stack.servers.disk_places import Settings as Settings

LOG = logging.getLogger(__name__)

#: Where file systems appear in servers, each in a directory of its own.
DIRECTORY = disk_tree.DIRECTORY
#: The name of the note of what a server has, in the server's directory.
NOTE = "disks"

_DEFAULTS = Settings()


@dataclasses.dataclass(frozen=True, slots=True)
class Connected:
    """What a container has to be made with for its disks.

    :param devices: path on the host, path in the container, "rw" or "r".
    """

    mounts: tuple[containers.Mount, ...] = ()
    devices: tuple[tuple[str, str, str], ...] = ()


class Disks:
    """The disks of servers; one server's are changed by one caller at a time, under its lock.

    What a server has is noted before it is connected, so that what a crash left can be
    disconnected without asking anybody.

    :param runner: runs what needs root; below its ``state_dir`` are mount points and notes.
    """

    def __init__(self, runner: executor.Executor, settings: Settings = _DEFAULTS) -> None:
        self._settings = settings
        self._places = disk_places.Places(runner, settings)
        self._servers = os.path.join(runner.state_dir, "servers")
        self._tree = os.path.join(runner.state_dir, "mounts", "servers")
        self._pattern = os.path.join(glob.escape(self._servers), "*", f"{NOTE}.json")

    def connect(self, server_id: str, disks: Sequence[model.Disk]) -> Connected:
        """Connect a server's disks and return what its container is to be made with.

        For every start, too: of a volume that is connected it sees to it that it still is what it
        was. Idempotent; if one fails, those that weren't there before are disconnected.

        :raises InvalidRequest: a target or connection can't be.
        :raises NotSupported: there is no way to such a volume here.
        :raises ArrayUnavailable, AccessDenied, NotFound, HostNotReady: the target isn't reached.
        """
        if booting := [disk.id for disk in disks if disk.boot]:
            raise exceptions.NotSupported(
                f"Servers boot from images, not from volume {booting[0]}: attach it besides."
            )
        if disks:
            known = self.known(server_id)
            _check_places([*_others(known, disks), *map(self._place, disks)])
            with contextlib.ExitStack() as undo:
                for disk in disks:
                    if disk.id not in known:
                        undo.callback(self._disconnect, server_id, disk.id)
                    self._connect(server_id, disk)
                undo.pop_all()
        return Connected()

    def present(self, container: containers.Container, server_id: str) -> None:
        """Show a container that runs what its server has; idempotent.

        :raises AlreadyExists: the container has something else by that name.
        """
        for disk_id, place in self.known(server_id).items():
            self._places.show(server_id, container, disk_id, place)

    def disconnect(self, server_id: str, disks: Sequence[model.Disk] | None = None) -> None:
        """Disconnect disks of a server whose container doesn't run or is gone; None: all of them.

        Idempotent. The last of this host's servers that use a volume gives it back.

        :raises Busy: a session or mount doesn't end; the others have.
        """
        chosen = self.known(server_id) if disks is None else [disk.id for disk in disks]
        with contextlib.ExitStack() as all_of_them:
            for disk_id in chosen:
                all_of_them.callback(self._disconnect, server_id, disk_id)

    def attach(self, server_id: str, container: containers.Container, disk: model.Disk) -> None:
        """Connect one more, and show it to the container if that runs; idempotent.

        If it fails, the disk isn't connected, unless it was so before.

        :raises AlreadyExists: the server has something else by that name.
        """
        known = self.known(server_id)
        with contextlib.ExitStack() as undo:
            if disk.id not in known:
                undo.callback(self._disconnect, server_id, disk.id)
            self.connect(server_id, [disk])
            self._places.show(server_id, container, disk.id, self._place(disk))
            undo.pop_all()

    def detach(self, server_id: str, container: containers.Container, disk_id: str) -> None:
        """Take a disk from a container, which may run, and disconnect it; idempotent.

        :raises Busy: a process of the server uses it; nothing was changed.
        """
        place = self.known(server_id).get(disk_id)
        if place is not None:
            self._places.hide(server_id, container, disk_id, place)
        self._disconnect(server_id, disk_id)

    def extend(self, server_id: str, disk_id: str) -> int:
        """Let this host see that a volume has grown, its file system too; return its bytes.

        :raises NotFound: the server doesn't have it.
        """
        if disk_id not in self.known(server_id):
            raise exceptions.NotFound(f"Server {server_id} has no volume {disk_id}.")
        return self._places.extend(server_id, disk_id)

    def initiator(self) -> str:
        """Return this host's name among iSCSI initiators, or "" if it has none."""
        return self._places.initiator()

    def recover(self, server_ids: Collection[str]) -> None:
        """Disconnect what servers have that aren't any more, and of which nobody has a record."""
        for server_id in self._noted():
            if server_id in server_ids or os.path.exists(self._notes(server_id).path("record")):
                continue
            try:
                self.disconnect(server_id)
            except exceptions.ContainerStackError as exc:
                LOG.warning(
                    "Disks of server %(server)s are still connected: %(why)s",
                    {"server": server_id, "why": exc},
                )

    def users(self, disk_id: str) -> Sequence[str]:
        """Return the servers for which a volume or share is mounted on this host."""
        paths = glob.glob(os.path.join(glob.escape(self._tree), "*", model.check_id(disk_id)))
        return [os.path.basename(os.path.dirname(path)) for path in sorted(paths)]

    def named(self, server_id: str, name: str) -> str | None:
        """Return the disk that a server has under a name, as vdb, or None."""
        for disk_id, place in self.known(server_id).items():
            if os.path.basename(place.name) == name:
                return disk_id
        return None

    def known(self, server_id: str) -> Mapping[str, disk_places.Place]:
        """Return where each disk of a server appears, by its id; in the order of attachment."""
        found = self._notes(server_id).read(NOTE) or {"disks": []}
        return {each.pop("id"): disk_places.Place(**each) for each in found["disks"]}

    def _place(self, disk: model.Disk) -> disk_places.Place:
        return disk_places.Place.of(disk, mount_volumes=self._settings.mount_volumes)

    def _connect(self, server_id: str, disk: model.Disk) -> None:
        known, place = self.known(server_id), self._place(disk)
        if known.get(disk.id) != place:
            self._note(server_id, {**known, disk.id: place})
        self._places.connect(server_id, disk, place)
        LOG.info("Connected disk %(disk)s", {"disk": disk.id})

    def _disconnect(self, server_id: str, disk_id: str) -> None:
        known = dict(self.known(server_id))
        place = known.pop(disk_id, None)
        self._places.disconnect(server_id, disk_id, place)
        if place:
            self._note(server_id, known)
            LOG.info("Disconnected disk %(disk)s", {"disk": disk_id})

    def _note(self, server_id: str, places: Mapping[str, disk_places.Place]) -> None:
        notes = self._notes(server_id)
        if not places:
            notes.remove(NOTE)
            return
        found = [{"id": disk_id, **place.asdict()} for disk_id, place in places.items()]
        notes.write(NOTE, {"disks": found})

    def _notes(self, server_id: str) -> records.Records:
        return records.Records(os.path.join(self._servers, model.check_id(server_id)))

    def _noted(self) -> Sequence[str]:
        """Return the servers that have disks."""
        return [os.path.basename(os.path.dirname(path)) for path in glob.glob(self._pattern)]


def _others(
    known: Mapping[str, disk_places.Place], disks: Sequence[model.Disk]
) -> list[disk_places.Place]:
    given = {disk.id for disk in disks}
    return [place for disk_id, place in known.items() if disk_id not in given]


def _check_places(places: Sequence[disk_places.Place]) -> None:
    """Refuse two disks in one place.

    :raises AlreadyExists: naming it.
    """
    names = [place.name for place in places]
    for name in names:
        if names.count(name) > 1:
            raise exceptions.AlreadyExists(f"The server has another disk at {name}.")
