# SPDX-License-Identifier: Apache-2.0
"""Volumes in memory: fast, never on a disk, and gone when the host is started anew.

A volume is a tmpfs of its own, so that its size is a limit. Containers get bind mounts of it:
while it lives, what they wrote stays.
"""

import contextlib
import os
from collections.abc import Mapping
from typing import ClassVar

from container_stack import exceptions
from container_stack.host import mount_points, mounts
from container_stack.rootwrap import commands
from container_stack.volumes import backend, model

MAKE = commands.Command(
    "scratch_make",
    "mount -t tmpfs -o size={size:size},mode=755,nosuid,nodev scratch {path:kept}",
    idempotent=False,
)
GROW = commands.Command("scratch_grow", "mount -o remount,size={size:size} {path:kept}")
REMOVE = commands.Command("scratch_remove", "umount {path:kept}", idempotent=False)
COMMANDS = (MAKE, GROW, REMOVE)


class ScratchVolumes(backend.Backend, backend.Growing):
    """A tmpfs for each volume, mounted below ``<state_dir>/backends/<name>/volumes``."""

    SETTINGS: ClassVar[Mapping[str, str] | None] = {}

    filesystems = ("tmpfs",)
    limits = True

    def __init__(self, options: backend.Options) -> None:
        self._executor = options.executor
        self._top = os.path.join(options.directory, "volumes")
        self._points = mount_points.MountPoints(options.executor)
        self._memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")

    def start(self) -> None:
        mount_points.make_private(self._top)
        for name in set(os.listdir(self._top)) - set(self.list()):
            os.rmdir(self._path(name))  # made just before a crash

    def create(self, volume_id: str, spec: model.Spec) -> None:
        if spec.filesystem not in ("", "tmpfs"):
            raise exceptions.InvalidRequest(f"{spec.filesystem} can't be had, but tmpfs.")
        self._check(spec.size)
        if volume_id in self.list():
            return
        path = self._path(volume_id)
        with contextlib.ExitStack() as undo:
            os.makedirs(path, exist_ok=True)
            undo.callback(os.rmdir, path)
            self._executor.run(MAKE, size=spec.size, path=path)
            undo.pop_all()

    def delete(self, volume_id: str) -> None:
        path = self._path(volume_id)
        mount_points.refuse_bound(path)
        if volume_id in self.list():
            self._executor.run(REMOVE, path=path)
        with contextlib.suppress(FileNotFoundError):
            os.rmdir(path)

    def mount(self, volume_id: str, path: str, *, read_only: bool = False) -> None:
        self._points.bind(self._existing(volume_id), path, read_only=read_only)

    def unmount(self, volume_id: str, path: str) -> None:
        self._points.unmount(path)

    def list(self) -> list[str]:
        return sorted(os.path.basename(mount.path) for mount in mounts.below(self._top))

    def usage(self, volume_id: str) -> model.Usage:
        found = os.statvfs(self._existing(volume_id))
        used = (found.f_blocks - found.f_bfree) * found.f_frsize
        return model.Usage(used=used, limit=found.f_blocks * found.f_frsize)

    def grow(self, volume_id: str, size: int) -> None:
        self._check(size)
        if size < self.usage(volume_id).limit:
            raise exceptions.InvalidRequest("The volume is larger already.")
        self._executor.run(GROW, size=size, path=self._path(volume_id))

    def _check(self, size: int) -> None:
        if size > self._memory:
            raise exceptions.NoSpace(f"This host has {self._memory} bytes of memory, not {size}.")

    def _existing(self, volume_id: str) -> str:
        if volume_id not in self.list():
            raise exceptions.NotFound("Volume does not exist.")
        return self._path(volume_id)

    def _path(self, volume_id: str) -> str:
        return os.path.join(self._top, volume_id)
