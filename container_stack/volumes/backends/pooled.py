# SPDX-License-Identifier: Apache-2.0
"""Volumes in files on loop devices, and in a volume group: over the host layer's storage pools.

A pool's snapshot can't be mounted and depends on its volume. Here a snapshot is a volume of its
own: a clone, for whose making alone the pool has a snapshot. Restoring makes a second clone, and
then the first goes, so that at every moment the volume is there as a whole: its name in the pool
is its id, or that with ``.r`` behind it.
"""

import contextlib
from collections.abc import Callable, Mapping
from typing import ClassVar

from container_stack import exceptions
from container_stack.host import filesystem, loop, lvm, mounts, storage
from container_stack.volumes import backend, model
from container_stack.volumes.backends import device_notes

_KINDS = ("xfs", "ext4", "btrfs")
_OTHER = ".r"
_FILESYSTEM = "file system of volumes that don't name one: xfs, ext4 or btrfs"


class Pooled(
    backend.BlockBackend,
    backend.Snapshots,
    backend.Growing,
    backend.Restoring,
    backend.Counting,
):
    """Volumes in a pool of :class:`container_stack.host.storage.Storage`.

    A pool belongs to a state directory: two drivers of one kind share it, each with its own
    volumes. What only matters while a volume is in use, such as where its device began to count,
    is noted in the backend's directory.
    """

    limits = True

    def __init__(
        self,
        options: backend.Options,
        open_storage: Callable[[storage.Pool], storage.Storage],
        *,
        limit: int | None = None,
        volume_group: str | None = None,
        thin_pool: str | None = None,
    ) -> None:
        self._owner = options.name
        self._default = options.settings.get("filesystem") or _KINDS[0]
        filesystem.minimum_size(self._default)
        self._filesystems = filesystem.Filesystems(options.executor, programs=True)
        self._notes = device_notes.DeviceNotes(options, self._filesystems)
        self._pools = {
            kind: open_storage(
                storage.Pool(
                    options.executor,
                    filesystem=kind,
                    limit=limit,
                    volume_group=volume_group,
                    thin_pool=thin_pool,
                )
            )
            for kind in _KINDS
        }
        # They differ in what they make, not in what they find.
        self._storage = self._pools[self._default]

    @property
    def filesystems(self) -> tuple[str, ...]:
        return self._default, *(kind for kind in _KINDS if kind != self._default)

    def start(self) -> None:
        try:
            self._storage.capacity()
        except exceptions.NotFound as exc:
            raise exceptions.HostNotReady(str(exc)) from exc
        self._storage.recover()
        mine = {volume.id: volume for volume in self._storage.list(self._owner)}
        for name, volume in mine.items():
            if (other := mine.get(name + _OTHER)) is not None:
                self._storage.delete(min(volume, other, key=_turn).id)
        for left in self._storage.list_snapshots():
            if left.volume_id in mine:
                self._storage.delete_snapshot(left.id)

    def create(self, volume_id: str, spec: model.Spec) -> None:
        kind = spec.filesystem or self._default
        if kind not in self._pools:
            known = ", ".join(self.filesystems)
            raise exceptions.InvalidRequest(f"{kind!r} can't be had here; there are: {known}.")
        with contextlib.suppress(exceptions.NotFound):
            self._find(volume_id)
            return
        with contextlib.ExitStack() as undo:
            undo.callback(self._storage.delete, volume_id)
            self._pools[kind].create(volume_id, spec.size, owner=self._owner)
            self._storage.deactivate(volume_id)
            undo.pop_all()

    def delete(self, volume_id: str) -> None:
        for name in (volume_id, volume_id + _OTHER):
            self._storage.delete(name)
        self._notes.forget(volume_id)

    def attach(self, volume_id: str) -> str:
        device = self._storage.activate(self._find(volume_id).id)
        self._notes.attached(volume_id, device)
        return device

    def detach(self, volume_id: str) -> None:
        self._storage.deactivate(self._find(volume_id).id)
        self._notes.detached(volume_id)

    def format(self, volume_id: str, filesystem: str) -> None:
        present = self._find(volume_id).filesystem
        if filesystem not in ("", present):
            raise exceptions.InvalidRequest(
                f"The volume has {present}, and keeps it; {filesystem} can't be had."
            )

    def mount(self, volume_id: str, path: str, *, read_only: bool = False) -> None:
        kind = self._find(volume_id).filesystem
        self._filesystems.mount(self.attach(volume_id), path, kind, read_only=read_only)

    def unmount(self, volume_id: str, path: str) -> None:
        device = self._notes.device(volume_id)
        if device and (there := mounts.at(path)) and not there.is_of(device):
            return
        self._notes.measure(volume_id)
        self._filesystems.unmount(path)

    def list(self) -> list[str]:
        names = {volume.id.removesuffix(_OTHER) for volume in self._storage.list(self._owner)}
        return sorted(names)

    def usage(self, volume_id: str) -> model.Usage:
        return self._notes.usage(volume_id, self._find(volume_id).size)

    def snapshot(self, volume_id: str, snapshot_id: str, *, read_only: bool) -> None:
        source = self._find(volume_id)
        with contextlib.suppress(exceptions.NotFound):
            self._find(snapshot_id)
            return
        with contextlib.ExitStack() as undo:
            self._clone(source.id, snapshot_id, {}, undo)
            self._notes.copy_usage(volume_id, snapshot_id, source.size)
            undo.pop_all()

    def grow(self, volume_id: str, size: int) -> None:
        name = self._find(volume_id).id
        self._storage.grow(name, size)
        self._notes.has_grown(volume_id)
        if not self._notes.device(volume_id):
            self._storage.deactivate(name)

    def restore(self, volume_id: str, snapshot_id: str) -> None:
        old, source = self._find(volume_id), self._find(snapshot_id)
        self.detach(volume_id)  # refused while it is mounted
        new = volume_id if old.id != volume_id else volume_id + _OTHER
        with contextlib.ExitStack() as undo:
            self._clone(source.id, new, {"turn": str(_turn(old) + 1)}, undo)
            undo.pop_all()
        try:
            self._storage.delete(old.id)
        except exceptions.ContainerStackError:
            with contextlib.suppress(exceptions.NotFound):  # it went all the same: the new stays
                self._storage.get(old.id)
                self._storage.delete(new)
            raise
        self._notes.copy_usage(snapshot_id, volume_id, source.size)

    def stats(self, volume_id: str) -> model.Stats:
        return self._notes.stats(volume_id)

    def _find(self, volume_id: str) -> storage.Volume:
        for name in (volume_id, volume_id + _OTHER):
            with contextlib.suppress(exceptions.NotFound):
                return self._storage.get(name)
        raise exceptions.NotFound("Volume does not exist.")

    def _clone(
        self, source: str, name: str, labels: Mapping[str, str], undo: contextlib.ExitStack
    ) -> None:
        """Copy a volume of the pool as it is now; the copy has no device."""
        with contextlib.ExitStack() as always:
            always.callback(self._storage.delete_snapshot, name)
            self._storage.snapshot(source, name)
            undo.callback(self._storage.delete, name)
            self._storage.clone(name, name, owner=self._owner, labels=labels)
            self._storage.deactivate(name)


class Loop(Pooled):
    """Volumes in sparse files: what works on every host."""

    SETTINGS: ClassVar[Mapping[str, str] | None] = {
        "filesystem": _FILESYSTEM,
        "limit": "bytes that all volumes together may have; without it, what the disk has",
    }

    def __init__(self, options: backend.Options) -> None:
        super().__init__(options, loop.LoopStorage.open, limit=_number(options, "limit"))


class LVM(Pooled):
    """Volumes in a volume group."""

    SETTINGS: ClassVar[Mapping[str, str] | None] = {
        "filesystem": _FILESYSTEM,
        "volume_group": "name of the volume group; it must exist",
        "thin_pool": "name of a thin pool in it, which makes snapshots cheap",
    }

    def __init__(self, options: backend.Options) -> None:
        super().__init__(
            options,
            lvm.LVMStorage.open,
            volume_group=options.settings.get("volume_group"),
            thin_pool=options.settings.get("thin_pool") or None,
        )


def _turn(volume: storage.Volume) -> int:
    return int(volume.labels.get("turn", 0))


def _number(options: backend.Options, name: str) -> int | None:
    text = options.settings.get(name, "")
    if not text:
        return None
    if not text.isascii() or not text.isdigit():
        raise exceptions.InvalidRequest(f"{options.name}: {name} is a number of bytes.")
    return int(text)
