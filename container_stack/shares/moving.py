# SPDX-License-Identifier: Apache-2.0
"""Moving shares from one back end to another of the same host.

First a volume is made at the target and filled while clients go on writing; that may be repeated
and given up. Then clients are kept away, what has changed is brought over, and the source goes.

All that is known of a move stands on the two volumes. The target's is ``incoming`` and says what
it is of; it becomes a share when the source's has begun to go, which is one change of one label.
So after a crash at any time one of the two is served: the source when it comes back, or the target
when :meth:`Moves.settle` has found that the source is gone.
"""

import contextlib
import dataclasses
import logging
import time
from collections.abc import Iterable, Iterator, Mapping

from container_stack import exceptions
from container_stack.host import locks, storage, transfers
from container_stack.shares import limits, model, protocol, volumes

LOG = logging.getLogger(__name__)

#: Of the source's volume: the id of the target's. Only the last move that was begun can end.
MOVING = "moving"
#: Of the target's: the id that the service knows the share by then; the source's owner; when
#: copying began; whether most has been copied; whether all has.
KNOWN, ORIGIN, SINCE, COPIED, ARRIVED = "known", "origin", "since", "copied", "arrived"


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """Where a share is to be.

    :param volume_id: of the volume to be made, which also names the move.
    :param server_id: the share server at the target.
    :param share_id: what the service goes on calling the share, which also keeps its name on its
        server; None if it is called as its volume from now on.
    :param limited: how much clients may do with it there.
    """

    volume_id: str
    server_id: str
    share_id: str | None = None
    limited: limits.Limits | None = None


class Moves:
    """Moves from one back end to another, which may be the same; every method is idempotent."""

    def __init__(
        self,
        source: volumes.ShareVolumes,
        target: volumes.ShareVolumes,
        source_locks: locks.ObjectLocks,
        target_locks: locks.ObjectLocks,
    ) -> None:
        self._source = source
        self._target = target
        self._source_locks = source_locks
        self._target_locks = target_locks
        self._transfers = target.transfers

    def start(self, share_id: str, place: Place) -> None:
        """Make the volume that a share is to move to; clients notice nothing.

        :raises ShareNotFound: there is no such share.
        :raises NoSpace: the target's pool is too full; nothing was changed, nor with the others.
        :raises NotSupported: the share has snapshots, or the server doesn't speak its protocol.
        :raises Busy: it is being moved already.
        :raises AlreadyExists: the volume's id is taken.
        """
        model.check_id(share_id, "share")
        server = self._target.servers.running(place.server_id)
        with self._source_locks.hold(f"share-{share_id}"):
            volume = self._source.get(share_id)
            self._target.servers.speaking(server, volumes.protocol_of(volume))
            self._refuse_snapshots(volume)
            incoming = self._find(place.volume_id)
            if incoming and _is_coming(incoming, share_id):
                self._source.storage.set_labels(volume.id, {MOVING: incoming.id})
                return
            if incoming:
                raise exceptions.AlreadyExists(f"There is a volume {place.volume_id} already.")
            other = volume.labels.get(MOVING)
            if other and self._find(other):
                raise exceptions.Busy(f"Share {share_id} is being moved already, to {other}.")
            with contextlib.ExitStack() as undo:
                labels = self._labels(share_id, volume, place)
                self._target.storage.create(
                    place.volume_id, volume.size, owner=self._target.owner, labels=labels
                )
                undo.callback(self._target.storage.delete, place.volume_id)
                self._source.storage.set_labels(volume.id, {MOVING: place.volume_id})
                undo.pop_all()
        LOG.info("Moving share %(id)s to %(to)s", {"id": share_id, "to": place.volume_id})

    def copy(self, share_id: str, volume_id: str) -> None:
        """Copy most of a share while clients go on; it may take hours.

        :raises NotFound: no such move was started, or it was cancelled.
        :raises NoSpace: what it holds doesn't fit.
        :raises NotSupported: the target's file system can't keep something of it.
        :raises Busy: it is being copied, or that was stopped.
        """
        with self._transfers.alone(volume_id):
            incoming = self._incoming(share_id, volume_id)
            if COPIED in incoming.labels:
                return
            self._copy(self._source.get(share_id), incoming)
            self._target.storage.set_labels(volume_id, {COPIED: "yes"})
        LOG.info("Copied most of share %(id)s to %(to)s", {"id": share_id, "to": volume_id})

    def progress(self, share_id: str, volume_id: str) -> int:
        """Return how much has been copied while clients go on, in per cent.

        :raises NotFound: no such move was started.
        """
        if COPIED in self._incoming(share_id, volume_id).labels:
            return 100
        with contextlib.suppress(exceptions.NotFound):
            come = self._transfers.usage(volume_id).used
            whole = self._source.usage(self._source.get(share_id)).used
            return min(99, come * 100 // max(whole, 1))
        return 0

    def complete(self, share_id: str, volume_id: str) -> model.Share:
        """Bring over what has changed, remove the source, and return the share at its new place.

        Its clients are cut off meanwhile: for as long as it takes to look at every file, and to
        read those that have changed. Its rules are as before, and its users keep their passwords,
        unless the server knows them by others. If it fails the source is served as before.

        :raises NotFound: no such move was started.
        :raises NoSpace: what it holds doesn't fit.
        :raises NotSupported: it has snapshots, or the target can't keep something of it.
        """
        with (
            self._source_locks.hold(f"share-{share_id}"),
            self._target_locks.hold(f"share-{volume_id}"),
            self._transfers.alone(volume_id),
        ):
            found = self._find(volume_id)
            if found and volumes.is_settled(found):
                return self._shared(found)
            incoming = self._incoming(share_id, volume_id)
            volume = self._present(share_id)
            if volume:
                if volume.labels.get(MOVING) != volume_id:
                    raise exceptions.InvalidRequest(f"Share {share_id} is being moved elsewhere.")
                self._refuse_snapshots(volume)
                self._bring_over(volume, incoming)
            elif ARRIVED not in incoming.labels:
                raise model.ShareNotFound(f"There is no share {share_id} on this host.")
            return self._finish(share_id, incoming)

    def cancel(self, share_id: str, volume_id: str) -> None:
        """Give a move up, also in the middle of copying; the source stays as it is.

        :raises InvalidRequest: it is complete.
        """
        with self._source_locks.hold(f"share-{share_id}"):
            found = self._find(volume_id)
            if found and volumes.is_settled(found):
                raise exceptions.InvalidRequest(f"Share {share_id} has moved already.")
            if found and ARRIVED in found.labels and not self._present(share_id):
                raise exceptions.InvalidRequest(f"Share {share_id} has moved; complete that.")
            if found:
                deleting = {volumes.STATE: volumes.DELETING}
                self._target.remove(self._target.storage.set_labels(volume_id, deleting))
            volume = self._present(share_id)
            if volume and volume.labels.get(MOVING) == volume_id:
                self._source.storage.set_labels(volume.id, {MOVING: None})
        LOG.info("Share %(id)s stays; it doesn't move to %(to)s", {"id": share_id, "to": volume_id})

    def settle(self) -> None:
        """Finish or give up what a crash left; call when both back ends have recovered.

        A move that can go on is left as it is.
        """
        for incoming in self._coming():
            share_id = incoming.labels[volumes.INCOMING]
            # Who has just begun it has the lock until it is known at both ends.
            with self._source_locks.hold(f"share-{share_id}"):
                volume = self._present(share_id)
            if volume is None and ARRIVED in incoming.labels:
                self.complete(share_id, incoming.id)
            elif volume is None or volume.labels.get(MOVING) != incoming.id:
                self.cancel(share_id, incoming.id)

    # Steps -----------------------------------------------------------------------------------

    def _bring_over(self, volume: storage.Volume, incoming: storage.Volume) -> None:
        """Make the target the same as the source, closed, with its rules; then let that go."""
        speaking, name = self._source.speaking(volume), volumes.name(volume)
        with contextlib.ExitStack() as undo:
            undo.callback(self._source.reopen, volume)
            self._source.mount(volume)
            rules = speaking.shares().get(name, frozenset())
            keys = speaking.set_share(name, rules) if rules else {}
            self._source.close(volume)
            self._copy(volume, incoming, since=int(incoming.labels[SINCE]))
            self._admit(incoming, rules, keys)
            self._target.storage.set_labels(incoming.id, {ARRIVED: "yes"})
            self._source.storage.set_labels(volume.id, {volumes.STATE: volumes.DELETING})
            undo.pop_all()

    def _admit(
        self,
        incoming: storage.Volume,
        rules: Iterable[protocol.Rule],
        keys: Mapping[str, str],
    ) -> None:
        """Tell the target's server the rules; nobody is let in yet."""
        speaking, name = self._target.speaking(incoming), volumes.name(incoming)
        self._target.mount(incoming)
        if rules:
            speaking.set_share(name, rules, keys)
            speaking.suspend(name)

    def _finish(self, share_id: str, incoming: storage.Volume) -> model.Share:
        settled: dict[str, str | None] = dict.fromkeys(
            (volumes.INCOMING, KNOWN, ORIGIN, SINCE, COPIED, ARRIVED)
        )
        known = incoming.labels.get(KNOWN)
        settled |= {volumes.STATE: volumes.READY, volumes.CLOSED: "yes", volumes.SHARE: known}
        moved = self._target.storage.set_labels(incoming.id, settled)
        self._target.reopen(moved)
        if (left := self._source.find(share_id)) and left.id != moved.id:
            self._source.remove(left)
        LOG.info("Moved share %(id)s to %(to)s", {"id": share_id, "to": incoming.id})
        return self._shared(moved)

    def _copy(self, volume: storage.Volume, incoming: storage.Volume, *, since: int = 0) -> None:
        ends = [
            transfers.End(held.storage.activate(each.id), each.filesystem)
            for held, each in ((self._source, volume), (self._target, incoming))
        ]
        self._transfers.copy(incoming.id, *ends, since=since)

    # What there is ---------------------------------------------------------------------------

    def _labels(self, share_id: str, volume: storage.Volume, place: Place) -> dict[str, str]:
        kept = {volumes.NAME: volumes.name(volume), KNOWN: place.share_id}
        return {
            volumes.SERVER: place.server_id,
            volumes.STATE: volumes.COMING,
            volumes.PROTOCOL: volumes.protocol_of(volume),
            volumes.INCOMING: share_id,
            ORIGIN: self._source.owner,
            SINCE: str(int(time.time())),
            **({key: value for key, value in kept.items() if value} if place.share_id else {}),
            **limits.labels(place.limited),
        }

    def _coming(self) -> Iterator[storage.Volume]:
        for each in self._target.list():
            state, origin = each.labels.get(volumes.STATE), each.labels.get(ORIGIN)
            if state == volumes.COMING and origin == self._source.owner:
                yield each

    def _find(self, volume_id: str) -> storage.Volume | None:
        with contextlib.suppress(exceptions.NotFound):
            volume = self._target.storage.get(volume_id)
            return volume if volume.owner == self._target.owner else None
        return None

    def _incoming(self, share_id: str, volume_id: str) -> storage.Volume:
        volume = self._find(volume_id)
        if volume is None or not _is_coming(volume, share_id):
            raise exceptions.NotFound(f"Share {share_id} isn't being moved to {volume_id}.")
        return volume

    def _present(self, share_id: str) -> storage.Volume | None:
        """Return the source's volume, unless it is gone or going."""
        volume = self._source.find(share_id)
        return volume if volume and volumes.is_settled(volume) else None

    def _refuse_snapshots(self, volume: storage.Volume) -> None:
        if taken := self._source.storage.list_snapshots(volume.id):
            raise exceptions.NotSupported(
                f"The share has {len(taken)} snapshots, which can't move with it; delete them, or "
                "let it stay."
            )

    def _shared(self, volume: storage.Volume) -> model.Share:
        server = self._target.servers.running(volume.labels[volumes.SERVER])
        return self._target.share(volume, server)


def origins(held: volumes.ShareVolumes) -> frozenset[str]:
    """Return the owners from whom shares are on their way."""
    return frozenset(each.labels[ORIGIN] for each in held.list() if ORIGIN in each.labels)


def _is_coming(volume: storage.Volume, share_id: str) -> bool:
    labels = volume.labels
    return labels.get(volumes.STATE) == volumes.COMING and labels[volumes.INCOMING] == share_id
