# SPDX-License-Identifier: Apache-2.0
"""One volume group: its logical volumes that are ours, and LVM's refusals as our errors."""

import contextlib
import time
from collections.abc import Iterator

from container_stack import exceptions
from container_stack.host import joint, lvm_report, lvm_tags, storage
from container_stack.rootwrap import commands, executor

#: Seconds to wait for one who looks into a device just made or unmounted, such as udev.
_PATIENCE = 3.0
#: LVM counts a volume's extents in 32 bits.
_MOST_EXTENTS = 2**32

Volumes = dict[str, lvm_report.LogicalVolume]


class VolumeGroup:
    """Runs LVM's commands in one volume group.

    A volume is called ``cs-<id>`` and a snapshot ``css-<id>``. What has such a name and not our
    tag with its id isn't ours: it is never returned, so it is never touched.
    """

    def __init__(self, runner: executor.Executor, name: str, thin_pool: str | None) -> None:
        self.name = name
        self.thin_pool = thin_pool
        self._executor = runner
        self._extent = 0
        self._list = joint.Joint(lambda: self.run(commands.lvm.LIST, group=self.name))

    def device(self, volume_id: str) -> str:
        """Return the path of a volume's device."""
        return f"/dev/{self.name}/cs-{volume_id}"

    def report(self) -> lvm_report.Group:
        """Return how full the group is.

        :raises NotFound: there is no such group.
        """
        return lvm_report.group(self.run(commands.lvm.GROUP, group=self.name))

    def all(self) -> Volumes:
        """Return every logical volume of the group by name, also those that aren't ours.

        :raises NotFound: there is no such group.
        """
        return lvm_report.logical_volumes(self._list())

    def ours(self) -> tuple[Volumes, Volumes]:
        """Return our volumes and our snapshots by id, in whatever state."""
        return ours(self.all())

    def find(self, volume_id: str) -> lvm_report.LogicalVolume:
        """Return a volume.

        :raises NotFound: there is none, or it is half-made.
        """
        found = self.ours()[0].get(volume_id)
        if found is None or lvm_tags.state(found) == lvm_tags.CREATING:
            raise exceptions.NotFound(f"There is no volume {volume_id} in {self.name}.")
        return found

    def find_snapshot(self, snapshot_id: str) -> tuple[lvm_report.LogicalVolume, storage.Snapshot]:
        """Return a snapshot, as LVM and as callers see it.

        :raises NotFound: there is none, or it is half-made.
        """
        volumes, snapshots = self.ours()
        found = snapshots.get(snapshot_id)
        if found is None or lvm_tags.is_partial(found):
            raise exceptions.NotFound(f"There is no snapshot {snapshot_id} in {self.name}.")
        return found, lvm_tags.as_snapshot(found, volumes)

    def snapshots(self) -> list[storage.Snapshot]:
        """Return all snapshots, also those that are being made anew after a merge."""
        volumes, snapshots = self.ours()
        made = {
            name: lvm_tags.as_snapshot(found, volumes)
            for name, found in snapshots.items()
            if not lvm_tags.is_partial(found)
        }
        for name, volume in volumes.items():
            if lvm_tags.state(volume) == lvm_tags.RESTORING:
                again, created = lvm_tags.pending(volume)
                time = lvm_tags.time(created)
                made.setdefault(again, storage.Snapshot(again, name, volume.size, time))
        return list(made.values())

    def volume_of(self, snapshot_id: str) -> str | None:
        """Return the id of a snapshot's volume, or None if there is no such snapshot."""
        volumes, snapshots = self.ours()
        if found := snapshots.get(snapshot_id):
            return found.tags["volume"]
        for name, volume in volumes.items():
            restoring = lvm_tags.state(volume) == lvm_tags.RESTORING
            if restoring and lvm_tags.pending(volume)[0] == snapshot_id:
                return name
        return None

    def capacity(self) -> storage.Capacity:
        """Return how full the group, or the thin pool in it, is."""
        found = self.all()
        volumes, snapshots = ours(found)
        if self.thin_pool:
            pool = found.get(self.thin_pool)
            if pool is None:
                raise exceptions.NotFound(
                    f"There is no thin pool {self.thin_pool} in {self.name}; make it: "
                    f"lvcreate --type thin-pool --size SIZE --name {self.thin_pool} {self.name}."
                )
            promised = sum(each.size for each in volumes.values() if each.pool == pool.name)
            return storage.Capacity(pool.size, pool.size - pool.data, promised)
        group = self.report()
        promised = sum(each.size for each in (*volumes.values(), *snapshots.values()))
        return storage.Capacity(group.size, group.free, promised)

    def check_space(self, size: int) -> None:
        """Refuse a thin volume that its pool could never hold, and one that LVM can't count.

        It may promise more than the pool has left. A thick one LVM itself refuses.

        :raises NoSpace: naming both figures.
        """
        if size >= _MOST_EXTENTS * (self._extent or self.report().extent):
            raise exceptions.NoSpace(f"No volume group has the {size} bytes wanted.")
        if self.thin_pool and size > (most := self.capacity().total):
            raise exceptions.NoSpace(
                f"{self.thin_pool} has {most} bytes, fewer than the {size} wanted."
            )

    def rounded(self, size: int) -> int:
        """Return a size in bytes, rounded up to whole extents."""
        if not self._extent:
            self._extent = self.report().extent
        return -(-size // self._extent) * self._extent

    def retag(self, volume_id: str, key: str, old: str, new: str) -> None:
        """Change a tag of a volume, in one step; idempotent."""
        if old != new:
            self.run(
                commands.lvm.RETAG,
                old=lvm_report.tag(key, old),
                new=lvm_report.tag(key, new),
                volume=f"{self.name}/cs-{volume_id}",
            )

    def remove(self, name: str) -> None:
        """Remove a logical volume; idempotent.

        :raises Busy: it is open.
        """
        end = time.monotonic() + _PATIENCE
        while True:
            try:
                self.run(commands.lvm.REMOVE, lv=f"{self.name}/{name}")
            except exceptions.NotFound:
                return
            except exceptions.Busy:
                if time.monotonic() > end:
                    raise
                time.sleep(0.1)
            else:
                return

    def run(self, command: commands.Command, **values: str | int) -> str:
        """Run a command of LVM's and return its output.

        :raises NotFound: no such group or volume.
        :raises NoSpace: too few free extents.
        :raises AlreadyExists: the name is taken.
        :raises Busy: the volume is open.
        """
        with self._translated():
            return self._executor.run(command, timeout=None, stdin=None, **values)

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except exceptions.CommandFailed as exc:
            said = exc.stderr
            if "Cannot process volume group" in said:
                raise exceptions.NotFound(
                    f"There is no volume group {self.name}; make it: vgcreate {self.name} DEVICE."
                ) from exc
            for words, error in _MEANINGS:
                if words in said:
                    raise error(f"{self.name}: {said}") from exc
            raise


#: What LVM 2.03 writes last, under LC_ALL=C.
_MEANINGS = (
    ("nsufficient free space", exceptions.NoSpace),
    ("already exists in volume group", exceptions.AlreadyExists),
    ("Failed to find logical volume", exceptions.NotFound),
    ("in use", exceptions.Busy),
    ("are reserved", exceptions.InvalidRequest),
)


def ours(found: Volumes) -> tuple[Volumes, Volumes]:
    """Return the volumes and the snapshots among logical volumes that are ours, by id."""
    return _tagged(found, "cs-"), _tagged(found, "css-")


def _tagged(found: Volumes, prefix: str) -> Volumes:
    return {
        name.removeprefix(prefix): volume
        for name, volume in sorted(found.items())
        if name.startswith(prefix) and volume.tags.get("id") == name.removeprefix(prefix)
    }
