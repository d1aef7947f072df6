# SPDX-License-Identifier: Apache-2.0
"""Volumes of Amazon's EBS, each on the instance that uses it.

A volume is what has the tags ``container_stack.id`` and ``container_stack.driver``: an EBS volume
(here: a disk), an EBS snapshot, or both.

- An empty volume is a disk.
- A snapshot, or a clone, begins as an EBS snapshot, which is there at once. The first time that it
  is attached a disk is made of it. A writable one needs its EBS snapshot no more then.
- A volume that is restored gets a second disk, whose ``turn`` is higher; then the first one goes.
  So at every moment the volume is there as a whole.

EBS snapshots that are ``temporary`` are nobody's content: something is made of them, and they go.
"""

import contextlib
from collections.abc import Iterator, Mapping
from typing import ClassVar

from container_stack import exceptions
from container_stack.host import filesystem, mounts, resize
from container_stack.rootwrap import commands
from container_stack.volumes import backend, model
from container_stack.volumes.backends import aws_devices, aws_disks, aws_instance, device_notes

_KINDS = ("xfs", "ext4")
GIB = 1024**3
#: GiB that no EBS volume exceeds.
_LARGEST = 65536


class EBS(
    backend.BlockBackend,
    backend.Snapshots,
    backend.Growing,
    backend.Restoring,
    backend.Counting,
    backend.Taking,
):
    """EBS volumes in the availability zone of this instance, where all instances reach them.

    :param find: where the kernel shows an attached disk.
    :param unit: bytes in which sizes are counted.
    """

    SETTINGS: ClassVar[Mapping[str, str] | None] = {
        "aws_access_key_id": "key; without it, what Amazon's library finds: the environment, "
        "~/.aws, the role of the instance",
        "aws_secret_access_key": "the key's secret",
        "aws_session_token": "of temporary keys",
        "instance_id": "of this host; default, as of the two next: what the metadata service says",
        "region": "such as eu-central-1",
        "availability_zone": "such as eu-central-1a",
        "endpoint_url": "of EC2, if it isn't Amazon's own of the region",
        "metadata_url": f"of the metadata service; default: {aws_instance.URL}",
        "volume_type": "of EBS: gp3 (the default), gp2, io1, io2, st1, sc1 or standard",
        "iops": "operations a second that are paid for; needed for io1 and io2",
        "encrypted": "true to encrypt; default: as the account says",
        "kms_key_id": "key to encrypt with; default: the account's",
        "filesystem": "of volumes that don't name one: xfs (the default) or ext4",
        "timeout": "seconds in which EC2 must have done something; default: 300",
    }

    shared = limits = True

    def __init__(
        self,
        options: backend.Options,
        *,
        find: aws_devices.Find = aws_devices.find,
        unit: int = GIB,
    ) -> None:
        settings = options.settings
        if bool(settings.get("aws_access_key_id")) != bool(settings.get("aws_secret_access_key")):
            raise exceptions.InvalidRequest(
                f"{options.name}: aws_access_key_id and aws_secret_access_key belong together."
            )
        self._default = settings.get("filesystem") or _KINDS[0]
        if self._default not in _KINDS:
            raise exceptions.InvalidRequest(
                f"{options.name}: filesystem is one of {', '.join(_KINDS)}."
            )
        self._executor = options.executor
        self._disks = aws_disks.Disks(options, find)
        self._filesystems = filesystem.Filesystems(options.executor, programs=True)
        self._resizer = resize.Resizer(options.executor, self._filesystems)
        self._notes = device_notes.DeviceNotes(options, self._filesystems)
        self._unit = unit

    @property
    def filesystems(self) -> tuple[str, ...]:
        return self._default, *(kind for kind in _KINDS if kind != self._default)

    def start(self) -> None:
        try:
            self._disks.open()
            self._disks.recover()
        except (exceptions.AccessDenied, exceptions.ServiceUnavailable) as exc:
            raise exceptions.HostNotReady(str(exc)) from exc
        for device in self._notes.devices():
            self._filesystems.release(device)

    def create(self, volume_id: str, spec: model.Spec) -> None:
        kind = spec.filesystem or self._default
        if kind not in _KINDS:
            raise exceptions.InvalidRequest(
                f"{kind!r} can't be had here; there are: {', '.join(_KINDS)}."
            )
        if spec.size < filesystem.minimum_size(kind):
            raise exceptions.InvalidRequest(
                f"{kind} needs at least {filesystem.minimum_size(kind)} bytes."
            )
        self._disks.create(volume_id, self._units(spec.size), kind)

    def delete(self, volume_id: str) -> None:
        self._notes.refuse_mounted(volume_id)
        self._disks.delete(volume_id)
        self._notes.forget(volume_id)

    def attach(self, volume_id: str) -> str:
        device = self._disks.attach(volume_id)
        self._notes.attached(volume_id, device)
        return device

    def detach(self, volume_id: str) -> None:
        self._notes.refuse_mounted(volume_id)
        self._disks.detach(volume_id)
        self._notes.detached(volume_id)

    def take(self, volume_id: str) -> None:
        self._disks.take(volume_id)

    def format(self, volume_id: str, filesystem: str) -> None:
        device, disk = self.attach(volume_id), self._disks.disk(volume_id)
        present = self._present(volume_id, device)
        wanted = filesystem or present or disk.tags.get("filesystem") or self._default
        if wanted not in _KINDS or (present not in ("", wanted) and "making" not in disk.tags):
            raise exceptions.InvalidRequest(
                f"The volume has {present or 'no file system'}; {wanted} can't be had."
            )
        if not present or "making" in disk.tags:
            if present:
                self._executor.run(commands.fs.on(device, commands.fs.WIPE), device=device)
            with self._disks.marked(disk, "making", wanted):
                self._filesystems.make(device, wanted)
        self._notes.set_filesystem(volume_id, wanted)

    def mount(self, volume_id: str, path: str, *, read_only: bool = False) -> None:
        device = self.attach(volume_id)
        kind = self._present(volume_id, device)
        if not kind:
            raise exceptions.InvalidRequest("The volume has no file system: format it first.")
        self._filesystems.mount(device, path, kind, read_only=read_only)

    def unmount(self, volume_id: str, path: str) -> None:
        device = self._notes.device(volume_id)
        if device and (there := mounts.at(path)) and not there.is_of(device):
            return
        self._notes.measure(volume_id)
        self._filesystems.unmount(path)

    def list(self) -> list[str]:
        return self._disks.ids()

    def usage(self, volume_id: str) -> model.Usage:
        return self._notes.usage(volume_id, self._disks.size(volume_id) * self._unit)

    def snapshot(self, volume_id: str, snapshot_id: str, *, read_only: bool) -> None:
        if self._disks.exists(snapshot_id):
            return
        with self._still(volume_id):
            self._disks.snapshot(volume_id, snapshot_id, read_only=read_only)
        size = self._disks.size(volume_id) * self._unit
        self._notes.copy_usage(volume_id, snapshot_id, size)

    def grow(self, volume_id: str, size: int) -> None:
        units, present = self._units(size), self._disks.size(volume_id)
        if units < present:
            raise exceptions.InvalidRequest(f"It is larger already: {present * self._unit} bytes.")
        here = self._notes.device(volume_id)
        if here:
            self._resizer.check_grow(here, self._present(volume_id, here))
        self._disks.grow(volume_id, units)
        device = self.attach(volume_id)
        self._disks.await_size(device, units * self._unit)
        if kind := self._present(volume_id, device):
            self._resizer.grow(device, kind)
        self._notes.has_grown(volume_id)
        if not here:
            self.detach(volume_id)

    def restore(self, volume_id: str, snapshot_id: str) -> None:
        if not self._disks.exists(snapshot_id):
            raise exceptions.NotFound("Volume does not exist.")
        self.detach(volume_id)
        self._disks.restore(volume_id, snapshot_id)
        size = self._disks.size(snapshot_id) * self._unit
        self._notes.copy_usage(snapshot_id, volume_id, size)

    def stats(self, volume_id: str) -> model.Stats:
        return self._notes.stats(volume_id)

    def _present(self, volume_id: str, device: str) -> str:
        """Return the file system on an attached device, or ""."""
        kind = self._notes.filesystem(volume_id)
        if not kind:
            try:
                kind = self._executor.run(
                    commands.fs.on(device, commands.fs.PROBE), device=device
                ).strip()
            except exceptions.CommandFailed as exc:
                if exc.exit_code != 2:  # nothing is there
                    raise
            if kind in _KINDS and "making" not in self._disks.disk(volume_id).tags:
                self._notes.set_filesystem(volume_id, kind)
        return kind

    @contextlib.contextmanager
    def _still(self, volume_id: str) -> Iterator[None]:
        """Have everything written onto the disk, and nothing changed, for a moment."""
        device = self._notes.device(volume_id)
        if not device or not mounts.of(device):
            yield
            return
        with self._filesystems.frozen_device(device, self._present(volume_id, device)):
            yield

    def _units(self, size: int) -> int:
        units = -(-size // self._unit)
        if units > _LARGEST:
            raise exceptions.InvalidRequest(f"EBS has no volume larger than {_LARGEST} GiB.")
        return units
