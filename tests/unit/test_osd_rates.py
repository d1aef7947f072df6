# SPDX-License-Identifier: Apache-2.0
"""What ``osd top`` makes of two looks at the counters."""

import dataclasses
from typing import Any

from container_stack.cmd.osd import rates

COUNTED = {"reads": 100, "writes": 40, "read_bytes": 4096, "write_bytes": 8192, "io_ms": 500}
NOTHING = dict.fromkeys(COUNTED, 0)


def volume(name: str, stats: dict[str, int] | None, **more: Any) -> dict[str, Any]:
    stands = {"driver": "loop", "id": f"id-{name}", "name": name, "state": 3, "mounted": True}
    return {**stands, "size": 1000, "used": 10, "stats": stats, **more}


def look(seconds: float, *volumes: dict[str, Any]) -> dict[str, Any]:
    return {"node_id": "a", "seconds": seconds, "volumes": list(volumes)}


def plus(**more: int) -> dict[str, int]:
    return {**COUNTED, **{key: COUNTED[key] + value for key, value in more.items()}}


def test_rates_are_of_a_second_of_the_daemons_clock() -> None:
    done = plus(reads=50, writes=5, read_bytes=2**20, write_bytes=640, io_ms=1250)
    (found,) = rates.between(look(10.0, volume("v", COUNTED)), look(12.5, volume("v", done)))
    assert dataclasses.astuple(found) == (
        "loop", "v", "id-v", "mounted", 1000, 10, 20.0, 2.0, 2**20 / 2.5, 256.0, 0.5,
    )  # fmt: skip


def test_nothing_is_said_of_what_was_not_counted_before() -> None:
    first, second = (
        look(1, volume("old", None)),
        look(2, volume("old", None), volume("new", plus())),
    )
    for found in (*rates.between(first, second), *rates.between(None, second)):
        assert (found.reads, found.write_bytes, found.busy) == (None, None, None)
    assert rates.total(rates.between(first, second), "reads") == 0


def test_device_that_was_attached_anew_does_not_run_backwards() -> None:
    (found,) = rates.between(look(1, volume("v", COUNTED)), look(2, volume("v", NOTHING)))
    assert found.reads is None


def test_answer_of_no_time_divides_by_nothing() -> None:
    (found,) = rates.between(look(5, volume("v", COUNTED)), look(5, volume("v", COUNTED)))
    assert found.reads is None


def test_device_is_never_busier_than_all_the_time() -> None:
    after = volume("v", plus(io_ms=1003))
    (found,) = rates.between(look(1, volume("v", COUNTED)), look(2, after))
    assert found.busy == 1.0


def test_busiest_come_first_and_equals_by_what_they_take_and_name() -> None:
    before = [volume(name, COUNTED) for name in ("idle", "reads", "bytes", "few")]
    after = [
        volume("idle", COUNTED),
        volume("few", plus(writes=1, write_bytes=512)),
        volume("bytes", plus(writes=1, write_bytes=2**20)),
        volume("reads", plus(reads=9)),
        volume("full", None, used=900),
        volume("another", COUNTED),
    ]
    found = rates.between(look(1, *before), look(2, *after))
    names = [each.name for each in found]
    assert names == ["reads", "bytes", "few", "full", "another", "idle"]


def test_states_have_names_and_mounts_come_first() -> None:
    seen = look(
        1, volume("a", None, state=6, mounted=False), volume("b", None, state=99, mounted=False)
    )
    assert [each.state for each in rates.between(None, seen)] == ["error", "unknown"]
