# SPDX-License-Identifier: Apache-2.0
"""Shares that the service forgets, and those that it gets to know again.

A share that is unmanaged is served as before, by the rules that it has, also after a restart.
"""

import logging
import os

from container_stack import exceptions
from container_stack.host import locks, storage
from container_stack.shares import model, protocol, volumes

LOG = logging.getLogger(__name__)


class Adoption:
    """Gives shares away and takes them up; every method is idempotent."""

    def __init__(self, held: volumes.ShareVolumes, object_locks: locks.ObjectLocks) -> None:
        self._held = held
        self._locks = object_locks

    def unmanage(self, share_id: str) -> None:
        """Forget a share, which stays as it is.

        :raises ShareNotFound: there is no such share.
        """
        with self._locks.hold(f"share-{share_id}"):
            volume = self._held.get(share_id)
            labels = {volumes.STATE: volumes.UNMANAGED, volumes.SHARE: None}
            self._held.storage.set_labels(volume.id, labels)
        LOG.info("Share %(id)s is no longer managed", {"id": share_id})

    def manage(self, share_id: str, server_id: str, location: str) -> model.Share:
        """Take up a share under this id, and return it with its size.

        :param location: what it was exported at, to the letter: nothing else is looked at.
        :raises NotFound: its server exports nothing there; the text says what it does.
        :raises AlreadyExists: it is managed, or the id is taken.
        :raises InvalidRequest: what it holds isn't a share's.
        """
        model.check_id(share_id, "share")
        with self._locks.hold(f"share-{share_id}"):
            server = self._held.servers.running(server_id)
            volume = self._at(server, location)
            known = volumes.identity(volume)
            if known not in (None, share_id):
                raise exceptions.AlreadyExists(f"{location} is managed already, as share {known}.")
            if known is None and self._held.find(share_id):
                raise exceptions.AlreadyExists(f"There is another share {share_id}.")
            self._held.mount(volume)
            self._check(volume)
            labels = {volumes.STATE: volumes.READY, volumes.SHARE: share_id}
            volume = self._held.storage.set_labels(volume.id, labels)
        LOG.info("Share %(id)s is managed: %(at)s", {"id": share_id, "at": location})
        return self._held.share(volume, server)

    def _at(self, server: model.Server, location: str) -> storage.Volume:
        there = [
            each
            for each in self._held.list()
            if each.labels[volumes.SERVER] == server.id and volumes.is_settled(each)
        ]
        spare = []
        for volume in there:
            share = self._held.share(volume, server)
            if location in share.export_locations:
                return volume
            spare += [share.export_location] * (volumes.identity(volume) is None)
        known = ", ".join(spare) or "nothing"
        raise exceptions.NotFound(
            f"{location!r} is no share of ours on server {server.id}; what could be managed "
            f"there: {known}."
        )

    def _check(self, volume: storage.Volume) -> None:
        for path in (self._held.path(volume), os.path.join(self._held.path(volume), protocol.DATA)):
            if os.path.islink(path):
                raise exceptions.InvalidRequest(f"{path} is a symbolic link, and not followed.")
