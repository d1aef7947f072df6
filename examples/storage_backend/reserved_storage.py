# SPDX-License-Identifier: Apache-2.0
"""Volumes that take their space at once, so that a disk which fills up stops no share.

Volumes of ``loop`` storage are sparse: if something else fills the disk, writes to a share fail
though the share has room. Here the disk's blocks belong to the volume from the beginning. Blocks
that a snapshot shares are the exception: to change them takes new ones.
"""

import contextlib
import errno
import os
from collections.abc import Mapping
from typing import Any

from container_stack import exceptions
from container_stack.host import loop, storage


class ReservedStorage(loop.LoopStorage):
    """Volumes in files whose every block is allocated: ext4, xfs, btrfs or tmpfs below them."""

    def __init__(self, runner: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(runner, *args, **kwargs)
        self._directory = os.path.join(runner.state_dir, "volumes")

    def create(
        self, volume_id: str, size: int, *, owner: str, labels: Mapping[str, str] | None = None
    ) -> storage.Volume:
        volume = super().create(volume_id, size, owner=owner, labels=labels)
        return self._reserve(volume, or_delete=True)

    def clone(
        self,
        snapshot_id: str,
        volume_id: str,
        *,
        size: int | None = None,
        owner: str,
        labels: Mapping[str, str] | None = None,
    ) -> storage.Volume:
        volume = super().clone(snapshot_id, volume_id, size=size, owner=owner, labels=labels)
        return self._reserve(volume, or_delete=True)

    def grow(self, volume_id: str, size: int) -> storage.Volume:
        return self._reserve(super().grow(volume_id, size))

    def restore(self, snapshot_id: str) -> storage.Volume:
        return self._reserve(super().restore(snapshot_id))

    def recover(self) -> None:
        super().recover()
        for volume in self.list():
            with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
                self._reserve(volume)

    def usage(self, volume_id: str) -> int:
        return self.get(volume_id).size

    def _reserve(self, volume: storage.Volume, *, or_delete: bool = False) -> storage.Volume:
        """Allocate every block of a volume's file; those with data keep it; idempotent."""
        try:
            with open(os.path.join(self._directory, f"{volume.id}.img"), "r+b") as image:
                os.posix_fallocate(image.fileno(), 0, volume.size)
        except OSError as exc:
            if exc.errno != errno.ENOSPC:
                raise
            if or_delete:
                self.delete(volume.id)
            raise exceptions.NoSpace(f"The disk has no room for {volume.id}; free some.") from exc
        return volume
