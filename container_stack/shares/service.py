# SPDX-License-Identifier: Apache-2.0
"""File shares on this host: the whole life of a share, from its volume to its rules.

A share is a volume with a file system, mounted below the directory of its server, and a section
in that server's Samba. Each can be found again on the host: the volume carries the share's
server and how far its making or unmaking has come. A driver keeps nothing in memory.
"""

import contextlib
import logging
from collections.abc import Iterable, Mapping, Sequence

from container_stack import exceptions
from container_stack.host import filesystem, locks, storage
from container_stack.shares import (
    adoption,
    limiting,
    limits,
    model,
    moving,
    protocol,
    protocols,
    recovery,
    security,
    snapshots,
    volumes,
)

LOG = logging.getLogger(__name__)


class ShareService:
    """Makes, changes, finds and removes shares; every method is idempotent.

    Safe under threads and several processes: whoever changes a share holds that share's lock.

    :param owner: the back end that these shares belong to; others' are never touched.
    """

    def __init__(
        self,
        held: volumes.ShareVolumes,
        object_locks: locks.ObjectLocks,
        *,
        mounts: str,
        previous_versions: bool = False,
    ) -> None:
        self.servers = held.servers
        self.snapshots = snapshots.ShareSnapshots(
            held, object_locks, previous_versions=previous_versions
        )
        self.adoption = adoption.Adoption(held, object_locks)
        self.limiting = limiting.Limiting(held, object_locks)
        self._recovery = recovery.Recovery(held, object_locks, self.snapshots)
        self._held = held
        self._locks = object_locks
        self._mounts = mounts

    def start(self) -> None:
        """Make the host ready for share servers; call once before anything else.

        A container sees mounts made after its start only below a mount that propagates them.
        """
        self._held.filesystems.share_tree(self._mounts)

    def moves_to(self, target: "ShareService") -> moving.Moves:
        """Return what moves shares from here to another back end of this host."""
        return moving.Moves(self._held, target._held, self._locks, target._locks)

    def origins(self) -> frozenset[str]:
        """Return the owners from whom shares are on their way to here."""
        return moving.origins(self._held)

    def create(
        self,
        share_id: str,
        server_id: str,
        size: int,
        protocol_name: str = protocols.DEFAULT,
        *,
        snapshot_id: str | None = None,
        limited: limits.Limits | None = None,
    ) -> model.Share:
        """Make a share that nobody may enter yet, and return it.

        :param size: bytes, rounded up to what the storage can give.
        :param protocol_name: one of :data:`protocols.PROTOCOLS`.
        :param snapshot_id: what it is to hold from the beginning; None for nothing.
        :param limited: how much of it may be read and written in a second.
        :raises NotSupported: share servers don't speak this protocol, or this host can't limit.
        :raises NotFound: there is no such server, or no such snapshot.
        :raises InvalidRequest: the snapshot is larger.
        :raises NoSpace: the pool is full; nothing was changed.
        :raises AlreadyExists: a share with this id exists on another server.
        """
        model.check_id(share_id, "share")
        server = self.servers.running(server_id)
        self.servers.speaking(server, protocol_name)
        with self._locks.hold(f"share-{share_id}"):
            volume = self._held.find(share_id)
            if volume and volume.labels[volumes.SERVER] != server_id:
                raise exceptions.AlreadyExists(f"{share_id} is taken, by another server's share.")
            if volume and volume.labels[volumes.STATE] == volumes.READY:
                return self._held.share(volume, server)
            if volume:
                self._held.remove(volume)
            with contextlib.ExitStack() as undo:
                labels = {
                    volumes.SERVER: server_id,
                    volumes.STATE: volumes.CREATING,
                    volumes.PROTOCOL: protocol_name,
                    **limits.labels(limited),
                }
                volume = self._make(share_id, size, labels, snapshot_id)
                undo.callback(self._held.remove, volume)
                self._held.mount(volume)
                volume = self._held.storage.set_labels(share_id, {volumes.STATE: volumes.READY})
                undo.pop_all()
        LOG.info("Created share %(id)s on server %(server)s", {"id": share_id, "server": server_id})
        return self._held.share(volume, server)

    def delete(self, share_id: str) -> None:
        """Remove a share and everything in it, cutting off who still uses it.

        :raises ShareNotFound: there is no such share.
        :raises Busy: it has snapshots; nothing was changed.
        """
        with self._locks.hold(f"share-{share_id}"):
            volume = self._held.get(share_id)
            if left := self._held.storage.list_snapshots(volume.id):
                raise exceptions.Busy(
                    f"Share {share_id} has {len(left)} snapshots, {left[0].id} among them; "
                    "delete them first."
                )
            deleting = {volumes.STATE: volumes.DELETING}
            self._held.remove(self._held.storage.set_labels(volume.id, deleting))
        LOG.info("Deleted share %(id)s", {"id": share_id})

    def extend(self, share_id: str, size: int) -> None:
        """Let a share grow to ``size`` bytes while its clients go on working.

        :raises NotFound: there is no such share.
        :raises InvalidRequest: it is larger already.
        :raises NoSpace: the pool is full; nothing was changed.
        """
        with self._locks.hold(f"share-{share_id}"):
            volume = self._held.get(share_id)
            with self._held.unlimited(volume):
                self._held.storage.grow(volume.id, size)
        LOG.info("Extended share %(id)s to %(size)d bytes", {"id": share_id, "size": size})

    def shrink(self, share_id: str, size: int) -> None:
        """Cut a share down to ``size`` bytes.

        Its clients go on working where the file system can (btrfs); with ext4 they are cut off and
        may come back when it is done.

        :raises NotFound: there is no such share.
        :raises PossibleDataLoss: what is stored doesn't fit; nothing was lost.
        :raises InvalidRequest: it is smaller already.
        :raises NotSupported: its file system can't shrink.
        """
        with self._locks.hold(f"share-{share_id}"):
            volume, able = self._held.get(share_id), self._held.storage.capabilities
            self._held.mount(volume)
            # Before anybody is cut off in vain.
            if size < volume.size and self._held.usage(volume).used > size:
                raise exceptions.PossibleDataLoss(f"What is stored doesn't fit into {size} bytes.")
            with contextlib.ExitStack() as stack:
                stack.enter_context(self._held.unlimited(volume))
                if volume.filesystem in able.shrink - able.shrink_online and size < volume.size:
                    stack.enter_context(self._held.closed(volume))
                self._held.storage.shrink(volume.id, size)
        LOG.info("Shrank share %(id)s to %(size)d bytes", {"id": share_id, "size": size})

    def set_rules(self, share_id: str, rules: Iterable[protocol.Rule]) -> Mapping[str, str]:
        """Let in exactly whom the rules name, and cut the sessions of those who lost access.

        :return: the password of every user named, which the tenant needs to log in.
        :raises NotFound: there is no such share.
        :raises InvalidRequest: a rule can't be obeyed; nothing was changed.
        """
        with self._locks.hold(f"share-{share_id}"):
            volume = self._held.get(share_id)
            speaking = self._held.speaking(volume)
            self._held.mount(volume)
            obeyed = tuple(speaking.rule(each.kind, each.to, each.level) for each in rules)
            return speaking.set_share(volumes.name(volume), obeyed)

    def unknown(self, share_id: str, rules: Iterable[protocol.Rule]) -> frozenset[str]:
        """Return the names in rules that mean nobody in the directory of the share's server.

        Nobody is unknown to a server that makes its own users.
        """
        with self._locks.hold(f"share-{share_id}"):
            return self._held.speaking(self._held.get(share_id)).unknown(rules)

    def get(self, share_id: str) -> model.Share:
        """Return a share as it is now.

        :raises NotFound: there is no such share.
        """
        volume = self._held.get(share_id)
        return self._held.share(volume, self.servers.get(volume.labels[volumes.SERVER]))

    def list(self) -> Sequence[model.Share]:
        """Return every share of this owner whose server exists, by id."""
        known = {server.id: server for server in self.servers.list()}
        return [
            self._held.share(volume, known[volume.labels[volumes.SERVER]])
            for volume in self._held.list()
            if volume.labels.get(volumes.STATE) == volumes.READY
            and volume.labels[volumes.SERVER] in known
        ]

    def ensure(self, share_id: str) -> model.Share:
        """Bring a share back as it was: volume, mount, server, address; return it.

        :raises NotFound: the share, or its server, is gone for good.
        """
        with self._locks.hold(f"share-{share_id}"):
            return self._recovery.bring_back(self._held.get(share_id))

    def create_server(
        self, spec: model.ServerSpec, login: security.Login | None = None
    ) -> model.Server:
        """Make a share server and return it when it answers clients.

        :param login: who may have it join its directory, if it has one.
        """
        return self.servers.create(spec, login)

    def delete_server(self, server_id: str, login: security.Login | None = None) -> None:
        """Remove a share server, if it exists.

        :param login: who may take it out of its directory; without, its account stays there.
        :raises Busy: it still has shares; nothing was changed.
        """
        held = self._held.list()
        left = [each.id for each in held if each.labels[volumes.SERVER] == server_id]
        if left:
            raise exceptions.Busy(
                f"Share server {server_id} still has {len(left)} shares, {left[0]} among them; "
                "delete them first."
            )
        self.servers.delete(server_id, login)

    def capacity(self) -> storage.Capacity:
        """Return what the pool holds, in bytes."""
        return self._held.storage.capacity()

    def capabilities(self) -> storage.Capabilities:
        """Return what the storage can do on this host."""
        return self._held.storage.capabilities

    def usage(self, share_id: str) -> filesystem.Usage:
        """Return how full a share is, in bytes.

        :raises NotFound: there is no such share, or it isn't mounted.
        """
        return self._held.usage(self._held.get(share_id))

    def recover(self) -> model.Health:
        """Finish what a crash or a reboot left: call at every start.

        Half-made things are removed, half-deleted ones are gone for good, everything else comes
        back with the same address, mounts and rules. What fails is reported, and the rest goes on.
        """
        self.start()
        return self._recovery.run()

    def keep(self) -> None:
        """Start servers again that have stopped, with their limits: call every minute or so."""
        self.servers.keep()
        self.limiting.keep()

    def _make(
        self, share_id: str, size: int, labels: Mapping[str, str], snapshot_id: str | None
    ) -> storage.Volume:
        make, owner = self._held.storage, self._held.owner
        if snapshot_id is None:
            return make.create(share_id, size, owner=owner, labels=labels)
        self.snapshots.get(snapshot_id)
        return make.clone(snapshot_id, share_id, size=size, owner=owner, labels=labels)
