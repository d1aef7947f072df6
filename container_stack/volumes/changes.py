# SPDX-License-Identifier: Apache-2.0
"""Changing volumes that there are: content, size, labels, schedule."""

import contextlib
import dataclasses
import logging
from collections.abc import Iterator, Mapping

from container_stack import exceptions
from container_stack.volumes import backend, driver, model

LOG = logging.getLogger(__name__)


class Changes:
    """Changes of one driver's volumes."""

    def __init__(self, of: driver.Driver) -> None:
        self._driver = of

    def restore(self, volume_id: str, snapshot_id: str) -> model.Volume:
        """Give a volume, which nobody uses, the content and size of its snapshot."""
        keeper = self._driver.backend
        if not isinstance(keeper, backend.Restoring):
            raise exceptions.NotSupported(driver.NOT_SUPPORTED)
        snapshot_id = model.check_id(snapshot_id)
        with self._changing(volume_id) as volume, self._driver.locks.hold(snapshot_id):
            snapshot = self._driver.usable(snapshot_id)
            if snapshot.source.parent != volume.id:
                raise exceptions.InvalidRequest(f"{snapshot.name} is no snapshot of {volume.name}.")
            if self._driver.uses.get(volume.id) is not None:
                raise exceptions.Busy(driver.ATTACHED)
            keeper.restore(volume.id, snapshot.id)
            spec = dataclasses.replace(volume.spec, size=snapshot.spec.size)
            made = self._driver.registry.update(volume.id, spec=spec, format=snapshot.format)
        self._driver.note("restore", volume.id, snapshot.name)
        return made

    def grow(self, volume_id: str, size: int) -> model.Volume:
        """Give a volume a size, which isn't smaller than the one it has."""
        keeper = self._driver.backend
        if not isinstance(keeper, backend.Growing):
            raise exceptions.NotSupported(driver.NOT_SUPPORTED)
        with self._changing(volume_id) as volume:
            spec = model.check_spec(dataclasses.replace(volume.spec, size=size))
            if size < volume.spec.size:
                raise exceptions.InvalidRequest(
                    f"Volume {volume.name} has {volume.spec.size} bytes: it can't shrink."
                )
            if volume.read_only:
                raise exceptions.InvalidRequest(f"Volume {volume.name} is read-only.")
            keeper.grow(volume.id, size)
            made = self._driver.registry.update(volume.id, spec=spec)
        self._driver.note("grow", volume.id, str(size))
        return made

    def set_labels(self, volume_id: str, labels: Mapping[str, str | None]) -> model.Volume:
        """Set labels, and remove those that are None; the others stay."""
        with self._driver.locks.hold(model.check_id(volume_id)):
            volume = self._driver.get(volume_id)
            merged = {**volume.labels, **labels}
            kept = {key: text for key, text in merged.items() if text is not None}
            return self._driver.registry.update(volume.id, labels=model.check_labels(kept))

    def set_schedule(self, volume_id: str, interval: int, keep: int) -> model.Volume:
        """Let a volume be snapshot each so many minutes; 0 means no more."""
        if interval and not isinstance(self._driver.backend, backend.Snapshots):
            raise exceptions.NotSupported(driver.NOT_SUPPORTED)
        with self._driver.locks.hold(model.check_id(volume_id)):
            volume = self._driver.get(volume_id)
            spec = dataclasses.replace(volume.spec, snapshot_interval=interval, snapshot_keep=keep)
            return self._driver.registry.update(volume.id, spec=model.check_spec(spec))

    @contextlib.contextmanager
    def _changing(self, volume_id: str) -> Iterator[model.Volume]:
        volume_id = model.check_id(volume_id)
        with self._driver.locks.hold(volume_id):
            volume = self._driver.usable(volume_id)
            with self._driver.owning(volume_id):
                yield volume
