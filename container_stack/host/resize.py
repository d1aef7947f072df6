# SPDX-License-Identifier: Apache-2.0
"""Growing and shrinking the file system on a device whose size has changed or will."""

from container_stack import exceptions
from container_stack.host import filesystem, mounts
from container_stack.rootwrap import commands, executor

#: File systems that can shrink, and those that can while they are mounted.
SHRINK = frozenset({"ext4", "btrfs"})
SHRINK_ONLINE = frozenset({"btrfs"})

# btrfs_ioctl_resize in the kernel's fs/btrfs/ioctl.c.
_BTRFS_LEAST = 256 * 1024**2
_CAP_SYS_RESOURCE = 24
_EXT4_CURE = (
    "This host doesn't let root grow ext4 while it is mounted (CAP_SYS_RESOURCE is withheld); "
    "unmount it first, or use xfs."
)


class Resizer:
    """Resizes file systems, mounted or not."""

    def __init__(self, runner: executor.Executor, filesystems: filesystem.Filesystems) -> None:
        self._executor = runner
        self._filesystems = filesystems

    def check_grow(self, device: str, kind: str) -> None:
        """Refuse to grow what this host can't grow as it is now, before anything is changed.

        :raises NotSupported: ext4 is mounted, and the kernel won't let it grow online.
        """
        if mounts.of(device) and kind not in grow_online():
            raise exceptions.NotSupported(_EXT4_CURE)

    def check_shrink(self, device: str, kind: str) -> None:
        """Refuse to shrink what can't as it is now, before anything is changed.

        :raises NotSupported: xfs can't shrink.
        :raises Busy: ext4 is mounted.
        """
        if kind not in SHRINK:
            raise exceptions.NotSupported(f"{kind} can't shrink; copy the data to a smaller one.")
        if kind not in SHRINK_ONLINE and (used := mounts.of(device)):
            raise exceptions.Busy(f"{kind} shrinks unmounted only; unmount {used[0].path} first.")

    def grow(self, device: str, kind: str) -> None:
        """Let a file system fill its device, also while it is in use; idempotent.

        :raises NotSupported: the kernel refuses to do that online.
        """
        if kind == "ext4":
            self._grow_ext4(device)
            return
        command = commands.fs.GROW_XFS if kind == "xfs" else commands.fs.GROW_BTRFS
        with self._filesystems.reachable(device, kind) as path:
            self._executor.run(command, path=path)

    def shrink(self, device: str, kind: str, size: int) -> None:
        """Cut a file system down to ``size`` bytes; the device keeps its size; idempotent.

        :raises PossibleDataLoss: what is stored doesn't fit; nothing was lost.
        :raises Busy: ext4 is mounted.
        :raises NotSupported: xfs can't shrink.
        """
        self.check_shrink(device, kind)
        if kind == "ext4":
            self._shrink_ext4(device, size)
        else:
            self._shrink_btrfs(device, size)

    def _grow_ext4(self, device: str) -> None:
        self.check_grow(device, "ext4")
        if not mounts.of(device):
            self._check_ext4(device)
        try:
            self._executor.run(commands.fs.on(device, commands.fs.GROW_EXT4), device=device)
        except exceptions.CommandFailed as exc:
            if "Permission denied" in exc.stderr:
                raise exceptions.NotSupported(_EXT4_CURE) from exc
            raise

    def _shrink_ext4(self, device: str, size: int) -> None:
        self._check_ext4(device)
        try:
            self._executor.run(commands.fs.SHRINK_EXT4, device=device, kib=size // 4096 * 4)
        except exceptions.CommandFailed as exc:
            if "smaller than minimum" in exc.stderr or "No space" in exc.stderr:
                raise _does_not_fit(size) from exc
            raise

    def _shrink_btrfs(self, device: str, size: int) -> None:
        if size < _BTRFS_LEAST:
            raise exceptions.InvalidRequest(f"btrfs can't shrink below {_BTRFS_LEAST} bytes.")
        with self._filesystems.reachable(device, "btrfs") as path:
            if self._filesystems.usage(path).used > size:
                raise _does_not_fit(size)
            try:
                self._executor.run(commands.fs.SHRINK_BTRFS, path=path, size=size // 4096 * 4096)
            except exceptions.CommandFailed as exc:
                if "No space left" in exc.stderr:
                    raise _does_not_fit(size) from exc
                raise

    def _check_ext4(self, device: str) -> None:
        try:
            self._executor.run(commands.fs.on(device, commands.fs.CHECK_EXT4), device=device)
        except exceptions.CommandFailed as exc:
            if exc.exit_code != 1:  # 1: errors were corrected
                raise


def grow_online() -> frozenset[str]:
    """Return the file systems that this host may grow while they are mounted.

    ext4 asks for CAP_SYS_RESOURCE (the kernel's fs/ext4/resize.c), which some containers and
    virtual machines withhold even from root.
    """
    ext4 = {"ext4"} if _bounding_set() >> _CAP_SYS_RESOURCE & 1 else set()
    return frozenset({"xfs", "btrfs"} | ext4)


def _bounding_set() -> int:
    with open("/proc/self/status", encoding="utf-8") as file:
        return next(int(line.split()[1], 16) for line in file if line.startswith("CapBnd:"))


def _does_not_fit(size: int) -> exceptions.PossibleDataLoss:
    return exceptions.PossibleDataLoss(f"What is stored doesn't fit into {size} bytes.")
