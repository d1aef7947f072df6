# SPDX-License-Identifier: Apache-2.0
"""Volumes as subvolumes of btrfs: made, snapshotted and restored at once, whatever they hold."""

import os
from collections.abc import Mapping
from typing import ClassVar

from container_stack import exceptions
from container_stack.host import btrfs
from container_stack.rootwrap import commands
from container_stack.volumes import backend, model


class Subvolumes(
    backend.Backend,
    backend.Snapshots,
    backend.Growing,
    backend.Restoring,
    backend.Sending,
    backend.Watching,
):
    """One subvolume for each volume; its size is a limit, which no data are set aside for."""

    SETTINGS: ClassVar[Mapping[str, str] | None] = {
        "root_vol": "directory on btrfs for the volumes; default: backends/<name> in state_dir"
    }

    filesystems = ("btrfs",)
    limits = True

    def __init__(self, options: backend.Options) -> None:
        self._directory = options.directory
        self._root = options.settings.get("root_vol") or ""
        if self._root and not os.path.isabs(self._root):
            raise exceptions.InvalidRequest(f"{options.name}: root_vol is an absolute path.")
        commands.btrfs.QUOTA.argv(options.executor.state_dir, root=options.directory)
        self._subvolumes = btrfs.Subvolumes(options.executor, options.directory)

    def start(self) -> None:
        if self._root:
            self._link()
        else:
            os.makedirs(self._directory, mode=0o700, exist_ok=True)
        self._subvolumes.prepare()
        self._subvolumes.recover()

    def create(self, volume_id: str, spec: model.Spec) -> None:
        if spec.filesystem not in ("", "btrfs"):
            raise exceptions.InvalidRequest(f"{spec.filesystem!r} can't be had here, but btrfs.")
        self._subvolumes.create(volume_id, spec.size)

    def delete(self, volume_id: str) -> None:
        self._subvolumes.delete(volume_id)

    def mount(self, volume_id: str, path: str, *, read_only: bool = False) -> None:
        self._subvolumes.mount(volume_id, path, read_only=read_only)

    def unmount(self, volume_id: str, path: str) -> None:
        self._subvolumes.unmount(volume_id, path)

    def list(self) -> list[str]:
        return self._subvolumes.names()

    def usage(self, volume_id: str) -> model.Usage:
        found = self._subvolumes.figures(volume_id)
        return model.Usage(used=found.used, limit=found.limit)

    def snapshot(self, volume_id: str, snapshot_id: str, *, read_only: bool) -> None:
        self._subvolumes.snapshot(volume_id, snapshot_id, read_only=read_only)

    def grow(self, volume_id: str, size: int) -> None:
        self._subvolumes.grow(volume_id, size)

    def restore(self, volume_id: str, snapshot_id: str) -> None:
        self._subvolumes.replace(volume_id, snapshot_id)

    def send(self, snapshot_id: str, path: str, *, since: str = "") -> None:
        self._subvolumes.send(snapshot_id, path, since=since)

    def receive(self, snapshot_id: str, path: str, size: int) -> None:
        self._subvolumes.receive(snapshot_id, path, size)

    def watch(self) -> None:
        self._subvolumes.look()

    def _link(self) -> None:
        """Let the place in the state directory, which root's commands know, be the root volume."""
        if not os.path.isdir(self._root):
            raise exceptions.HostNotReady(f"There is no directory {self._root}: make it on btrfs.")
        try:
            os.makedirs(os.path.dirname(self._directory), mode=0o700, exist_ok=True)
            os.symlink(self._root, self._directory)
        except FileExistsError as exc:
            there = os.path.realpath(self._directory)
            if there != os.path.realpath(self._root):
                raise exceptions.HostNotReady(
                    f"{self._directory} is {there} already, not {self._root}: move it away."
                ) from exc
