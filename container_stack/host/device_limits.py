# SPDX-License-Identifier: Apache-2.0
"""How fast a container may read from a block device and write to it, by cgroups.

A limit holds while the container runs: its next start has none. Where the host has cgroups of
version 1, what the kernel writes back from the cache later is limited for the device as a whole,
which outlives container and mount: lift it before the device becomes somebody else's.
"""

import dataclasses

from container_stack import exceptions
from container_stack.host import containers
from container_stack.rootwrap import cgroups, commands, executor

#: The most that the kernel takes.
MOST_BPS, MOST_IOPS = 2**62, 2**32 - 1


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """What is admitted in each second, in each direction for itself; None is without limit.

    :param bps: bytes.
    :param iops: operations, of any size.
    """

    bps: int | None = None
    iops: int | None = None


class DeviceLimits:
    """Limits block devices; every method is idempotent."""

    def __init__(self, runner: executor.Executor) -> None:
        self._executor = runner

    def set(self, device: str, container: containers.Container | None, limits: Limits) -> None:
        """Limit a device that nobody else uses.

        :param container: who uses it; None, or one that doesn't run, needs no limit.
        :raises CommandFailed: the kernel can't; or the container has just ended.
        """
        bps, iops = limits.bps or 0, limits.iops or 0
        if container and container.pid:
            self._executor.run(
                commands.limits.CONTAINER,
                device=device,
                container=container.id,
                pid=container.pid,
                rbps=bps,
                wbps=bps,
                riops=iops,
                wiops=iops,
            )
        self._executor.run(commands.limits.KERNEL, device=device, wbps=bps, wiops=iops)


def supported() -> bool:
    """Tell whether this host can limit devices."""
    try:
        return (cgroups.hierarchy("blkio") / "blkio.throttle.write_bps_device").exists()
    except exceptions.NotSupported:
        pass
    try:
        controllers = cgroups.hierarchy("") / "cgroup.controllers"
        return "io" in controllers.read_text(encoding="ascii").split()
    except (exceptions.NotSupported, OSError):
        return False
