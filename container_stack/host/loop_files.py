# SPDX-License-Identifier: Apache-2.0
"""The files of loop storage, and how what was killed half-way is finished or undone.

A record is written before the first thing that it tells of and removed after the last. Its
``state`` says what is under way; whoever holds the lock of a volume or snapshot and finds
something under way knows that whoever began it is dead.
"""

import contextlib
import logging
import os
from collections.abc import Iterator

from container_stack import exceptions
from container_stack.host import (
    filesystem,
    loop_devices,
    loop_records,
    mounts,
    records,
    resize,
    sparse,
    storage_locks,
)
from container_stack.rootwrap import executor

LOG = logging.getLogger(__name__)


class LoopFiles:
    """Images, records and devices. Callers hold the locks of what they name."""

    def __init__(self, runner: executor.Executor, filesystems: filesystem.Filesystems) -> None:
        self.volumes = records.Records(os.path.join(runner.state_dir, "volumes"))
        self.snapshots = records.Records(os.path.join(runner.state_dir, "snapshots"))
        self.devices = loop_devices.LoopDevices(runner)
        self.resizer = resize.Resizer(runner, filesystems)
        self._filesystems = filesystems
        self.locks = storage_locks.StorageLocks(runner.state_dir)

    def image(self, volume_id: str) -> str:
        """Return the path of a volume's file."""
        return self.volumes.path(volume_id, ".img")

    def snapshot_image(self, snapshot_id: str) -> str:
        """Return the path of a snapshot's file."""
        return self.snapshots.path(snapshot_id, ".img")

    def find(self, volume_id: str) -> records.Record:
        """Return a volume's record.

        :raises NotFound: there is none, or it is half-made.
        """
        record = self.volumes.read(volume_id)
        if record is None or record["state"] in loop_records.PARTIAL:
            raise exceptions.NotFound(f"There is no volume {volume_id}.")
        return record

    def find_snapshot(self, snapshot_id: str) -> records.Record:
        """Return a snapshot's record.

        :raises NotFound: there is none, or it is half-made.
        """
        record = self.snapshots.read(snapshot_id)
        if record is None or record["state"] in loop_records.PARTIAL:
            raise exceptions.NotFound(f"There is no snapshot {snapshot_id}.")
        return record

    def settled(self, volume_id: str) -> records.Record:
        """Return a volume's record after finishing what was under way."""
        record = self.find(volume_id)
        return record if record["state"] == loop_records.READY else self.finish(volume_id, record)

    def finish(self, volume_id: str, record: records.Record) -> records.Record:
        """Finish resizing or restoring, whatever has been done of it, and return the record.

        A file system that was to shrink, and may have, grows back.
        """
        image = self.image(volume_id)
        sparse.remove(image + ".new")
        if record["state"] == loop_records.RESTORING:
            # A rename, so the content is the old or the new as a whole, and so is the size.
            record = {**record, "size": os.stat(image).st_size}
        elif record["state"] == loop_records.RESIZING:
            device = self.devices.attach(image)
            self._filesystems.release(device)
            if os.stat(image).st_size != record["size"]:
                os.truncate(image, record["size"])
            self.devices.resize(device)
            self.resizer.grow(device, record["filesystem"])
        return self.write_ready(volume_id, record)

    def write_ready(self, volume_id: str, record: records.Record) -> records.Record:
        """Record that nothing is under way, and return the record."""
        record = {**record, "state": loop_records.READY}
        self.volumes.write(volume_id, record)
        return record

    def detach(self, volume_id: str) -> None:
        """Take the device away.

        :raises Busy: it is mounted, or otherwise open; nothing was changed.
        """
        device = self.devices.find(self.image(volume_id))
        if device and (used := mounts.of(device)):
            raise exceptions.Busy(f"{volume_id} is mounted at {used[0].path}; unmount it first.")
        self.devices.detach(self.image(volume_id))

    @contextlib.contextmanager
    def quiet(self, volume_id: str, kind: str) -> Iterator[None]:
        """Hold up the volume's writers, with all they wrote in its file."""
        device = self.devices.find(self.image(volume_id))
        if device is None:
            yield
            return
        with self._filesystems.frozen_device(device, kind):
            yield

    def clear(self, volume_id: str) -> None:
        """Make sure that a new volume can have this id: remove a half-made one.

        :raises AlreadyExists: a whole one has it.
        """
        record = self.volumes.read(volume_id)
        if record and record["state"] not in loop_records.PARTIAL:
            raise exceptions.AlreadyExists(f"There is a volume {volume_id} already.")
        self.discard(volume_id)

    def clear_snapshot(self, snapshot_id: str) -> None:
        """Make sure that a new snapshot can have this id, as :meth:`clear` does for volumes."""
        record = self.snapshots.read(snapshot_id)
        if record and record["state"] not in loop_records.PARTIAL:
            raise exceptions.AlreadyExists(f"There is a snapshot {snapshot_id} already.")
        self.discard_snapshot(snapshot_id)

    def discard(self, volume_id: str) -> None:
        """Remove all traces of a volume."""
        image = self.image(volume_id)
        if device := self.devices.find(image):
            self._filesystems.release(device)
            # A killed maker's mkfs may still run; the kernel detaches when it ends.
            with contextlib.suppress(exceptions.Busy):
                self.devices.detach(image)
        sparse.remove(image + ".new")
        sparse.remove(image)
        self.volumes.remove(volume_id)

    def discard_snapshot(self, snapshot_id: str) -> None:
        """Remove all traces of a snapshot."""
        sparse.remove(self.snapshot_image(snapshot_id))
        self.snapshots.remove(snapshot_id)

    def recover(self) -> None:
        """Finish or undo everything under way whose maker is dead; warn of what resists."""
        for name in _unfinished(self.snapshots):
            with self._attempt("snapshot", name):
                self._recover_snapshot(name)
        for name in _unfinished(self.volumes):
            with self._attempt("volume", name), self.locks.hold(volume=name):
                self._recover_volume(name)
        # A command that outlived its killed caller may have come too late.
        self.devices.detach_deleted(self.volumes.directory)

    def _recover_volume(self, name: str) -> None:
        record = self.volumes.read(name)
        if record is None or record["state"] in loop_records.PARTIAL:
            self.discard(name)
        elif record["state"] != loop_records.READY:
            self.finish(name, record)

    def _recover_snapshot(self, name: str) -> None:
        record = self.snapshots.read(name)
        volume_id = record["volume_id"] if record else None
        with self.locks.hold(volume=volume_id, snapshot=name):
            if self.snapshots.read(name) != record or (
                record and record["state"] == loop_records.READY
            ):
                return
            if volume_id and (device := self.devices.find(self.image(volume_id))):
                self._filesystems.release(device)
            self.discard_snapshot(name)

    @contextlib.contextmanager
    def _attempt(self, kind: str, name: str) -> Iterator[None]:
        try:
            yield
            LOG.info("Recovered %(kind)s %(name)s", {"kind": kind, "name": name})
        except (exceptions.ContainerStackError, OSError) as exc:
            LOG.warning(
                "Could not recover %(kind)s %(name)s: %(why)s",
                {"kind": kind, "name": name, "why": exc},
            )


def _unfinished(where: records.Records) -> list[str]:
    begun = [name for name, record in where.all().items() if record["state"] != loop_records.READY]
    return [*begun, *where.strays()]
