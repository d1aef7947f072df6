# SPDX-License-Identifier: Apache-2.0
"""Where a server's disks appear: as devices, and as file systems, on the host and in containers."""

import contextlib
import dataclasses
import json
import os
import re
from collections.abc import Mapping
from typing import Any

from container_stack import exceptions
from container_stack.host import containers, filesystem, mount_points, mounts
from container_stack.rootwrap import commands, disk_wire, executor
from container_stack.servers import disk_sources, model


class Kind:
    """How a disk appears."""

    DEVICE = "device"
    #: The file system of a volume.
    VOLUME = "volume"
    SHARE = "share"


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """What an operator chooses.

    :param mount_volumes: mount the file systems of volumes, and make one on an empty volume.
    :param filesystem: which, then.
    :param multipath: reach iSCSI targets through all their portals at once.
    :param timeout: seconds that a target may take.
    """

    mount_volumes: bool = False
    filesystem: str = "ext4"
    multipath: bool = False
    timeout: float = 60.0

    def __post_init__(self) -> None:
        if self.filesystem not in ("ext4", "xfs"):
            raise exceptions.InvalidRequest(
                f"No {self.filesystem} is made on volumes; there are: ext4, xfs."
            )


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """Where a disk appears.

    :param kind: one of :class:`Kind`.
    :param name: ``/dev/vdb``, or the name of a directory.
    """

    kind: str
    name: str
    read_only: bool = False

    @classmethod
    def of(cls, disk: model.Disk, *, mount_volumes: bool) -> "Place":
        """Return the place that a disk asks for.

        :raises InvalidRequest: there can't be such a place.
        :raises NotSupported: mounted by several hosts, its file system would be destroyed.
        """
        if disk_sources.export(disk):
            kind = Kind.SHARE
        elif mount_volumes or not disk.target.startswith("/dev/"):
            kind = Kind.VOLUME
        else:
            kind = Kind.DEVICE
        name = disk.target if kind == Kind.DEVICE else os.path.basename(disk.target)
        if not re.fullmatch(commands.KINDS["node" if kind == Kind.DEVICE else "place"], name):
            raise exceptions.InvalidRequest(f"Disk {disk.id} can't appear as {disk.target!r}.")
        if kind == Kind.VOLUME and disk.connection.get("multiattach") and not disk.read_only:
            raise exceptions.NotSupported(
                f"Other hosts may have volume {disk.id}, too: it can't be mounted but for reading."
            )
        return cls(kind, name, disk.read_only)

    def asdict(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return dataclasses.asdict(self)


class Places:
    """Brings disks to their places and takes them away; nothing is remembered here.

    :param runner: runs what needs root; mount points are below its ``state_dir``.
    """

    def __init__(self, runner: executor.Executor, settings: Settings) -> None:
        self._executor = runner
        self._settings = settings
        self._tree = os.path.join(runner.state_dir, "mounts")
        self._filesystems = filesystem.Filesystems(runner, programs=True)
        self._shares = mount_points.MountPoints(runner, unmounting=commands.nfs.UNBIND)

    def connect(self, server_id: str, disk: model.Disk, place: Place) -> None:
        """Connect a disk to this host, and mount it there if it is to be mounted; idempotent."""
        path = self._path(server_id, disk.id)
        if place.kind == Kind.SHARE:
            self._mount_share(path, disk)
            return
        settings = self._settings
        source = disk_sources.source(disk, multipath=settings.multipath, timeout=settings.timeout)
        values = {"server": server_id, "disk": disk.id, "tree": self._tree}
        self._ask(commands.disks.CONNECT, values, stdin=source.encode())
        if place.kind == Kind.VOLUME:
            self._mount_volume(path, disk)

    def disconnect(self, server_id: str, disk_id: str, place: Place | None) -> None:
        """Undo :meth:`connect`; idempotent.

        :param place: None if nobody knows.
        :raises Busy: a mount or a session doesn't end.
        """
        path = self._path(server_id, disk_id)
        mount = mounts.at(path)
        if mount and mount.kind.startswith("nfs"):
            self._shares.unmount(path)
        elif mount:
            self._filesystems.unmount(path)
        for each in (path, os.path.dirname(path)):
            with contextlib.suppress(OSError):
                os.rmdir(each)
        if place is None or place.kind != Kind.SHARE:
            self._ask(commands.disks.DISCONNECT, {"server": server_id, "disk": disk_id})

    def show(
        self, server_id: str, container: containers.Container, disk_id: str, place: Place
    ) -> None:
        """Let a container have a disk that is connected, if it runs; idempotent.

        :raises AlreadyExists: the container has something else there.
        """
        inside = _inside(container)
        if not inside:
            return
        if place.kind != Kind.DEVICE:
            path = self._path(server_id, disk_id)
            self._ask(commands.disks.MOUNT, {**inside, "path": path, "name": place.name})
            return
        access = "ro" if place.read_only else "rw"
        values = {"server": server_id, "disk": disk_id, "tree": self._tree, "target": place.name}
        self._ask(commands.disks.SHOW, {**inside, **values, "access": access})

    def hide(
        self, server_id: str, container: containers.Container, disk_id: str, place: Place
    ) -> None:
        """Take a disk from a container, if it runs; idempotent.

        :raises Busy: a process of the container's uses it.
        """
        inside, path = _inside(container), self._path(server_id, disk_id)
        if not inside:
            return
        if place.kind == Kind.DEVICE:
            values = {"server": server_id, "disk": disk_id, "target": place.name}
            self._ask(commands.disks.HIDE, {**inside, **values})
        elif mounts.at(path):
            self._ask(commands.disks.UNMOUNT, {**inside, "path": path})

    def initiator(self) -> str:
        """Return this host's name among iSCSI initiators, or "" if it has none."""
        return str(self._ask(commands.disks.INITIATOR, {})["initiator"])

    def extend(self, server_id: str, disk_id: str) -> int:
        """Let this host see that a volume has grown, its file system too; return its bytes."""
        size = int(self._ask(commands.disks.EXTEND, {"server": server_id, "disk": disk_id})["size"])
        path = self._path(server_id, disk_id)
        mount, device = mounts.at(path), disk_wire.device(disk_id)
        if mount is None:
            return size
        if mount.kind == "ext4":
            self._executor.run(commands.fs.on(device, commands.fs.GROW_EXT4), device=device)
        else:
            grow = commands.fs.GROW_XFS if mount.kind == "xfs" else commands.fs.GROW_BTRFS
            self._executor.run(grow, path=path)
        return size

    def _mount_share(self, path: str, disk: model.Disk) -> None:
        export, access = disk_sources.export(disk), "ro" if disk.read_only else "rw"
        try:
            self._shares.mount(
                commands.disks.MOUNT_SHARE,
                path,
                lambda mount: mount.source == export and mount.read_only == disk.read_only,
                source=export,
                access=access,
            )
        except exceptions.CommandFailed as exc:
            raise _share_error(disk, exc) from exc

    def _mount_volume(self, path: str, disk: model.Disk) -> None:
        device = disk_wire.device(disk.id)
        if (mount := mounts.at(path)) and mount.is_of(device):
            return
        found = self._found(device)
        if not found and disk.read_only:
            raise exceptions.InvalidRequest(f"Volume {disk.id} is empty, and only to be read.")
        if found not in ("", "ext4", "xfs", "btrfs"):
            raise exceptions.InvalidRequest(
                f"Volume {disk.id} holds {found[:40]!r}, which isn't mounted."
            )
        if not found:
            found = self._settings.filesystem
            self._filesystems.make(device, found)
        self._filesystems.mount(device, path, found, read_only=disk.read_only)

    def _found(self, device: str) -> str:
        """Return what file system a device has, or "" if nothing is on it."""
        try:
            return self._executor.run(
                commands.fs.on(device, commands.fs.PROBE), device=device
            ).strip()
        except exceptions.CommandFailed as exc:
            if exc.exit_code != 2:  # blkid(8): 2 is that there is nothing
                raise
            return ""

    def _path(self, server_id: str, disk_id: str) -> str:
        return os.path.join(self._tree, "servers", server_id, disk_id)

    def _ask(
        self, command: commands.Command, values: Mapping[str, str | int], stdin: str | None = None
    ) -> Mapping[str, Any]:
        """Return the answer of ``container-stack-disk``."""
        said = self._executor.run(command, timeout=None, stdin=stdin, **values)
        answer: Mapping[str, Any] = json.loads(said)
        if "error" in answer:
            raise getattr(exceptions, answer["error"])(answer["text"])
        return answer


def _inside(container: containers.Container) -> Mapping[str, str | int]:
    """Return how a container is entered, if it runs."""
    if container.state not in ("running", "paused") or not container.pid:
        return {}
    return {"container": container.id, "pid": container.pid}


def _share_error(
    disk: model.Disk, failure: exceptions.CommandFailed
) -> exceptions.ContainerStackError:
    if "denied" in failure.stderr:
        return exceptions.AccessDenied(f"The server of share {disk.id} refuses this host.")
    if "No such file" in failure.stderr:
        return exceptions.NotFound(f"The server of share {disk.id} has no such export.")
    return exceptions.ServiceUnavailable(f"Share {disk.id} can't be mounted: {failure}.")
