# SPDX-License-Identifier: Apache-2.0
"""Storage in an LVM volume group, thick or in a thin pool.

All that is known of a volume stands in its tags, so a volume group can move to another host.
One volume group belongs to one state directory: there are its locks.
"""

import contextlib
import logging
from collections.abc import Mapping

from container_stack import exceptions
from container_stack.host import (
    filesystem,
    lvm_report,
    lvm_tags,
    lvm_volumes,
    resize,
    storage,
    storage_checks,
)
from container_stack.rootwrap import commands, executor

LOG = logging.getLogger(__name__)


class LVMStorage(storage.Storage):
    """Volumes in a volume group.

    Thick volumes can't run out of space later. A thick snapshot reserves as much as its volume
    has, so that it never becomes invalid, its volume can't be resized meanwhile, and a clone is
    a full copy; a thin pool has none of these limits and may promise more than it has.

    :param volume_group: its name; it must exist.
    :param thin_pool: a thin pool in it, or None for thick volumes.
    :param kind: file system of new volumes.
    """

    def __init__(
        self,
        runner: executor.Executor,
        filesystems: filesystem.Filesystems,
        volume_group: str,
        *,
        thin_pool: str | None = None,
        kind: str = "xfs",
    ) -> None:
        self._filesystems = filesystems
        self._kind = kind
        self._volumes = lvm_volumes.Volumes(runner, filesystems, volume_group, thin_pool)
        self._group = self._volumes.group

    @classmethod
    def open(cls, pool: storage.Pool) -> "LVMStorage":
        """Return the storage that a pool's settings describe.

        :raises InvalidRequest: a setting is missing, or unknown here.
        """
        pool.accept("lvm", "volume_group", "thin_pool")
        filesystem.minimum_size(pool.filesystem)
        if not pool.volume_group:
            raise exceptions.InvalidRequest("lvm storage needs the name of a volume group.")
        for name in filter(None, (pool.volume_group, pool.thin_pool)):
            commands.lvm.GROUP.argv(group=name)
        filesystems = filesystem.Filesystems(pool.executor)
        return cls(
            pool.executor,
            filesystems,
            pool.volume_group,
            thin_pool=pool.thin_pool,
            kind=pool.filesystem,
        )

    @property
    def capabilities(self) -> storage.Capabilities:
        thin = self._group.thin_pool is not None
        return storage.Capabilities(
            grow_online=resize.grow_online(),
            shrink=resize.SHRINK,
            shrink_online=resize.SHRINK_ONLINE,
            grow_with_snapshots=thin,
            cheap_snapshots=thin,
        )

    def create(
        self, volume_id: str, size: int, *, owner: str, labels: Mapping[str, str] | None = None
    ) -> storage.Volume:
        storage_checks.check_id(volume_id)
        storage_checks.check_size(size, self._kind)
        tags = lvm_tags.of_new_volume(volume_id, owner, labels or {}, self._kind)
        with self._volumes.locks.hold(volume=volume_id), contextlib.ExitStack() as undo:
            undo.callback(self._volumes.discard_partial, volume_id)
            made = self._volumes.make(volume_id, size, tags)
            self._filesystems.make(self._group.device(volume_id), self._kind)
            self._volumes.set_state(volume_id, lvm_tags.CREATING, lvm_tags.READY)
            undo.pop_all()
        LOG.info("Created volume %(id)s", {"id": volume_id})
        return storage.Volume(volume_id, made, owner, self._kind, dict(labels or {}))

    def get(self, volume_id: str) -> storage.Volume:
        storage_checks.check_id(volume_id)
        return lvm_tags.as_volume(self._group.find(volume_id))

    def set_labels(self, volume_id: str, labels: Mapping[str, str | None]) -> storage.Volume:
        storage_checks.check_id(volume_id)
        with self._volumes.locks.hold(volume=volume_id):
            found = self._group.find(volume_id)
            volume = lvm_tags.as_volume(found)
            merged = storage_checks.merge_labels(volume.labels, labels)
            storage_checks.check_words(volume.owner, merged)
            packed = lvm_report.pack(merged)
            self._group.retag(volume_id, "labels", found.tags["labels"], packed)
        return storage.Volume(volume_id, volume.size, volume.owner, volume.filesystem, merged)

    def activate(self, volume_id: str) -> str:
        storage_checks.check_id(volume_id)
        with self._volumes.locks.hold(volume=volume_id):
            self._volumes.activate(self._volumes.settled(volume_id))
        return self._group.device(volume_id)

    def deactivate(self, volume_id: str) -> None:
        storage_checks.check_id(volume_id)
        with self._volumes.locks.hold(volume=volume_id):
            found = self._group.find(volume_id)
            self._volumes.refuse_mounted(volume_id)
            if found.active:
                self._group.run(commands.lvm.DEACTIVATE, volume=self._volumes.name(volume_id))

    def grow(self, volume_id: str, size: int) -> storage.Volume:
        storage_checks.check_id(volume_id)
        with self._volumes.locks.hold(volume=volume_id):
            found = self._volumes.settled(volume_id)
            kind = found.tags["filesystem"]
            storage_checks.check_size(size, kind)
            new = self._group.rounded(size)
            if new < found.size:
                raise exceptions.InvalidRequest(
                    f"{volume_id} is larger already: {found.size} bytes."
                )
            if new > found.size:
                self._volumes.refuse_resize(volume_id)
                self._volumes.resizer.check_grow(self._group.device(volume_id), kind)
                self._group.check_space(new)
                with self._volumes.resizing(found):
                    self._volumes.extend(volume_id, new)
                LOG.info("Grew volume %(id)s to %(size)d", {"id": volume_id, "size": new})
        return self.get(volume_id)

    def shrink(self, volume_id: str, size: int) -> storage.Volume:
        storage_checks.check_id(volume_id)
        with self._volumes.locks.hold(volume=volume_id):
            found = self._volumes.settled(volume_id)
            kind = found.tags["filesystem"]
            storage_checks.check_size(size, kind)
            new = self._group.rounded(size)
            if new > found.size:
                raise exceptions.InvalidRequest(
                    f"{volume_id} is smaller already: {found.size} bytes."
                )
            if new < found.size:
                self._volumes.refuse_resize(volume_id)
                self._volumes.resizer.check_shrink(self._group.device(volume_id), kind)
                with self._volumes.resizing(found):
                    self._volumes.reduce(volume_id, kind, new)
                LOG.info("Shrank volume %(id)s to %(size)d", {"id": volume_id, "size": new})
        return self.get(volume_id)

    def delete(self, volume_id: str) -> None:
        storage_checks.check_id(volume_id)
        with self._volumes.locks.hold(volume=volume_id):
            found = self._group.ours()[0].get(volume_id)
            if found is None:
                return
            if (state := lvm_tags.state(found)) != lvm_tags.CREATING:
                if state != lvm_tags.READY:
                    self._volumes.settled(volume_id)
                storage_checks.refuse_snapshots(volume_id, self.list_snapshots(volume_id))
                self._volumes.refuse_mounted(volume_id)
            self._group.remove(f"cs-{volume_id}")
        LOG.info("Deleted volume %(id)s", {"id": volume_id})

    def snapshot(self, volume_id: str, snapshot_id: str) -> storage.Snapshot:
        storage_checks.check_id(volume_id)
        storage_checks.check_id(snapshot_id)
        with self._volumes.locks.hold(volume=volume_id, snapshot=snapshot_id):
            found = self._volumes.settled(volume_id)
            self._volumes.clear_snapshot(snapshot_id)
            self._volumes.activate(found)
            made = self._volumes.snapshot(found, snapshot_id, lvm_tags.now())
        LOG.info("Created snapshot %(id)s of %(volume)s", {"id": snapshot_id, "volume": volume_id})
        return made

    def clone(
        self,
        snapshot_id: str,
        volume_id: str,
        *,
        size: int | None = None,
        owner: str,
        labels: Mapping[str, str] | None = None,
    ) -> storage.Volume:
        storage_checks.check_id(snapshot_id)
        storage_checks.check_id(volume_id)
        with (
            self._volumes.locks.hold(volume=volume_id, snapshot=snapshot_id),
            contextlib.ExitStack() as undo,
        ):
            source, snapshot = self._group.find_snapshot(snapshot_id)
            wanted = storage_checks.clone_size(snapshot_id, snapshot.size, size)
            kind = source.tags["filesystem"]
            storage_checks.check_size(wanted, kind)
            tags = lvm_tags.of_new_volume(volume_id, owner, labels or {}, kind)
            undo.callback(self._volumes.discard_partial, volume_id)
            self._volumes.copy(source, volume_id, wanted, tags)
            device = self._group.device(volume_id)
            self._filesystems.renew(device, kind)
            if self._group.rounded(wanted) > snapshot.size:
                self._volumes.resizer.grow(device, kind)
            self._volumes.set_state(volume_id, lvm_tags.CREATING, lvm_tags.READY)
            undo.pop_all()
        LOG.info("Cloned %(from)s to volume %(id)s", {"from": snapshot_id, "id": volume_id})
        return self.get(volume_id)

    def restore(self, snapshot_id: str) -> storage.Volume:
        storage_checks.check_id(snapshot_id)
        volume_id = self._group.volume_of(snapshot_id)
        if volume_id is None:
            raise exceptions.NotFound(f"There is no snapshot {snapshot_id}.")
        with self._volumes.locks.hold(volume=volume_id, snapshot=snapshot_id):
            found = self._volumes.settled(volume_id)
            source, _snapshot = self._group.find_snapshot(snapshot_id)
            self._volumes.refuse_mounted(volume_id)
            self._volumes.restore(found, source)
        LOG.info("Restored volume %(id)s from %(from)s", {"id": volume_id, "from": snapshot_id})
        return self.get(volume_id)

    def delete_snapshot(self, snapshot_id: str) -> None:
        storage_checks.check_id(snapshot_id)
        volume_id = self._group.volume_of(snapshot_id)
        with self._volumes.locks.hold(volume=volume_id, snapshot=snapshot_id):
            with contextlib.suppress(exceptions.NotFound):
                if volume_id:
                    self._volumes.settled(volume_id)
            if snapshot_id in self._group.ours()[1]:
                self._group.remove(f"css-{snapshot_id}")
                LOG.info("Deleted snapshot %(id)s", {"id": snapshot_id})

    def list_snapshots(self, volume_id: str | None = None) -> list[storage.Snapshot]:
        found = self._group.snapshots()
        wanted = [each for each in found if volume_id in (None, each.volume_id)]
        return sorted(wanted, key=lambda snapshot: snapshot.created_at)

    def list(self, owner: str | None = None) -> list[storage.Volume]:
        found = [
            lvm_tags.as_volume(volume)
            for volume in self._group.ours()[0].values()
            if lvm_tags.state(volume) != lvm_tags.CREATING
        ]
        return [volume for volume in found if owner in (None, volume.owner)]

    def capacity(self) -> storage.Capacity:
        return self._group.capacity()

    def usage(self, volume_id: str) -> int:
        storage_checks.check_id(volume_id)
        found = self._group.find(volume_id)
        return found.data if found.pool else found.size

    def recover(self) -> None:
        self._volumes.recover()
