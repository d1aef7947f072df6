# SPDX-License-Identifier: Apache-2.0
"""Ephemeral disks: file systems of one container, as large as its flavor says, which go with it.

Each is a volume of the host's storage, mounted here and bound into its container below
:data:`DIRECTORY`. Its tenant has files there, and never the device: so it is no hostile file system
that the kernel reads.

A server that gets another container gets other disks, too, to which its files are copied where they
are to stay; those of a container that stands aside are as they were. Which disk is whose is told by
the binds of containers alone: a disk that none has is of no use, and goes.
"""

import contextlib
import io
import logging
import os
import re
import tarfile
import uuid
from collections.abc import Iterator, Mapping, Sequence

from container_stack import exceptions
from container_stack.host import containers, filesystem, locks, loop
from container_stack.rootwrap import executor
from container_stack.servers import disks, model, spec

LOG = logging.getLogger(__name__)

#: Where they appear in containers, each in a directory of its own.
DIRECTORY = disks.DIRECTORY
FILESYSTEM = "ext4"
#: Label of a disk with its server's id.
SERVER = "server"

_SOURCE = re.compile(".+/mounts/ephemeral/([0-9a-f-]{36})")


class Ephemerals:
    """The ephemeral disks of one owner's servers; one server's are changed under its lock.

    :param runner: runs what needs root; below its ``state_dir`` are the files and mount points.
    """

    def __init__(self, engine: containers.Engine, runner: executor.Executor, owner: str) -> None:
        self._engine = engine
        self._owner = owner
        self._tree = os.path.join(runner.state_dir, "mounts", "ephemeral")
        self._storage = loop.LoopStorage(runner, filesystem.Filesystems(runner), kind=FILESYSTEM)
        # Tenants may have programs there, as on any disk of theirs.
        self._filesystems = filesystem.Filesystems(runner, programs=True)

    @contextlib.contextmanager
    def made(
        self, server_id: str, wanted: Sequence[model.Ephemeral]
    ) -> Iterator[tuple[containers.Mount, ...]]:
        """Make empty disks, lend them as mounts for a container, and keep them if that is made.

        :raises NoSpace: the host's disk hasn't so much left.
        """
        with contextlib.ExitStack() as undo:
            mounts = []
            for each in wanted:
                disk_id = str(uuid.uuid4())
                undo.callback(self._quietly_remove, disk_id)
                labels = {SERVER: server_id}
                self._storage.create(disk_id, each.size, owner=self._owner, labels=labels)
                mounts.append(containers.Mount(self._mount(disk_id), f"{DIRECTORY}/{each.name}"))
            yield tuple(mounts)
            undo.pop_all()

    def give(self, container_id: str, mounts: Sequence[containers.Mount]) -> None:
        """Let new disks belong to the root of a container that doesn't run yet.

        Of a container with users of its own, that isn't the host's root.
        """
        if not mounts:
            return
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as tar:
            for each in mounts:
                directory = tarfile.TarInfo(os.path.basename(each.target))
                directory.type, directory.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(directory)
        self._engine.put_archive(container_id, DIRECTORY, packed.getvalue())

    def mount(self, container: containers.Container) -> None:
        """Mount what a container has bound, as it isn't after the host has started; idempotent."""
        for disk_id in _of(container):
            self._mount(disk_id)

    def prune(self, server_id: str) -> Sequence[str]:
        """Remove a server's disks that none of its containers has, and return their ids."""
        mine = [each for each, server in self._servers().items() if server == server_id]
        if not mine:
            return []
        found = self._engine.list(spec.labels(self._owner, server_id))
        needed = {disk_id for container in found for disk_id in _of(container)}
        gone = [each for each in mine if each not in needed]
        for disk_id in gone:
            self._remove(disk_id)
        return gone

    def recover(self, object_locks: locks.ObjectLocks) -> Sequence[str]:
        """Remove what crashes have left, and return that in words; who is at work is left alone."""
        self._storage.recover()
        said = []
        for server_id in sorted(set(self._servers().values())):
            try:
                with object_locks.hold(f"server-{server_id}", wait=False):
                    gone = self.prune(server_id)
            except exceptions.ContainerStackError as exc:
                words = "Disks of server %(id)s stay for now: %(why)s"
                LOG.warning(words, {"id": server_id, "why": exc})
                continue
            said += [f"Removed {each}, an ephemeral disk that no server has." for each in gone]
        return said

    def _servers(self) -> Mapping[str, str]:
        """Return the ids of disks, with those of their servers."""
        found = self._storage.list(self._owner)
        return {each.id: each.labels[SERVER] for each in found if SERVER in each.labels}

    def _mount(self, disk_id: str) -> str:
        path = os.path.join(self._tree, disk_id)
        self._filesystems.mount(self._storage.activate(disk_id), path, FILESYSTEM)
        return path

    def _remove(self, disk_id: str) -> None:
        self._filesystems.unmount(os.path.join(self._tree, disk_id))
        self._storage.delete(disk_id)

    def _quietly_remove(self, disk_id: str) -> None:
        try:
            self._remove(disk_id)
        except exceptions.ContainerStackError as exc:
            # The next start does it.
            LOG.warning("Disk %(id)s isn't removed yet: %(why)s", {"id": disk_id, "why": exc})


def is_one(mount: containers.Mount) -> bool:
    """Tell whether a container's mount is an ephemeral disk."""
    return mount.kind == "bind" and bool(_SOURCE.fullmatch(mount.source))


def _of(container: containers.Container) -> Sequence[str]:
    found = (_SOURCE.fullmatch(each.source) for each in container.mounts if each.kind == "bind")
    return [each[1] for each in found if each]
