# SPDX-License-Identifier: Apache-2.0
"""Limits of shares that exist: changed, lifted, and set again where the kernel has lost them."""

import contextlib
import logging

from container_stack import exceptions
from container_stack.host import device_limits, locks, storage
from container_stack.shares import limits, volumes

LOG = logging.getLogger(__name__)


class Limiting:
    """Limits shares; every method is idempotent."""

    def __init__(self, held: volumes.ShareVolumes, object_locks: locks.ObjectLocks) -> None:
        self._held = held
        self._locks = object_locks

    def supported(self) -> bool:
        """Tell whether this host can limit shares."""
        return device_limits.supported()

    def set(self, share_id: str, wanted: limits.Limits | None) -> None:
        """Let a share have these limits from now on, or none, while its clients go on working.

        :raises ShareNotFound: there is no such share.
        :raises NotSupported: this host can't limit anything; nothing was changed.
        """
        text = limits.labels(wanted).get(limits.LABEL)
        with self._locks.hold(f"share-{share_id}"):
            volume = self._held.get(share_id)
            old = volume.labels.get(limits.LABEL)
            if text == old:
                return
            with contextlib.ExitStack() as undo:
                undo.callback(self._put, volume.id, old)
                self._put(volume.id, text)
                undo.pop_all()
        LOG.info("Share %(id)s has these limits: %(what)s", {"id": share_id, "what": text})

    def keep(self) -> None:
        """Set all limits again: a server that the engine started anew has none.

        A share that somebody works on is left to him.
        """
        held = self._held.list()
        for volume in (each for each in held if limits.LABEL in each.labels):
            name = f"share-{volumes.identity(volume) or volume.id}"
            try:
                with self._locks.hold(name, wait=False):
                    self._again(volume.id)
            except (exceptions.Busy, exceptions.NotFound):
                continue
            except exceptions.ContainerStackError as exc:
                LOG.warning("Share %(id)s isn't limited: %(why)s", {"id": volume.id, "why": exc})

    def _put(self, volume_id: str, text: str | None) -> None:
        volume = self._held.storage.get(volume_id)
        if text is None:
            # While the label is there, so that who comes after a crash lifts it.
            self._held.lift(volume)
        volume = self._held.storage.set_labels(volume_id, {limits.LABEL: text})
        self._held.limit(volume)

    def _again(self, volume_id: str) -> None:
        volume: storage.Volume = self._held.storage.get(volume_id)
        if volumes.is_settled(volume) and volumes.CLOSED not in volume.labels:
            self._held.limit(volume)
