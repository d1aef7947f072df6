# SPDX-License-Identifier: Apache-2.0
"""File shares on this host: the whole life of a share, from its volume to its rules.

A share is a volume with a file system, mounted below the directory of its server, and a section
in that server's Samba. Each can be found again on the host: the volume carries the share's
server and how far its making or unmaking has come. A driver keeps nothing in memory.
"""

import contextlib
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent import futures

from container_stack import exceptions
from container_stack.host import filesystem, locks, storage
from container_stack.shares import model, protocol, protocols, servers

LOG = logging.getLogger(__name__)

#: Labels of a share's volume.
SERVER = "server"
STATE = "state"
PROTOCOL = "protocol"
CREATING, READY, DELETING = "creating", "ready", "deleting"
#: Things brought back at once; the engine is fastest with about eight.
WORKERS = 8


class ShareService:
    """Makes, changes, finds and removes shares; every method is idempotent.

    Safe under threads and several processes: whoever changes a share holds that share's lock.

    :param owner: the back end that these shares belong to; others' are never touched.
    """

    def __init__(
        self,
        share_servers: servers.ShareServers,
        volumes: storage.Storage,
        filesystems: filesystem.Filesystems,
        object_locks: locks.ObjectLocks,
        *,
        owner: str,
        mounts: str,
    ) -> None:
        self.servers = share_servers
        self._volumes = volumes
        self._filesystems = filesystems
        self._locks = object_locks
        self._owner = owner
        self._mounts = mounts

    def start(self) -> None:
        """Make the host ready for share servers; call once before anything else.

        A container sees mounts made after its start only below a mount that propagates them.
        """
        self._filesystems.share_tree(self._mounts)

    def create(
        self, share_id: str, server_id: str, size: int, protocol_name: str = protocols.DEFAULT
    ) -> model.Share:
        """Make a share that nobody may enter yet, and return it.

        :param size: bytes, rounded up to what the storage can give.
        :param protocol_name: one of :data:`protocols.PROTOCOLS`.
        :raises NotSupported: share servers don't speak this protocol.
        :raises NotFound: there is no such server.
        :raises NoSpace: the pool is full; nothing was changed.
        :raises AlreadyExists: a share with this id exists on another server.
        """
        model.check_id(share_id, "share")
        protocols.get(protocol_name)
        server = self.servers.running(server_id)
        with self._locks.hold(f"share-{share_id}"):
            volume = self._find(share_id)
            if volume and (volume.owner, volume.labels.get(SERVER)) != (self._owner, server_id):
                raise exceptions.AlreadyExists(f"{share_id} is taken, by another server's share.")
            if volume and volume.labels[STATE] == READY:
                return self._share(volume, server)
            if volume:
                self._remove(volume)
            with contextlib.ExitStack() as undo:
                labels = {SERVER: server_id, STATE: CREATING, PROTOCOL: protocol_name}
                volume = self._volumes.create(share_id, size, owner=self._owner, labels=labels)
                undo.callback(self._remove, volume)
                self._mount(volume)
                volume = self._volumes.set_labels(share_id, {STATE: READY})
                undo.pop_all()
        LOG.info("Created share %(id)s on server %(server)s", {"id": share_id, "server": server_id})
        return self._share(volume, server)

    def delete(self, share_id: str) -> None:
        """Remove a share and everything in it, cutting off who still uses it.

        :raises ShareNotFound: there is no such share.
        """
        with self._locks.hold(f"share-{share_id}"):
            self._volume(share_id)
            self._remove(self._volumes.set_labels(share_id, {STATE: DELETING}))
        LOG.info("Deleted share %(id)s", {"id": share_id})

    def extend(self, share_id: str, size: int) -> None:
        """Let a share grow to ``size`` bytes while its clients go on working.

        :raises NotFound: there is no such share.
        :raises InvalidRequest: it is larger already.
        :raises NoSpace: the pool is full; nothing was changed.
        """
        with self._locks.hold(f"share-{share_id}"):
            self._volume(share_id)
            self._volumes.grow(share_id, size)
        LOG.info("Extended share %(id)s to %(size)d bytes", {"id": share_id, "size": size})

    def set_rules(self, share_id: str, rules: Iterable[protocol.Rule]) -> Mapping[str, str]:
        """Let in exactly whom the rules name, and cut the sessions of those who lost access.

        :return: the password of every user named, which the tenant needs to log in.
        :raises NotFound: there is no such share.
        :raises InvalidRequest: a rule can't be obeyed; nothing was changed.
        """
        with self._locks.hold(f"share-{share_id}"):
            volume = self._volume(share_id)
            server = self.servers.running(volume.labels[SERVER])
            self._mount(volume)
            speaking = self.servers.speaking(server, _protocol(volume))
            obeyed = tuple(speaking.rule(each.kind, each.to, each.level) for each in rules)
            return speaking.set_share(share_id, obeyed)

    def get(self, share_id: str) -> model.Share:
        """Return a share as it is now.

        :raises NotFound: there is no such share.
        """
        volume = self._volume(share_id)
        return self._share(volume, self.servers.get(volume.labels[SERVER]))

    def list(self) -> Sequence[model.Share]:
        """Return every share of this owner whose server exists, by id."""
        known = {server.id: server for server in self.servers.list()}
        return [
            self._share(volume, known[volume.labels[SERVER]])
            for volume in self._shares()
            if volume.labels.get(STATE) == READY and volume.labels[SERVER] in known
        ]

    def ensure(self, share_id: str) -> model.Share:
        """Bring a share back as it was: volume, mount, server, address; return it.

        :raises NotFound: the share, or its server, is gone for good.
        """
        with self._locks.hold(f"share-{share_id}"):
            volume = self._volume(share_id)
            server = self.servers.running(volume.labels[SERVER])
            self._mount(volume)
            return self._share(volume, server)

    def create_server(self, spec: model.ServerSpec) -> model.Server:
        """Make a share server and return it when it answers clients."""
        return self.servers.create(spec)

    def delete_server(self, server_id: str) -> None:
        """Remove a share server, if it exists.

        :raises Busy: it still has shares; nothing was changed.
        """
        left = [v.id for v in self._shares() if v.labels.get(SERVER) == server_id]
        if left:
            raise exceptions.Busy(
                f"Share server {server_id} still has {len(left)} shares, {left[0]} among them; "
                "delete them first."
            )
        self.servers.delete(server_id)

    def capacity(self) -> storage.Capacity:
        """Return what the pool holds, in bytes."""
        return self._volumes.capacity()

    def usage(self, share_id: str) -> filesystem.Usage:
        """Return how full a share is, in bytes.

        :raises NotFound: there is no such share, or it isn't mounted.
        """
        return self._filesystems.usage(self._path(self._volume(share_id)))

    def recover(self) -> model.Health:
        """Finish what a crash or a reboot left: call at every start.

        Half-made things are removed, half-deleted ones are gone for good, everything else comes
        back with the same address, mounts and rules. What fails is reported, and the rest goes on.
        """
        self.start()
        self._locks.sweep()
        self._volumes.recover()
        failed: dict[str, str] = {}
        half_made = [each.id for each in self._shares() if each.labels.get(STATE) != READY]
        finished = [each for each in half_made if self._attempt(self._finish, each, failed)]
        finished.extend(self.servers.recover())
        shares = [each.id for each in self._shares()]
        with futures.ThreadPoolExecutor(WORKERS) as pool:
            pool.map(lambda each: self._attempt(self.ensure, each, failed), shares)
            idle = [each.id for each in self.servers.list()]
            pool.map(lambda each: self._attempt(self.servers.running, each, failed), idle)
        return model.Health(tuple(finished), failed)

    def _attempt(self, action: Callable[[str], object], name: str, failed: dict[str, str]) -> bool:
        try:
            action(name)
        except exceptions.ContainerStackError as exc:
            failed[name] = str(exc)
            LOG.warning("Could not bring back %(name)s: %(why)s", {"name": name, "why": exc})
        return name not in failed

    def _finish(self, share_id: str) -> None:
        with self._locks.hold(f"share-{share_id}"):
            volume = self._find(share_id)
            if volume and volume.labels.get(STATE) != READY:
                self._remove(volume)

    def _remove(self, volume: storage.Volume) -> None:
        with contextlib.suppress(exceptions.NotFound):
            server = self.servers.get(volume.labels[SERVER])
            if server.state in ("active", "stopped"):
                server = self.servers.running(server.id)
                self.servers.speaking(server, _protocol(volume)).remove_share(volume.id)
        self._filesystems.unmount(self._path(volume))
        self._volumes.delete(volume.id)

    def _mount(self, volume: storage.Volume) -> None:
        device = self._volumes.activate(volume.id)
        self._filesystems.mount(device, self._path(volume), volume.filesystem)

    def _path(self, volume: storage.Volume) -> str:
        return os.path.join(self.servers.directory(volume.labels[SERVER]), volume.id)

    def _shares(self) -> Sequence[storage.Volume]:
        volumes = self._volumes.list(self._owner)
        return sorted((v for v in volumes if SERVER in v.labels), key=lambda v: v.id)

    def _find(self, share_id: str) -> storage.Volume | None:
        try:
            return self._volumes.get(share_id)
        except exceptions.NotFound:
            return None

    def _volume(self, share_id: str) -> storage.Volume:
        volume = self._find(share_id)
        if volume is None or volume.owner != self._owner or SERVER not in volume.labels:
            raise model.ShareNotFound(f"There is no share {share_id} on this host.")
        return volume

    def _share(self, volume: storage.Volume, server: model.Server) -> model.Share:
        name = _protocol(volume)
        at = protocols.get(name).export_location
        locations = tuple(at(each.address, volume.id) for each in server.spec.interfaces)
        return model.Share(volume.id, server.id, volume.size, locations, name)


def _protocol(volume: storage.Volume) -> str:
    return volume.labels.get(PROTOCOL, protocols.DEFAULT)
