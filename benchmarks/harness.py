# SPDX-License-Identifier: Apache-2.0
"""What every benchmark shares: interleaved timing, and a verdict as one line."""

import dataclasses
import statistics
import time
from collections.abc import Callable
from pathlib import Path

#: Whether the benchmarks are only tried: sizes may be smaller then, and ratios mean nothing.
smoke = False


@dataclasses.dataclass(frozen=True, slots=True)
class Claim:
    """A measured ratio and the limit it must keep.

    :param at_most: True when the ratio may not be above the limit, False when not below.
    """

    name: str
    ratio: float
    limit: float
    at_most: bool
    detail: str

    @property
    def kept(self) -> bool:
        """Whether the claim holds in this run."""
        return self.ratio <= self.limit if self.at_most else self.ratio >= self.limit

    def __str__(self) -> str:
        sign = "<=" if self.at_most else ">="
        verdict = "ok  " if self.kept else "MISS"
        return f"{verdict} {self.name}: {self.ratio:.2f} ({sign} {self.limit:g}); {self.detail}"


def timed(action: Callable[[], object]) -> float:
    """Return the seconds that an action took."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def medians(rounds: int, *actions: Callable[[], object]) -> tuple[float, ...]:
    """Run the actions in turn, round by round, and return the median seconds of each.

    In turn, because this levels what else the machine does.
    """
    times: list[list[float]] = [[] for _ in actions]
    for _ in range(rounds):
        for index, action in enumerate(actions):
            times[index].append(timed(action))
    return tuple(statistics.median(each) for each in times)


def growth(action: Callable[[], object]) -> int:
    """Return by how many bytes of memory this process grew at most during an action."""
    # proc(5): from now on the peak is counted anew.
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = _memory("VmRSS")
    action()
    return _memory("VmHWM") - before


def _memory(key: str) -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    fields = dict(line.split(":", 1) for line in status)
    return int(fields[key].split()[0]) * 1024


def ms(seconds: float) -> str:
    """Return seconds as text in milliseconds."""
    return f"{seconds * 1000:.1f} ms"
