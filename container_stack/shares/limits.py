# SPDX-License-Identifier: Apache-2.0
"""How much clients may read from a share and write to it in a second.

What was asked for is a label of the share's volume. The kernel forgets it with the server's
container, so it is told again whenever the share is mounted.
"""

import contextlib
import dataclasses
from collections.abc import Iterable, Mapping

from container_stack import exceptions
from container_stack.host import containers, device_limits
from container_stack.rootwrap import executor

#: Label of a share's volume.
LABEL = "limits"
#: With less a file system is no use, and its log alone would take that.
LEAST_BPS, LEAST_IOPS = 64 * 1024, 10
_GIB = 1024**3


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """What is admitted in each second, for reads and for writes each; of two, the smaller counts.

    :param bps: bytes; at least :data:`LEAST_BPS`.
    :param iops: operations of the block device; at least :data:`LEAST_IOPS`.
    :param bps_per_gib: bytes for each GiB that the share has.
    :param iops_per_gib: operations for each GiB.
    :raises InvalidRequest: a number is out of range; the text begins with its name.
    """

    bps: int | None = None
    iops: int | None = None
    bps_per_gib: int | None = None
    iops_per_gib: int | None = None

    def __post_init__(self) -> None:
        for name, least, most in (
            ("bps", LEAST_BPS, device_limits.MOST_BPS),
            ("iops", LEAST_IOPS, device_limits.MOST_IOPS),
            ("bps_per_gib", 1, device_limits.MOST_BPS),
            ("iops_per_gib", 1, device_limits.MOST_IOPS),
        ):
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                raise exceptions.InvalidRequest(f"{name} is {value}; it can be {least} to {most}.")

    def of(self, size: int) -> device_limits.Limits:
        """Return what holds for a share of so many bytes."""
        return device_limits.Limits(
            _least(self.bps, self.bps_per_gib, size, LEAST_BPS, device_limits.MOST_BPS),
            _least(self.iops, self.iops_per_gib, size, LEAST_IOPS, device_limits.MOST_IOPS),
        )

    def to_label(self) -> str:
        """Return what is kept of these on a volume; "" where there is no limit."""
        given = dataclasses.asdict(self).items()
        return " ".join(f"{name}={value}" for name, value in given if value is not None)


def from_label(text: str) -> Limits:
    """Return the limits of a label."""
    words = (word.partition("=") for word in text.split())
    return Limits(**{name: int(value) for name, _is, value in words})


def labels(wanted: Limits | None) -> Mapping[str, str]:
    """Return the labels of a new share that is to have these limits.

    :raises NotSupported: this host can't limit anything.
    """
    text = wanted.to_label() if wanted else ""
    if text and not device_limits.supported():
        raise exceptions.NotSupported(
            "This host can't limit shares: its kernel has no blkio throttling (cgroup v1) and no "
            "io controller (v2)."
        )
    return {LABEL: text} if text else {}


class Throttle:
    """Tells the kernel of limits; every method is idempotent."""

    def __init__(self, engine: containers.Engine, runner: executor.Executor) -> None:
        self._engine = engine
        self._devices = device_limits.DeviceLimits(runner)

    def set(
        self, devices: Iterable[str], container_id: str | None, limits: device_limits.Limits
    ) -> None:
        """Limit devices for a server's container, which may be gone."""
        container = None
        if container_id:
            with contextlib.suppress(exceptions.NotFound):
                container = self._engine.inspect(container_id)
        for device in devices:
            self._devices.set(device, container, limits)


def _least(fixed: int | None, per_gib: int | None, size: int, least: int, most: int) -> int | None:
    grown = None if per_gib is None else min(max(per_gib * size // _GIB, least), most)
    return min((each for each in (fixed, grown) if each is not None), default=None)
