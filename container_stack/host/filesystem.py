# SPDX-License-Identifier: Apache-2.0
"""File systems on block devices: make, mount, freeze, measure.

Everything is mounted below ``<state_dir>/mounts``; below ``<state_dir>/resize`` a volume that
nobody uses is mounted while it is resized, out of sight of containers.
"""

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Mapping

from container_stack import exceptions
from container_stack.host import locks, mount_points, mounts
from container_stack.rootwrap import commands, executor

MIB = 1024**2

_MAKE = {
    "xfs": commands.fs.MAKE_XFS,
    "ext4": commands.fs.MAKE_EXT4,
    "btrfs": commands.fs.MAKE_BTRFS,
}
_MOUNT = {
    "xfs": commands.fs.MOUNT_XFS,
    "ext4": commands.fs.MOUNT_EXT4,
    "btrfs": commands.fs.MOUNT_BTRFS,
}
_MOUNT_VOLUME = {
    "xfs": commands.fs.MOUNT_VOLUME_XFS,
    "ext4": commands.fs.MOUNT_VOLUME_EXT4,
    "btrfs": commands.fs.MOUNT_VOLUME_BTRFS,
}
#: Bytes below which mkfs refuses (xfsprogs 5.19, btrfs-progs 6.2), or little room is left.
_MINIMUM: Mapping[str, int] = {"xfs": 300 * MIB, "ext4": 16 * MIB, "btrfs": 128 * MIB}


@dataclasses.dataclass(frozen=True, slots=True)
class Usage:
    """How full a file system is, in bytes; ``free`` is what a normal user may still write."""

    total: int
    used: int
    free: int


class Filesystems:
    """File systems under one executor's state directory; safe under threads and processes.

    :param programs: what is mounted may hold programs that run.
    """

    def __init__(self, runner: executor.Executor, *, programs: bool = False) -> None:
        self._executor = runner
        self._mount = _MOUNT_VOLUME if programs else _MOUNT
        self._mounts = os.path.join(runner.state_dir, "mounts")
        self._resize = os.path.join(runner.state_dir, "resize")
        self._points = mount_points.MountPoints(runner, self._resize)
        self._locks = locks.ObjectLocks(os.path.join(runner.state_dir, "locks", "mounts"))

    def make(self, device: str, kind: str) -> None:
        """Make an empty file system; refused where xfs or btrfs find an older one."""
        minimum_size(kind)
        self._executor.run(commands.fs.on(device, _MAKE[kind]), device=device)

    def renew(self, device: str, kind: str) -> None:
        """Let a copy be mounted beside its original, which carries the same UUID; idempotent."""
        if kind == "btrfs":
            self._executor.run(commands.fs.RENEW_BTRFS, device=device)

    def mount(self, device: str, path: str, kind: str, *, read_only: bool = False) -> None:
        """Mount a device without setuid and devices; idempotent.

        :param path: below ``<state_dir>/mounts``; the directory is made, for its owner alone.
        :raises Busy: something else is mounted there.
        :raises InvalidRequest: the directory holds files, which the mount would hide.
        """
        minimum_size(kind)
        self._points.mount(
            commands.fs.on(device, self._mount[kind]),
            path,
            lambda mount: mount.is_of(device) and mount.read_only == read_only,
            access="ro" if read_only else "rw",
            device=device,
        )

    def unmount(self, path: str) -> None:
        """Unmount and remove the mount point's directory; idempotent.

        :raises Busy: somebody uses it, and goes on doing so for two seconds.
        """
        self._points.unmount(path)

    def mounted(self, path: str) -> str | None:
        """Return what is mounted at a path, or None."""
        mount = mounts.at(path)
        return mount.source if mount else None

    def mount_points(self, device: str) -> list[str]:
        """Return where a device is mounted."""
        return [mount.path for mount in mounts.of(device)]

    def usage(self, path: str) -> Usage:
        """Return how full the file system mounted at a path is.

        :raises NotFound: nothing is mounted there.
        """
        if not mounts.at(path):
            raise exceptions.NotFound(f"Nothing is mounted at {path}.")
        found = os.statvfs(path)
        unit = found.f_frsize
        used = (found.f_blocks - found.f_bfree) * unit
        return Usage(total=found.f_blocks * unit, used=used, free=found.f_bavail * unit)

    @contextlib.contextmanager
    def freeze(self, path: str) -> Iterator[None]:
        """Hold up all writers, with everything written on the device; they go on afterwards.

        :raises Busy: it is frozen already.
        """
        try:
            self._executor.run(commands.fs.FREEZE, path=path)
        except exceptions.CommandFailed as exc:
            if "busy" in exc.stderr:
                raise exceptions.Busy(f"{path} is frozen already.") from exc
            if exc.exit_code < 0:  # killed: it may have happened all the same
                self.thaw(path)
            raise
        try:
            yield
        finally:
            self.thaw(path)

    @contextlib.contextmanager
    def frozen_device(self, device: str, kind: str) -> Iterator[None]:
        """Freeze a device's file system if it is mounted; unmounted it is complete as it is."""
        if not mounts.of(device):
            yield
            return
        with self.reachable(device, kind) as path, self.freeze(path):
            yield

    def thaw(self, path: str) -> None:
        """Let writers go on; idempotent."""
        try:
            self._executor.run(commands.fs.THAW, path=path)
        except exceptions.CommandFailed as exc:
            if "Invalid argument" not in exc.stderr:
                raise

    def release(self, device: str) -> None:
        """Undo what a killed process left of freezing or resizing this device; idempotent."""
        for path in self._paths_below(self._mounts, device)[:1]:
            self.thaw(path)
        for path in self._paths_below(self._resize, device):
            self.thaw(path)
            self.unmount(path)

    @contextlib.contextmanager
    def reachable(self, device: str, kind: str) -> Iterator[str]:
        """Yield a path of ours where the device is mounted; mount it for the while if need be.

        One caller at a time for a device.
        """
        if used := self._paths_below(self._mounts, device):
            yield used[0]
            return
        number = os.stat(device).st_rdev
        path = os.path.join(self._resize, f"{os.major(number)}-{os.minor(number)}")
        self.mount(device, path, kind)
        try:
            yield path
        finally:
            self.unmount(path)

    def share_tree(self, path: str) -> None:
        """Let mounts made below ``<state_dir>/mounts`` appear in running containers; idempotent.

        :raises Busy: something is mounted below already, where this would hide it.
        """
        with self._locks.hold("tree"):
            mount_points.make_private(path)
            if mounts.holding(path).shared:
                return
            if not mounts.at(path):
                if hidden := mounts.below(path):
                    raise exceptions.Busy(f"Unmount {hidden[0].path} first: it would be hidden.")
                self._executor.run(commands.fs.BIND_TREE, path=path, again=path)
            self._executor.run(commands.fs.SHARE_TREE, path=path)

    def unshare_tree(self, path: str) -> None:
        """Undo :meth:`share_tree`; idempotent.

        :raises Busy: something is mounted below, or a container uses it.
        """
        with self._locks.hold("tree"):
            if used := mounts.below(path):
                raise exceptions.Busy(f"{used[0].path} is mounted; unmount it first.")
            while mounts.at(path):
                try:
                    self._executor.run(commands.fs.UNMOUNT_TREE, path=path)
                except exceptions.CommandFailed as exc:
                    if "busy" in exc.stderr:
                        raise exceptions.Busy(f"{path} is in use.") from exc
                    raise

    def _paths_below(self, tree: str, device: str) -> list[str]:
        # The table has resolved paths; the filters have the state directory as it was given.
        prefix = mounts.resolve(tree) + "/"
        found = [path for path in self.mount_points(device) if path.startswith(prefix)]
        return [os.path.join(tree, path.removeprefix(prefix)) for path in found]


def minimum_size(kind: str) -> int:
    """Return the bytes that a file system of this kind needs at least.

    :raises InvalidRequest: there is no such kind.
    """
    if kind not in _MINIMUM:
        known = ", ".join(_MINIMUM)
        raise exceptions.InvalidRequest(f"{kind!r} is no file system; there are: {known}.")
    return _MINIMUM[kind]
