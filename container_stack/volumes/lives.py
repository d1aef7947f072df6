# SPDX-License-Identifier: Apache-2.0
"""Making and deleting volumes, snapshots and clones.

A volume's row is PENDING before anything of it is made, and DELETED before anything of it goes, so
that whoever finds such a row, and nobody who holds its lock, erases what there is.
"""

import contextlib
import dataclasses
import logging
import uuid
from collections.abc import Callable, Mapping

from container_stack import exceptions
from container_stack.volumes import backend, driver, model

LOG = logging.getLogger(__name__)

#: Of a volume's specification: what may have been changed since it was made.
_CHANGING = ("size", "snapshot_interval", "snapshot_keep")


class Lives:
    """How one driver's volumes begin and end."""

    def __init__(self, of: driver.Driver) -> None:
        self._driver = of
        self._backend = of.backend

    def create(
        self,
        name: str,
        spec: model.Spec,
        labels: Mapping[str, str],
        source: model.Source,
        exist_ok: bool,
    ) -> model.Volume:
        """Make a volume, empty or with the content of another."""
        model.check_name(name)
        model.check_spec(spec)
        volume = self._new(name, spec, labels, source)
        self._driver.ownership.check()
        with self._driver.locks.hold(f"name.{name}"):
            with contextlib.suppress(exceptions.NotFound):
                found = self._driver.registry.find(self._driver.name, name)
                return self._same(found, volume, exist_ok)
            if source.parent:
                return self._copy(volume)
            self._check_filesystem(spec.filesystem)
            return self._make(volume, lambda: self._backend.create(volume.id, volume.spec))

    def snapshot(
        self,
        volume_id: str,
        name: str,
        labels: Mapping[str, str],
        read_only: bool,
        config_labels: Mapping[str, str] | None = None,
    ) -> model.Volume:
        """Make a volume with the content that another has now."""
        parent = self._driver.usable(volume_id)
        # Its schedule is the parent's own.
        spec = dataclasses.replace(
            parent.spec, snapshot_interval=0, labels={**parent.spec.labels, **(config_labels or {})}
        )
        source = model.Source(parent=parent.id)
        made = self._new("", spec, labels, source, read_only=read_only)
        made = dataclasses.replace(
            made, name=model.check_name(name or f"{parent.name[:100]}.{made.id[:8]}")
        )
        with self._driver.locks.hold(f"name.{made.name}"):
            return self._copy(made)

    def delete(self, volume_id: str) -> None:
        """Delete a volume or snapshot with its data."""
        volume_id = model.check_id(volume_id)
        with self._driver.locks.hold(volume_id):
            volume = self._driver.get(volume_id)
            if volume.state & model.State.DELETED:
                self._erase(volume_id)
                return
            self._driver.usable(volume_id)
            if self._driver.uses.get(volume_id) is not None:
                raise exceptions.Busy(driver.ATTACHED)
            with self._driver.owning(volume_id):
                self._refuse_parent(volume)
                self._driver.registry.update(volume_id, state=model.State.DELETED)
                try:
                    self._erase(volume_id)
                except exceptions.Busy:
                    self._driver.registry.update(volume_id, state=volume.state)
                    raise
        LOG.info("Deleted volume %(volume)s", {"volume": volume_id})
        self._driver.note("delete", volume_id, volume.name)

    def clean(self, volume_id: str) -> bool:
        """Erase what a crash, or a failure to undo, left of a volume; tell whether it is gone."""
        try:
            with self._driver.locks.hold(volume_id, wait=False):
                volume = self._driver.get(volume_id)
                if volume.state & (model.State.PENDING | model.State.DELETED):
                    self._driver.registry.update(volume_id, state=model.State.DELETED)
                    self._erase(volume_id)
                    LOG.info("Cleaned up after volume %(volume)s", {"volume": volume_id})
        except exceptions.NotFound:
            return True
        except exceptions.ContainerStackError as exc:
            why = {"volume": volume_id, "why": exc}
            LOG.warning("What is left of %(volume)s is erased later: %(why)s", why)
            return False
        return True

    def _new(
        self,
        name: str,
        spec: model.Spec,
        labels: Mapping[str, str],
        source: model.Source,
        *,
        read_only: bool = False,
    ) -> model.Volume:
        return model.Volume(
            id=str(uuid.uuid4()),
            driver=self._driver.name,
            name=name,
            spec=spec,
            created_at=self._driver.now(),
            labels=model.check_labels(labels),
            source=source,
            read_only=read_only,
            node_id=self._driver.node_id,
        )

    def _same(self, found: model.Volume, wanted: model.Volume, exist_ok: bool) -> model.Volume:
        """Return a volume that is what was asked for, if that is fine."""
        if not exist_ok:
            raise exceptions.AlreadyExists(f"A volume named {found.name} exists.")
        unchanged = {field: getattr(found.spec, field) for field in _CHANGING}
        spec = dataclasses.replace(wanted.spec, **unchanged)
        if not wanted.spec.filesystem:
            spec = dataclasses.replace(spec, filesystem=found.spec.filesystem)
        if (spec, wanted.source) != (found.spec, found.source):
            raise exceptions.AlreadyExists(
                f"A volume named {found.name} exists, and isn't what is asked for."
            )
        return self._driver.usable(found.id)

    def _check_filesystem(self, filesystem: str) -> None:
        known = self._backend.filesystems
        if filesystem not in ("", *known):
            raise exceptions.InvalidRequest(
                f"Filesystem format ({filesystem}) must be {' or '.join(known)}."
            )

    def _make(
        self, volume: model.Volume, work: Callable[[], None], filesystem: str = ""
    ) -> model.Volume:
        if not isinstance(self._backend, backend.BlockBackend):
            filesystem = volume.spec.filesystem or self._backend.filesystems[0]
        with self._driver.locks.hold(volume.id), contextlib.ExitStack() as undo:
            undo.callback(self._unmake, volume.id)
            self._driver.registry.add(volume)
            work()
            made = self._driver.registry.update(
                volume.id, state=model.State.AVAILABLE, format=filesystem
            )
            undo.pop_all()
        LOG.info("Made volume %(volume)s", {"volume": volume.id})
        self._driver.note("create", volume.id, volume.name)
        return made

    def _unmake(self, volume_id: str) -> None:
        try:
            self._driver.registry.update(volume_id, state=model.State.DELETED)
            self._erase(volume_id)
        except exceptions.NotFound:
            LOG.debug("%(volume)s wasn't begun", {"volume": volume_id})
        except exceptions.ContainerStackError as exc:
            why = {"volume": volume_id, "why": exc}
            LOG.warning("What was made of %(volume)s is erased later: %(why)s", why)

    def _erase(self, volume_id: str) -> None:
        """Erase a volume that is DELETED already; the caller has its lock; idempotent."""
        self._backend.delete(volume_id)
        self._driver.registry.remove(volume_id)

    def _copy(self, volume: model.Volume) -> model.Volume:
        """Make a volume that begins as its source."""
        keeper = self._backend
        if not isinstance(keeper, backend.Snapshots):
            raise exceptions.NotSupported(driver.NOT_SUPPORTED)
        parent_id = model.check_id(volume.source.parent)
        with self._driver.locks.hold(parent_id), self._driver.owning(parent_id):
            parent = self._driver.usable(parent_id)
            volume = self._fitted(volume, parent)

            def copy() -> None:
                keeper.snapshot(parent.id, volume.id, read_only=volume.read_only)
                if volume.spec.size > parent.spec.size and isinstance(keeper, backend.Growing):
                    keeper.grow(volume.id, volume.spec.size)

            return self._make(volume, copy, parent.format)

    def _fitted(self, volume: model.Volume, parent: model.Volume) -> model.Volume:
        """Return what can be made of a parent: its file system, and at least its size."""
        if volume.spec.filesystem not in ("", parent.spec.filesystem, parent.format):
            raise exceptions.InvalidRequest(
                f"Filesystem format ({volume.spec.filesystem}) must be {parent.format}."
            )
        size = max(parent.spec.size, volume.spec.size)
        if volume.spec.size == model.DEFAULT_SIZE:
            size = parent.spec.size
        if size > parent.spec.size and not isinstance(self._backend, backend.Growing):
            raise exceptions.InvalidRequest(f"A copy of {parent.name} has its size here.")
        spec = dataclasses.replace(volume.spec, size=size, filesystem=parent.spec.filesystem)
        return dataclasses.replace(volume, spec=spec, source=model.Source(parent=parent.id))

    def _refuse_parent(self, volume: model.Volume) -> None:
        query = model.Query(parents=(volume.id,))
        if any(each.read_only for each in self._driver.registry.list(self._driver.name, query)):
            raise exceptions.Busy(driver.HAS_SNAPSHOTS)
