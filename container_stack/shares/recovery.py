# SPDX-License-Identifier: Apache-2.0
"""What crashes and reboots leave, and how shares come back from them."""

import contextlib
import logging
from collections.abc import Callable
from concurrent import futures

from container_stack import exceptions
from container_stack.host import locks, storage
from container_stack.shares import model, snapshots, volumes

LOG = logging.getLogger(__name__)

#: Things brought back at once; the engine is fastest with about eight.
WORKERS = 8


class Recovery:
    """Finishes or undoes what was under way, and brings everything else back as it was."""

    def __init__(
        self,
        held: volumes.ShareVolumes,
        object_locks: locks.ObjectLocks,
        views: snapshots.ShareSnapshots,
    ) -> None:
        self._held = held
        self._locks = object_locks
        self._snapshots = views

    def run(self) -> model.Health:
        """Do it for all shares, servers and snapshots; what fails is reported, the rest goes on."""
        self._locks.sweep()
        self._held.storage.recover()
        failed: dict[str, str] = {}
        for each in self._held.list():
            # What comes from elsewhere is finished or given up by who knows where that is.
            if volumes.INCOMING in each.labels:
                self._attempt(self._held.transfers.release, each.id, failed)
        half_made = [each.id for each in self._held.list() if _is_left(each)]
        finished = [each for each in half_made if self._attempt(self._finish, each, failed)]
        kept = self._held.list()
        serving = frozenset(each.labels[volumes.SERVER] for each in kept)
        finished.extend(self._held.servers.recover(serving))
        shares = [each.id for each in kept]
        views = [each.id for each in self._snapshots.views()]
        with futures.ThreadPoolExecutor(WORKERS) as pool:
            pool.map(lambda each: self._attempt(self._recover, each, failed), shares)
            idle = [each.id for each in self._held.servers.list()]
            pool.map(lambda each: self._attempt(self._held.servers.running, each, failed), idle)
            pool.map(lambda each: self._attempt(self._snapshots.recover, each, failed), views)
        return model.Health(tuple(finished), failed)

    def bring_back(self, volume: storage.Volume) -> model.Share:
        """Mount a share and have its server serve it; the caller holds its lock.

        :raises NotFound: its server is gone for good.
        """
        server = self._held.servers.running(volume.labels[volumes.SERVER])
        if volumes.CLOSED in volume.labels:
            self._held.reopen(volume)
        else:
            self._held.mount(volume)
            speaking = self._held.servers.speaking(server, volumes.protocol_of(volume))
            speaking.restore_share(volumes.name(volume))
        return self._held.share(volume, server)

    def _attempt(self, action: Callable[[str], object], name: str, failed: dict[str, str]) -> bool:
        try:
            action(name)
        except exceptions.ContainerStackError as exc:
            failed[name] = str(exc)
            LOG.warning("Could not bring back %(name)s: %(why)s", {"name": name, "why": exc})
        return name not in failed

    def _recover(self, volume_id: str) -> None:
        with self._locks.hold(f"share-{volume_id}"), contextlib.suppress(exceptions.NotFound):
            volume = self._held.storage.get(volume_id)
            if volumes.is_settled(volume):
                self._snapshots.prune(volume)
                self.bring_back(volume)

    def _finish(self, volume_id: str) -> None:
        with self._locks.hold(f"share-{volume_id}"), contextlib.suppress(exceptions.NotFound):
            volume = self._held.storage.get(volume_id)
            if _is_left(volume):
                self._held.remove(volume)


def _is_left(volume: storage.Volume) -> bool:
    """Tell whether a crash left this half-made or half-deleted."""
    coming = volume.labels.get(volumes.STATE) == volumes.COMING
    return not coming and not volumes.is_settled(volume)
