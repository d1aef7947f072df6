# SPDX-License-Identifier: Apache-2.0
"""Storage in sparse files on loop devices: needs nothing but a directory.

A volume is ``<state_dir>/volumes/<id>.img`` with its record ``<id>.json`` beside it; snapshots
are the same below ``<state_dir>/snapshots``.
"""

import contextlib
import logging
import os
from collections.abc import Mapping

from container_stack import exceptions
from container_stack.host import (
    filesystem,
    loop_files,
    loop_records,
    loop_space,
    records,
    resize,
    sparse,
    storage,
    storage_checks,
)
from container_stack.rootwrap import executor

LOG = logging.getLogger(__name__)


class LoopStorage(storage.Storage):
    """Volumes in sparse files.

    Snapshots share blocks with their volume where the file system under the state directory can
    (xfs, btrfs); elsewhere they are copies, and writers wait for the copying.

    :param kind: file system of new volumes.
    :param limit: bytes that all volumes together may take; None for what the disk has.
    """

    def __init__(
        self,
        runner: executor.Executor,
        filesystems: filesystem.Filesystems,
        *,
        kind: str = "xfs",
        limit: int | None = None,
    ) -> None:
        self._filesystems = filesystems
        self._kind = kind
        self._files = loop_files.LoopFiles(runner, filesystems)
        self._space = loop_space.Space(
            self._files.volumes, self._files.snapshots, self._files.locks, limit
        )

    @classmethod
    def open(cls, pool: storage.Pool) -> "LoopStorage":
        """Return the storage that a pool's settings describe.

        :raises InvalidRequest: a setting is unknown here, or out of range.
        """
        pool.accept("loop", "limit")
        least = filesystem.minimum_size(pool.filesystem)
        if pool.limit is not None and pool.limit < least:
            raise exceptions.InvalidRequest(
                f"A limit of {pool.limit} bytes holds no volume: {pool.filesystem} needs {least}."
            )
        filesystems = filesystem.Filesystems(pool.executor)
        return cls(pool.executor, filesystems, kind=pool.filesystem, limit=pool.limit)

    @property
    def capabilities(self) -> storage.Capabilities:
        """What can be done here; whether blocks can be shared is tried out."""
        return storage.Capabilities(
            grow_online=resize.grow_online(),
            shrink=resize.SHRINK,
            shrink_online=resize.SHRINK_ONLINE,
            cheap_snapshots=self._space.can_share(),
        )

    def create(
        self, volume_id: str, size: int, *, owner: str, labels: Mapping[str, str] | None = None
    ) -> storage.Volume:
        record = loop_records.new_volume(volume_id, size, owner, labels, self._kind)
        files, image = self._files, self._files.image(volume_id)
        with files.locks.hold(volume=volume_id), contextlib.ExitStack() as undo:
            files.clear(volume_id)
            self._space.reserve(files.volumes, volume_id, record, record["size"])
            undo.callback(files.discard, volume_id)
            sparse.make(image, record["size"])
            self._filesystems.make(files.devices.attach(image), self._kind)
            record = files.write_ready(volume_id, record)
            undo.pop_all()
        LOG.info("Created volume %(id)s", {"id": volume_id})
        return loop_records.as_volume(volume_id, record)

    def get(self, volume_id: str) -> storage.Volume:
        storage_checks.check_id(volume_id)
        return loop_records.as_volume(volume_id, self._files.find(volume_id))

    def set_labels(self, volume_id: str, labels: Mapping[str, str | None]) -> storage.Volume:
        storage_checks.check_id(volume_id)
        with self._files.locks.hold(volume=volume_id):
            record = self._files.find(volume_id)
            record["labels"] = storage_checks.merge_labels(record["labels"], labels)
            storage_checks.check_words(record["owner"], record["labels"])
            self._files.volumes.write(volume_id, record)
        return loop_records.as_volume(volume_id, record)

    def activate(self, volume_id: str) -> str:
        storage_checks.check_id(volume_id)
        with self._files.locks.hold(volume=volume_id):
            self._files.settled(volume_id)
            return self._files.devices.attach(self._files.image(volume_id))

    def deactivate(self, volume_id: str) -> None:
        storage_checks.check_id(volume_id)
        with self._files.locks.hold(volume=volume_id):
            self._files.find(volume_id)
            self._files.detach(volume_id)

    def grow(self, volume_id: str, size: int) -> storage.Volume:
        storage_checks.check_id(volume_id)
        with self._files.locks.hold(volume=volume_id):
            record = self._files.settled(volume_id)
            old, new = record["size"], loop_records.rounded(size, record["filesystem"])
            if new < old:
                raise exceptions.InvalidRequest(f"{volume_id} is larger already: {old} bytes.")
            if new > old:
                device = self._files.devices.attach(self._files.image(volume_id))
                self._files.resizer.check_grow(device, record["filesystem"])
                record = {**record, "size": new, "state": loop_records.RESIZING}
                self._space.reserve(self._files.volumes, volume_id, record, new - old)
                record = self._files.finish(volume_id, record)
                LOG.info("Grew volume %(id)s to %(size)d", {"id": volume_id, "size": new})
        return loop_records.as_volume(volume_id, record)

    def shrink(self, volume_id: str, size: int) -> storage.Volume:
        storage_checks.check_id(volume_id)
        with self._files.locks.hold(volume=volume_id):
            record = self._files.settled(volume_id)
            old, new = record["size"], loop_records.rounded(size, record["filesystem"])
            if new > old:
                raise exceptions.InvalidRequest(f"{volume_id} is smaller already: {old} bytes.")
            if new < old:
                record = self._shrink(volume_id, record, new)
                LOG.info("Shrank volume %(id)s to %(size)d", {"id": volume_id, "size": new})
        return loop_records.as_volume(volume_id, record)

    def delete(self, volume_id: str) -> None:
        storage_checks.check_id(volume_id)
        with self._files.locks.hold(volume=volume_id):
            record = self._files.volumes.read(volume_id)
            if record and record["state"] not in loop_records.PARTIAL:
                storage_checks.refuse_snapshots(volume_id, self.list_snapshots(volume_id))
                self._files.detach(volume_id)
                self._files.volumes.write(volume_id, {**record, "state": loop_records.DELETING})
                LOG.info("Deleting volume %(id)s", {"id": volume_id})
            self._files.discard(volume_id)

    def snapshot(self, volume_id: str, snapshot_id: str) -> storage.Snapshot:
        storage_checks.check_id(volume_id)
        storage_checks.check_id(snapshot_id)
        files = self._files
        with (
            files.locks.hold(volume=volume_id, snapshot=snapshot_id),
            contextlib.ExitStack() as undo,
        ):
            volume = files.settled(volume_id)
            files.clear_snapshot(snapshot_id)
            record = loop_records.new_snapshot(
                volume_id, volume, sparse.occupied(files.image(volume_id))
            )
            self._space.reserve(files.snapshots, snapshot_id, record, record["cost"])
            undo.callback(files.discard_snapshot, snapshot_id)
            if not volume["shared"] and self._space.can_share():
                files.volumes.write(volume_id, {**volume, "shared": True})
            with files.quiet(volume_id, volume["filesystem"]):
                sparse.copy(files.image(volume_id), files.snapshot_image(snapshot_id))
            cost = sparse.occupied(files.snapshot_image(snapshot_id))
            record |= {"state": loop_records.READY, "cost": cost}
            files.snapshots.write(snapshot_id, record)
            undo.pop_all()
        LOG.info("Created snapshot %(id)s of %(volume)s", {"id": snapshot_id, "volume": volume_id})
        return loop_records.as_snapshot(snapshot_id, record)

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
        files = self._files
        with (
            files.locks.hold(volume=volume_id, snapshot=snapshot_id),
            contextlib.ExitStack() as undo,
        ):
            source = files.find_snapshot(snapshot_id)
            wanted = storage_checks.clone_size(snapshot_id, source["size"], size)
            record = loop_records.new_volume(volume_id, wanted, owner, labels, source["filesystem"])
            record["shared"] = True
            files.clear(volume_id)
            self._space.reserve(files.volumes, volume_id, record, record["size"])
            undo.callback(files.discard, volume_id)
            record["shared"] = self._fill(volume_id, snapshot_id, record)
            record = files.write_ready(volume_id, record)
            undo.pop_all()
        LOG.info("Cloned %(from)s to volume %(id)s", {"from": snapshot_id, "id": volume_id})
        return loop_records.as_volume(volume_id, record)

    def restore(self, snapshot_id: str) -> storage.Volume:
        storage_checks.check_id(snapshot_id)
        files = self._files
        volume_id = files.find_snapshot(snapshot_id)["volume_id"]
        with files.locks.hold(volume=volume_id, snapshot=snapshot_id):
            source = files.find_snapshot(snapshot_id)
            record = files.settled(volume_id)
            files.detach(volume_id)
            restoring = {**record, "state": loop_records.RESTORING}
            more = max(0, source["size"] - record["size"])
            self._space.reserve(files.volumes, volume_id, restoring, more)
            image = files.image(volume_id)
            try:
                sparse.copy(files.snapshot_image(snapshot_id), image + ".new")
            except BaseException:
                files.finish(volume_id, restoring)
                raise
            os.rename(image + ".new", image)
            record = files.finish(volume_id, restoring)
        LOG.info("Restored volume %(id)s from %(from)s", {"id": volume_id, "from": snapshot_id})
        return loop_records.as_volume(volume_id, record)

    def delete_snapshot(self, snapshot_id: str) -> None:
        storage_checks.check_id(snapshot_id)
        with self._files.locks.hold(snapshot=snapshot_id):
            if record := self._files.snapshots.read(snapshot_id):
                record["state"] = loop_records.DELETING
                self._files.snapshots.write(snapshot_id, record)
                LOG.info("Deleting snapshot %(id)s", {"id": snapshot_id})
            self._files.discard_snapshot(snapshot_id)

    def list_snapshots(self, volume_id: str | None = None) -> list[storage.Snapshot]:
        found = [
            loop_records.as_snapshot(name, record)
            for name, record in self._files.snapshots.all().items()
            if record["state"] == loop_records.READY and volume_id in (None, record["volume_id"])
        ]
        return sorted(found, key=lambda snapshot: snapshot.created_at)

    def list(self, owner: str | None = None) -> list[storage.Volume]:
        return [
            loop_records.as_volume(name, record)
            for name, record in self._files.volumes.all().items()
            if record["state"] not in loop_records.PARTIAL and owner in (None, record["owner"])
        ]

    def capacity(self) -> storage.Capacity:
        return self._space.capacity()

    def usage(self, volume_id: str) -> int:
        storage_checks.check_id(volume_id)
        self._files.find(volume_id)
        return sparse.occupied(self._files.image(volume_id))

    def recover(self) -> None:
        self._files.recover()

    def _shrink(self, volume_id: str, record: records.Record, size: int) -> records.Record:
        image = self._files.image(volume_id)
        device = self._files.devices.attach(image)
        self._files.resizer.check_shrink(device, record["filesystem"])
        shrinking = {**record, "state": loop_records.RESIZING}
        self._files.volumes.write(volume_id, shrinking)
        try:
            self._files.resizer.shrink(device, record["filesystem"], size)
        except exceptions.ContainerStackError:
            self._files.finish(volume_id, shrinking)
            raise
        os.truncate(image, size)
        self._files.devices.resize(device)
        return self._files.write_ready(volume_id, {**record, "size": size})

    def _fill(self, volume_id: str, snapshot_id: str, record: records.Record) -> bool:
        """Give a new volume a snapshot's content, and return whether they share blocks."""
        image, kind = self._files.image(volume_id), record["filesystem"]
        shared = sparse.copy(self._files.snapshot_image(snapshot_id), image)
        larger = record["size"] > os.stat(image).st_size
        os.truncate(image, record["size"])
        device = self._files.devices.attach(image)
        self._filesystems.renew(device, kind)
        if larger:
            self._files.resizer.grow(device, kind)
        return shared
