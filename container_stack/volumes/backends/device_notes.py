# SPDX-License-Identifier: Apache-2.0
"""What matters of a volume only while its device is here: where that is, and its figures."""

import os
from typing import Any

from container_stack import exceptions
from container_stack.host import abilities, filesystem, mounts, records
from container_stack.volumes import backend, model
from container_stack.volumes.backends import block_stats


class DeviceNotes:
    """Notes in a backend's directory, one file a volume.

    When the host has been started anew nothing is attached, whatever was noted: what was one
    volume's device may be another's now.
    """

    def __init__(self, options: backend.Options, filesystems: filesystem.Filesystems) -> None:
        self._filesystems = filesystems
        self._notes = records.Records(os.path.join(options.directory, "notes"))

    def attached(self, volume_id: str, device: str) -> None:
        """Note where a device has come to be, and what it had done before."""
        if self.device(volume_id) != device:
            self._change(volume_id, device=device, since=block_stats.read(device))

    def detached(self, volume_id: str) -> None:
        """Note that it is gone; what its data took stays noted."""
        if self.device(volume_id):
            self._change(volume_id, device="", since=None, filesystem="")

    def forget(self, volume_id: str) -> None:
        """Note nothing any more."""
        self._notes.remove(volume_id)

    def device(self, volume_id: str) -> str:
        """Return where a volume's device is, or ""."""
        return str(self._read(volume_id).get("device", ""))

    def devices(self) -> list[str]:
        """Return where all devices are that are still there."""
        found = [self.device(volume_id) for volume_id in self._notes.names()]
        return [device for device in found if os.path.exists(device)]

    def filesystem(self, volume_id: str) -> str:
        """Return the file system that was seen on the device, or ""."""
        return str(self._read(volume_id).get("filesystem", ""))

    def set_filesystem(self, volume_id: str, kind: str) -> None:
        """Note the file system on an attached device."""
        if self.filesystem(volume_id) != kind:
            self._change(volume_id, filesystem=kind)

    def refuse_mounted(self, volume_id: str) -> None:
        """Refuse what needs a device that isn't mounted.

        :raises Busy: naming where it is.
        """
        device = self.device(volume_id)
        for mount in mounts.of(device) if device else ():
            raise exceptions.Busy(f"The volume is mounted at {mount.path}; unmount it first.")

    def measure(self, volume_id: str) -> None:
        """Note what the data of a mounted volume take, for when it is mounted no more."""
        if usage := self._mounted_usage(volume_id):
            self._change(volume_id, used=usage.used, limit=usage.limit)

    def usage(self, volume_id: str, size: int) -> model.Usage:
        """Return what a volume's data take, or took when it was last mounted."""
        if usage := self._mounted_usage(volume_id):
            return usage
        note = self._read(volume_id)
        return model.Usage(used=note.get("used", 0), limit=note.get("limit") or size)

    def copy_usage(self, volume_id: str, other_id: str, size: int) -> None:
        """Note for a copy of a volume what its data take."""
        usage = self.usage(volume_id, size)
        self._change(other_id, used=usage.used, limit=usage.limit)

    def has_grown(self, volume_id: str) -> None:
        """Note that what was measured isn't the limit any more."""
        self._change(volume_id, limit=0)

    def stats(self, volume_id: str) -> model.Stats:
        """Return what a device did since it was attached.

        :raises NotSupported: there is none.
        """
        note = self._read(volume_id)
        if not note.get("device"):
            raise exceptions.NotSupported("Volume is detached")
        return block_stats.since(note["device"], note["since"])

    def _mounted_usage(self, volume_id: str) -> model.Usage | None:
        device = self.device(volume_id)
        used = mounts.of(device) if device else []
        if not used:
            return None
        found = self._filesystems.usage(used[0].path)
        return model.Usage(used=found.used, limit=found.total)

    def _read(self, volume_id: str) -> records.Record:
        note = self._notes.read(volume_id) or {}
        if note.get("boot") != abilities.boot_id():
            note = {name: note[name] for name in ("used", "limit") if name in note}
        return note

    def _change(self, volume_id: str, **changes: Any) -> None:
        note = {**self._read(volume_id), **changes, "boot": abilities.boot_id()}
        self._notes.write(volume_id, note)
