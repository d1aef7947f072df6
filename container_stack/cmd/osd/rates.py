# SPDX-License-Identifier: Apache-2.0
"""What volumes do in a second: the difference of what they had done at two moments."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

#: Numbers of the later releases' states (api.proto).
_STATES = {
    1: "pending",
    2: "available",
    3: "attached",
    4: "detached",
    5: "detaching",
    6: "error",
    7: "deleted",
}

#: What only grows while a device is attached; operations, bytes and milliseconds.
GROWING = ("reads", "writes", "read_bytes", "write_bytes", "io_ms")


@dataclasses.dataclass(frozen=True, slots=True)
class Rate:
    """What a volume does. Rates are of a second; None where nobody counts, or counted before.

    :param size: bytes, as is ``used``.
    :param busy: share of the time, 0 to 1, in which its device had something to do.
    """

    driver: str
    name: str
    id: str
    state: str
    size: int
    used: int
    reads: float | None = None
    writes: float | None = None
    read_bytes: float | None = None
    write_bytes: float | None = None
    busy: float | None = None


def between(before: Mapping[str, Any] | None, after: Mapping[str, Any]) -> list[Rate]:
    """Return what volumes did between two answers of /v1/activity, the busiest first.

    :param before: None where there is none; then nothing is known but what stands.
    """
    seconds = float(after["seconds"]) - float(before["seconds"]) if before else 0.0
    counted = {each["id"]: each["stats"] for each in before["volumes"]} if before else {}
    found = [_rate(each, counted.get(each["id"]), seconds) for each in after["volumes"]]
    return sorted(found, key=_order)


def total(rates: Sequence[Rate], what: str) -> float:
    """Return what all do together."""
    return sum(getattr(each, what) or 0.0 for each in rates)


def _rate(volume: Mapping[str, Any], before: Mapping[str, int] | None, seconds: float) -> Rate:
    stands = Rate(
        driver=str(volume["driver"]),
        name=str(volume["name"]),
        id=str(volume["id"]),
        state="mounted" if volume["mounted"] else _STATES.get(volume["state"], "unknown"),
        size=int(volume["size"]),
        used=int(volume["used"]),
    )
    after = volume["stats"]
    # A device that was attached anew counts from nothing: what went before can't be told apart.
    if not before or not after or seconds <= 0 or any(after[key] < before[key] for key in GROWING):
        return stands
    done = {key: (after[key] - before[key]) / seconds for key in GROWING}
    return dataclasses.replace(
        stands,
        reads=done["reads"],
        writes=done["writes"],
        read_bytes=done["read_bytes"],
        write_bytes=done["write_bytes"],
        busy=min(done["io_ms"] / 1000, 1.0),
    )


def _order(rate: Rate) -> tuple[float, float, int, str, str]:
    """Operations first, then bytes, then what is taken; equals stay where they are."""
    operations = (rate.reads or 0.0) + (rate.writes or 0.0)
    moved = (rate.read_bytes or 0.0) + (rate.write_bytes or 0.0)
    return (-operations, -moved, -rate.used, rate.driver, rate.name)
