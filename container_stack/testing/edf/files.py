# SPDX-License-Identifier: Apache-2.0
"""The simulator's volumes as sparse files, and the links by which they are found.

Below one directory: ``volumes/UUID.img``, ``snapshots/UUID-TIMESTAMP.img``, and for each volume
that is online ``targets/IQN/lun-0``, as :mod:`container_stack.host.attach_file` wants it. They
outlive the process, and not a loss of power.
"""

import contextlib
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from container_stack.host import sparse


class Files:
    """The files below one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        for name in ("volumes", "snapshots", "targets"):
            (directory / name).mkdir(parents=True, exist_ok=True)

    def volume(self, uuid: str) -> Path:
        """Return where a volume's file is."""
        return self.directory / "volumes" / f"{uuid}.img"

    def create(self, uuid: str, size: int) -> None:
        """Make the file of a new volume, all of it a hole."""
        sparse.make(str(self.volume(uuid)), size)

    def copy(self, source: Path, uuid: str, size: int) -> None:
        """Make the file of a new volume with the data of another file."""
        sparse.copy(str(source), str(self.volume(uuid)), durable=False)
        self.grow(uuid, size)

    def grow(self, uuid: str, size: int) -> None:
        """Give a volume more room at its end."""
        os.truncate(self.volume(uuid), size)

    def occupied(self, uuid: str) -> int:
        """Return the bytes that a volume really takes."""
        return sparse.occupied(str(self.volume(uuid)))

    def remove(self, uuid: str) -> None:
        """Remove a volume with its snapshots; idempotent."""
        sparse.remove(str(self.volume(uuid)))
        for path in self.directory.glob(f"snapshots/{uuid}-*"):
            sparse.remove(str(path))

    def sweep(self, volumes: Iterable[Mapping[str, Any]]) -> None:
        """Remove all files and links but those of these volumes and of their snapshots."""
        kept = set()
        for each in volumes:
            kept.add(self.volume(each["uuid"]))
            kept |= {self.snapshot(each["uuid"], taken) for taken in each["snapshots"]}
        for name in ("volumes", "snapshots"):
            for path in set((self.directory / name).iterdir()) - kept:
                path.unlink()
        for target in (self.directory / "targets").iterdir():
            shutil.rmtree(target)

    # Snapshots ----------------------------------------------------------------------------

    def snapshot(self, uuid: str, timestamp: str) -> Path:
        """Return where a snapshot's file is."""
        return self.directory / "snapshots" / f"{uuid}-{timestamp}.img"

    def take(self, uuid: str, timestamp: str) -> None:
        """Keep a volume's data as they are now."""
        sparse.copy(str(self.volume(uuid)), str(self.snapshot(uuid, timestamp)), durable=False)

    def restore(self, uuid: str, timestamp: str) -> None:
        """Put back what a snapshot kept, in a file of the size that the volume has now."""
        volume = self.volume(uuid)
        new = volume.with_suffix(".new")
        sparse.copy(str(self.snapshot(uuid, timestamp)), str(new), durable=False)
        os.truncate(new, volume.stat().st_size)
        os.replace(new, volume)

    def drop(self, uuid: str, timestamp: str) -> None:
        """Remove a snapshot; idempotent."""
        sparse.remove(str(self.snapshot(uuid, timestamp)))

    # Links --------------------------------------------------------------------------------

    def link(self, iqn: str, uuid: str) -> None:
        """Show a volume under its target's name; idempotent."""
        directory = self._target(iqn)
        directory.mkdir(exist_ok=True)
        with contextlib.suppress(FileExistsError):
            (directory / "lun-0").symlink_to(os.path.relpath(self.volume(uuid), directory))

    def unlink(self, iqn: str) -> None:
        """Show it no more; idempotent."""
        directory = self._target(iqn)
        (directory / "lun-0").unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):
            directory.rmdir()

    def _target(self, iqn: str) -> Path:
        return self.directory / "targets" / iqn.replace(":", "_").replace("/", "_")
