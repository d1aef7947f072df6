# SPDX-License-Identifier: Apache-2.0
"""Which disks and EBS snapshots are a volume's, and how they come and go; see :mod:`.aws`."""

import contextlib
import logging
import os
from collections.abc import Iterator, Mapping
from typing import Any

from container_stack import exceptions
from container_stack.host import locks
from container_stack.volumes import backend
from container_stack.volumes.backends import (
    aws_attachments,
    aws_devices,
    aws_ec2,
    aws_instance,
    aws_model,
    aws_settings,
)

LOG = logging.getLogger(__name__)


class Disks:
    """The volumes of one driver in the availability zone of this instance.

    Sizes are GiB. For each volume one caller at a time, on all instances: ownership sees to that.
    """

    def __init__(self, options: backend.Options, find: aws_devices.Find) -> None:
        self._settings = options.settings
        self._patience = aws_settings.patience(options)
        self._find = find
        self._driver = options.name
        self._node = options.node_id or "-"
        self._spec = aws_settings.spec(options)
        self._locks = locks.ObjectLocks(os.path.join(options.directory, "locks"))
        self._opened: tuple[aws_attachments.Attachments, aws_ec2.EC2] | None = None

    def open(self) -> None:
        """Find out which instance this is, and whether EC2 lets us in.

        :raises HostNotReady: nobody knows the instance.
        :raises AccessDenied: the keys are wrong.
        """
        place = aws_instance.identify(self._settings)
        ec2 = aws_ec2.EC2(self._settings, place, self._patience)
        ec2.names()
        there = aws_attachments.Attachments(ec2, place.instance_id, self._locks)
        self._opened = there, ec2

    def recover(self) -> None:
        """Remove what something was to be made of, or couldn't be, when this host ended."""
        for disk in self._ec2.broken_disks(driver=self._driver):
            self._ec2.delete_disk(disk.id)
        for left in self._ec2.snapshots(driver=self._driver, temporary=self._node):
            self._ec2.delete_snapshot(left.id)
        found: dict[str, list[aws_model.Disk]] = {}
        for disk in self._ec2.disks(driver=self._driver):
            found.setdefault(disk.tags.get("id", ""), []).append(disk)
        for disks in found.values():
            for disk in sorted(disks, key=_turn)[:-1]:
                self._remove(disk)
        LOG.info(
            "Found %(count)d volumes of %(driver)s", {"count": len(found), "driver": self._driver}
        )

    # Looking --------------------------------------------------------------------------------

    def ids(self) -> list[str]:
        """Return the ids of all volumes, sorted."""
        tags = [disk.tags for disk in self._ec2.disks(driver=self._driver)]
        tags += [each.tags for each in self._ec2.snapshots(driver=self._driver)]
        tags = [each for each in tags if "temporary" not in each]
        return sorted({each["id"] for each in tags if "id" in each})

    def exists(self, volume_id: str) -> bool:
        """Return whether there is a volume."""
        return bool(self._all(volume_id) or self._snapshot(volume_id))

    def size(self, volume_id: str) -> int:
        """Return the size of a volume.

        :raises NotFound: there is none.
        """
        if disks := self._all(volume_id):
            return disks[0].size
        if snapshot := self._snapshot(volume_id):
            return snapshot.size
        raise exceptions.NotFound("Volume does not exist.")

    def disk(self, volume_id: str) -> aws_model.Disk:
        """Return a volume's disk, made of its EBS snapshot if need be.

        :raises NotFound: there is no such volume.
        """
        if disks := self._all(volume_id):
            return self._ready(disks[0])
        if snapshot := self._snapshot(volume_id):
            return self._make_of(snapshot, volume_id, 0)
        raise exceptions.NotFound("Volume does not exist.")

    # Lives ----------------------------------------------------------------------------------

    def create(self, volume_id: str, size: int, kind: str) -> None:
        """Make an empty disk, which wants a file system of a kind; idempotent."""
        if disks := self._all(volume_id):
            self._ready(disks[0])
            return
        tags = self._tags(volume_id, filesystem=kind)
        self._make(volume_id, tags, Size=size)

    def delete(self, volume_id: str) -> None:
        """Delete a volume, with all that belongs to it; idempotent.

        :raises Busy: it is attached to another instance.
        """
        for disk in self._all(volume_id):
            self._remove(disk)
        for snapshot in self._ec2.snapshots(driver=self._driver, id=volume_id):
            self._ec2.delete_snapshot(snapshot.id)

    def snapshot(self, volume_id: str, snapshot_id: str, *, read_only: bool) -> None:
        """Begin to keep what a disk holds now; the disk may go on as soon as this returns."""
        disk, content = self.disk(volume_id), "fixed" if read_only else "free"
        kind = disk.tags.get("filesystem", "")
        tags = self._tags(snapshot_id, filesystem=kind, content=content)
        self._ec2.create_snapshot(disk.id, tags)

    def grow(self, volume_id: str, size: int) -> None:
        """Give a volume more room; idempotent."""
        disk = self.disk(volume_id)
        if disk.size < size:
            self._ec2.grow_disk(disk.id, size)

    def restore(self, volume_id: str, snapshot_id: str) -> None:
        """Give a volume, which isn't attached, a new disk with what another holds."""
        old, own = self._all(volume_id), self._snapshot(volume_id)
        if not old and own is None:
            raise exceptions.NotFound("Volume does not exist.")
        turn = max((_turn(disk) for disk in old), default=0) + 1
        with self._content(snapshot_id, volume_id) as content:
            self._make_of(content, volume_id, turn)
        for disk in old:
            self._remove(disk)
        if own is not None:
            self._ec2.delete_snapshot(own.id)

    # Devices --------------------------------------------------------------------------------

    def attach(self, volume_id: str) -> str:
        """Attach a volume to this instance, and return its device's path; idempotent.

        An instance that doesn't run any more is no obstacle.

        :raises Busy: another instance has it.
        """
        disk = self.disk(volume_id)
        name = self._attachments.attach(disk)
        return self._ec2.wait(f"{disk.id} to appear", lambda: self._find(disk.id, name), bool)

    def detach(self, volume_id: str) -> None:
        """Detach a volume from this instance; idempotent.

        :raises NotFound: there is no such volume.
        """
        disks = self._all(volume_id)
        if not disks and self._snapshot(volume_id) is None:
            raise exceptions.NotFound("Volume does not exist.")
        for disk in disks:
            self._attachments.detach(disk)

    def take(self, volume_id: str) -> None:
        """Detach a volume from the other instances that had it by :meth:`attach`; idempotent.

        :raises Busy: an instance has it that took it in another way.
        """
        for disk in self._all(volume_id):
            self._attachments.take(disk)

    def await_size(self, device: str, size: int) -> None:
        """Wait until the kernel shows that a device has so many bytes."""
        self._ec2.wait(
            f"{device} to grow", lambda: aws_devices.size(device), lambda seen: seen >= size
        )

    @contextlib.contextmanager
    def marked(self, disk: aws_model.Disk, name: str, value: str) -> Iterator[None]:
        """Have a tag on a disk until what is done is done; it stays there if that fails."""
        self._ec2.tag(disk.id, name, value)
        yield
        self._ec2.tag(disk.id, name, "")

    # Parts ----------------------------------------------------------------------------------

    @property
    def _ec2(self) -> aws_ec2.EC2:
        if self._opened is None:
            self.open()
        assert self._opened is not None
        return self._opened[1]

    @property
    def _attachments(self) -> aws_attachments.Attachments:
        if self._opened is None:
            self.open()
        assert self._opened is not None
        return self._opened[0]

    def _all(self, volume_id: str) -> list[aws_model.Disk]:
        """Return a volume's disks, of which the first counts."""
        disks = self._ec2.disks(driver=self._driver, id=volume_id)
        return sorted(disks, key=_turn, reverse=True)

    def _snapshot(self, volume_id: str) -> aws_model.Snapshot | None:
        """Return the EBS snapshot that is a volume's content."""
        found = self._ec2.snapshots(driver=self._driver, id=volume_id)
        return next((each for each in found if "temporary" not in each.tags), None)

    def _tags(self, volume_id: str, **more: str) -> dict[str, str]:
        return {"id": volume_id, "driver": self._driver, **more}

    def _ready(self, disk: aws_model.Disk) -> aws_model.Disk:
        if disk.state in ("available", "in-use"):
            return disk
        return self._ec2.wait(
            f"{disk.id} to be made",
            lambda: self._ec2.disk(disk.id),
            lambda seen: seen.state in ("available", "in-use"),
        )

    def _make(self, token: str, tags: Mapping[str, str], **spec: Any) -> aws_model.Disk:
        with contextlib.ExitStack() as undo:
            disk = self._ec2.create_disk(token, tags, **spec, **self._spec)
            undo.callback(self._ec2.delete_disk, disk.id)
            ready = self._ready(disk)
            undo.pop_all()
        return ready

    def _make_of(self, content: aws_model.Snapshot, volume_id: str, turn: int) -> aws_model.Disk:
        """Make a disk of an EBS snapshot, which goes if nobody needs it any more."""
        content = self._ec2.await_snapshot(content)
        tags = self._tags(volume_id, turn=str(turn), filesystem=content.tags["filesystem"])
        token = f"{volume_id}-{turn}-{content.id}"[-64:]
        disk = self._make(token, tags, SnapshotId=content.id, Size=content.size)
        if content.tags.get("content") == "free" and content.tags["id"] == volume_id:
            self._ec2.delete_snapshot(content.id)
        return disk

    @contextlib.contextmanager
    def _content(self, volume_id: str, for_id: str) -> Iterator[aws_model.Snapshot]:
        """Have an EBS snapshot of what a volume holds."""
        own = self._snapshot(volume_id)
        if own is not None and (own.tags.get("content") == "fixed" or not self._all(volume_id)):
            yield own
            return
        disk = self.disk(volume_id)
        tags = self._tags(for_id, filesystem=disk.tags.get("filesystem", ""), temporary=self._node)
        made = self._ec2.create_snapshot(disk.id, tags)
        try:
            yield made
        finally:
            self._ec2.delete_snapshot(made.id)

    def _remove(self, disk: aws_model.Disk) -> None:
        self._attachments.detach(self._attachments.taken(disk))
        self._ec2.delete_disk(disk.id)


def _turn(disk: aws_model.Disk) -> int:
    return int(disk.tags.get("turn") or 0)
