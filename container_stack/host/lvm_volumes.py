# SPDX-License-Identifier: Apache-2.0
"""The volumes and snapshots of LVM storage, and how what was killed half-way is ended.

A volume's ``state`` tag says what is under way; whoever holds its lock and finds something under
way knows that whoever began it is dead.
"""

import contextlib
import dataclasses
import logging
import time
from collections.abc import Iterator, Mapping

from container_stack import exceptions
from container_stack.host import (
    filesystem,
    lvm_group,
    lvm_report,
    lvm_tags,
    mounts,
    resize,
    storage,
    storage_locks,
)
from container_stack.rootwrap import commands, executor

LOG = logging.getLogger(__name__)

#: Seconds to wait for a merge that another process began.
_MERGE_PATIENCE = 60.0
_MIB = 1024**2

LogicalVolume = lvm_report.LogicalVolume
Tags = Mapping[str, str]


class Volumes:
    """Volumes and snapshots in one volume group. Callers hold the locks of what they name."""

    def __init__(
        self,
        runner: executor.Executor,
        filesystems: filesystem.Filesystems,
        volume_group: str,
        thin_pool: str | None,
    ) -> None:
        self.group = lvm_group.VolumeGroup(runner, volume_group, thin_pool)
        self.resizer = resize.Resizer(runner, filesystems)
        self._executor = runner
        self._filesystems = filesystems
        self.locks = storage_locks.StorageLocks(runner.state_dir)

    def name(self, volume_id: str) -> str:
        """Return a volume's full name."""
        return f"{self.group.name}/cs-{volume_id}"

    # What is refused ---------------------------------------------------------------------

    def refuse_mounted(self, volume_id: str) -> None:
        """Refuse what needs a volume that nobody uses.

        :raises Busy: naming where it is mounted.
        """
        if used := mounts.of(self.group.device(volume_id)):
            raise exceptions.Busy(f"{volume_id} is mounted at {used[0].path}; unmount it first.")

    def refuse_resize(self, volume_id: str) -> None:
        """Refuse to resize a thick volume with snapshots, as LVM does.

        :raises NotSupported: naming them.
        """
        kept = [each.id for each in self.group.snapshots() if each.volume_id == volume_id]
        if kept and not self.group.thin_pool:
            raise exceptions.NotSupported(
                f"A thick volume with snapshots can't be resized; delete those of {volume_id} "
                f"({', '.join(kept)}) first, or use a thin pool."
            )

    # What is changed ---------------------------------------------------------------------

    def make(self, volume_id: str, size: int, tags: Tags) -> int:
        """Make a volume in the state "creating", and return its size.

        :raises AlreadyExists: the id is taken; nothing was changed.
        :raises NoSpace: nothing was changed.
        """
        rounded = self.group.rounded(size)
        self.group.check_space(rounded)
        if self.group.thin_pool:
            values: dict[str, str | int] = {
                **tags,
                "size": rounded,
                "pool": self.group.thin_pool,
                "group": self.group.name,
            }
            self._make(volume_id, commands.lvm.CREATE_THIN, **values)
        else:
            values = {**tags, "size": rounded, "group": self.group.name}
            self._make(volume_id, commands.lvm.CREATE, **values)
        return rounded

    def copy(self, source: LogicalVolume, volume_id: str, size: int, tags: Tags) -> None:
        """Make a volume in the state "creating" with a snapshot's content.

        :raises AlreadyExists: the id is taken; nothing was changed.
        :raises NoSpace: nothing was changed.
        """
        if source.pool:
            rounded = self.group.rounded(size)
            self.group.check_space(rounded)
            origin = f"{self.group.name}/{source.name}"
            self._make(volume_id, commands.lvm.CLONE_THIN, **tags, origin=origin)
            if rounded > source.size:
                self.extend(volume_id, rounded)
            return
        self.make(volume_id, size, tags)
        self.activate(self.group.find(source.tags["volume"]))
        origin = f"/dev/{self.group.name}/{source.name}"
        self._executor.run(commands.lvm.COPY, origin=origin, copy=self.group.device(volume_id))

    def discard_partial(self, volume_id: str) -> bool:
        """Remove a half-made volume and return whether there was one."""
        found = self.group.ours()[0].get(volume_id)
        if found is None or lvm_tags.state(found) != lvm_tags.CREATING:
            return False
        self._filesystems.release(self.group.device(volume_id))
        self.group.remove(f"cs-{volume_id}")
        return True

    def clear_snapshot(self, snapshot_id: str) -> None:
        """Make sure that a new snapshot can have this id: remove a half-made one.

        :raises AlreadyExists: a whole one has it.
        """
        found = self.group.ours()[1].get(snapshot_id)
        if found and not lvm_tags.is_partial(found):
            raise exceptions.AlreadyExists(f"There is a snapshot {snapshot_id} already.")
        if found:
            self.group.remove(f"css-{snapshot_id}")

    def activate(self, found: LogicalVolume) -> None:
        """Make a volume's device available, and those of its snapshots."""
        if not found.active:
            self.group.run(commands.lvm.ACTIVATE, volume=f"{self.group.name}/{found.name}")

    def set_state(self, volume_id: str, old: str, new: str) -> None:
        """Record what is under way with a volume."""
        self.group.retag(volume_id, "state", old, new)

    @contextlib.contextmanager
    def resizing(self, found: LogicalVolume) -> Iterator[None]:
        """Let the file system fill the volume after a change of its size, failed or not."""
        self.activate(found)
        self.set_state(found.tags["id"], lvm_tags.READY, lvm_tags.RESIZING)
        tags = {**found.tags, "state": lvm_tags.RESIZING}
        try:
            yield
        finally:
            self.finish(dataclasses.replace(found, tags=tags, active=True))

    def extend(self, volume_id: str, size: int) -> None:
        """Make a volume larger; its file system isn't."""
        self.group.run(commands.lvm.EXTEND, size=size, volume=self.name(volume_id))

    def reduce(self, volume_id: str, kind: str, size: int) -> None:
        """Make a volume's file system smaller, then the volume.

        :raises PossibleDataLoss: what is stored doesn't fit; nothing was lost.
        """
        self.resizer.shrink(self.group.device(volume_id), kind, size)
        self.group.run(commands.lvm.REDUCE, size=size, volume=self.name(volume_id))

    def snapshot(self, found: LogicalVolume, snapshot_id: str, created: str) -> storage.Snapshot:
        """Make a snapshot of a volume and return it.

        LVM freezes xfs and ext4 itself. btrfs it may not find, so that is made to write out
        what it holds; it is whole at any moment.
        """
        volume_id, kind = found.tags["id"], found.tags["filesystem"]
        if kind == "btrfs":
            with self._filesystems.frozen_device(self.group.device(volume_id), kind):
                pass
        tags = lvm_tags.of_new_snapshot(snapshot_id, volume_id, kind, created)
        values = {**tags, "name": f"css-{snapshot_id}", "origin": self.name(volume_id)}
        if found.pool:
            self.group.run(commands.lvm.SNAPSHOT_THIN, **values)
        else:
            # Room for every block of the volume and for LVM's notes; LVM cuts off the excess.
            most = self.group.rounded(found.size + found.size // 32 + 16 * _MIB)
            self.group.run(commands.lvm.SNAPSHOT, **values, size=most)
        return storage.Snapshot(snapshot_id, volume_id, found.size, lvm_tags.time(created))

    def restore(self, found: LogicalVolume, source: LogicalVolume) -> None:
        """Put a volume back to its snapshot, and make the snapshot anew."""
        volume_id = found.tags["id"]
        restoring = f"{lvm_tags.RESTORING}&{source.tags['id']}&{source.tags['created']}"
        self.set_state(volume_id, lvm_tags.READY, restoring)
        self.finish(self.group.find(volume_id))

    # What is ended -----------------------------------------------------------------------

    def settled(self, volume_id: str) -> LogicalVolume:
        """Return a volume after finishing what was under way."""
        found = self.group.find(volume_id)
        if lvm_tags.state(found) == lvm_tags.READY:
            return found
        self.finish(found)
        return self.group.find(volume_id)

    def finish(self, found: LogicalVolume) -> None:
        """Finish resizing or restoring, whatever has been done of it.

        A file system that was to shrink, and may have, grows back.
        """
        volume_id = found.tags["id"]
        self.activate(found)
        if lvm_tags.state(found) == lvm_tags.RESTORING:
            self._finish_restoring(found)
        else:
            device = self.group.device(volume_id)
            self._filesystems.release(device)
            self.resizer.grow(device, found.tags["filesystem"])
        self.set_state(volume_id, found.tags["state"], lvm_tags.READY)

    def _finish_restoring(self, found: LogicalVolume) -> None:
        volume_id = found.tags["id"]
        snapshot_id, created = lvm_tags.pending(found)
        if found.merging:
            self._await_merge(volume_id)
        elif snapshot_id in self.group.ours()[1]:
            name = f"{self.group.name}/css-{snapshot_id}"
            self.group.run(commands.lvm.MERGE, snapshot=name)
        # Nobody has written to the volume since: what is taken now is what was merged.
        self.snapshot(self.group.find(volume_id), snapshot_id, created)

    def _await_merge(self, volume_id: str) -> None:
        end = time.monotonic() + _MERGE_PATIENCE
        self.group.run(commands.lvm.RESUME_MERGE, volume=self.name(volume_id))
        while self.group.find(volume_id).merging:
            if time.monotonic() > end:
                raise exceptions.Busy(f"{volume_id} is being restored; try again later.")
            time.sleep(0.5)

    def recover(self) -> None:
        """Finish or undo everything under way whose maker is dead; warn of what resists."""
        volumes, snapshots = self.group.ours()
        for name, found in snapshots.items():
            if lvm_tags.is_partial(found):
                with _attempt("snapshot", name), self.locks.hold(snapshot=name):
                    self._recover_snapshot(name)
        for name, found in volumes.items():
            if lvm_tags.state(found) != lvm_tags.READY:
                with _attempt("volume", name), self.locks.hold(volume=name):
                    self._recover_volume(name)

    def _recover_volume(self, name: str) -> None:
        if not self.discard_partial(name):
            with contextlib.suppress(exceptions.NotFound):
                self.settled(name)

    def _recover_snapshot(self, name: str) -> None:
        with contextlib.suppress(exceptions.AlreadyExists):
            self.clear_snapshot(name)

    def _make(self, volume_id: str, command: commands.Command, **values: str | int) -> None:
        """Make a logical volume, in place of a half-made one if need be."""
        name = f"cs-{volume_id}"
        try:
            self.group.run(command, name=name, **values)
        except exceptions.AlreadyExists:
            if not self.discard_partial(volume_id):
                raise
            self.group.run(command, name=name, **values)


@contextlib.contextmanager
def _attempt(kind: str, name: str) -> Iterator[None]:
    try:
        yield
        LOG.info("Recovered %(kind)s %(name)s", {"kind": kind, "name": name})
    except exceptions.ContainerStackError as exc:
        LOG.warning(
            "Could not recover %(kind)s %(name)s: %(why)s", {"kind": kind, "name": name, "why": exc}
        )
