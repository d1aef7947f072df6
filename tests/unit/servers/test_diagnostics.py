# SPDX-License-Identifier: Apache-2.0
"""The engine's figures, as cgroups of both versions have them."""

import datetime
from collections.abc import Mapping
from typing import Any

import pytest

from container_stack.servers import diagnostics, model

NOW = datetime.datetime(2026, 7, 3, 12, tzinfo=datetime.UTC)
V1 = {
    "cpu_stats": {"cpu_usage": {"total_usage": 70, "percpu_usage": [30, 40, 0]}, "online_cpus": 2},
    "memory_stats": {"usage": 900, "limit": 4096, "stats": {"total_inactive_file": 300}},
    "pids_stats": {"current": 3},
    "blkio_stats": {
        "io_service_bytes_recursive": [
            {"op": "Read", "value": 11},
            {"op": "Write", "value": 7},
            {"op": "Read", "value": 2},
        ]
    },
}
V2 = {
    "cpu_stats": {"cpu_usage": {"total_usage": 70}, "online_cpus": 2},
    "memory_stats": {"usage": 900, "limit": 4096, "stats": {"inactive_file": 200}},
    "pids_stats": {"current": 3},
    "blkio_stats": {"io_service_bytes_recursive": [{"op": "read", "value": 5}]},
}
STOPPED = {"cpu_stats": {"cpu_usage": {"total_usage": 0}}, "blkio_stats": {}, "memory_stats": {}}


class Engine:
    def __init__(self, taken: Mapping[str, Any]) -> None:
        self._taken = taken

    def stats(self, _container: str) -> Mapping[str, Any]:
        return self._taken


def _measured(taken: Mapping[str, Any], state: model.State) -> diagnostics.Diagnostics:
    began = NOW - datetime.timedelta(seconds=90)
    server = model.Server("s", "web", "c", "i", state, started_at=began)
    return diagnostics.measure(Engine(taken), server, now=NOW)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("taken", "cpu", "memory", "read", "written"),
    [(V1, (30, 40), 600, 13, 7), (V2, (70,), 700, 5, 0)],
)
def test_a_running_server_takes_what_the_kernel_counts(
    taken: Mapping[str, Any], cpu: tuple[int, ...], memory: int, read: int, written: int
) -> None:
    found = _measured(taken, model.State.RUNNING)
    assert (found.cpu, found.memory, found.memory_limit, found.pids) == (cpu, memory, 4096, 3)
    assert (found.read, found.written, found.uptime) == (read, written, 90)


def test_a_stopped_server_takes_nothing() -> None:
    found = _measured(STOPPED, model.State.STOPPED)
    assert (found.cpu, found.memory, found.read, found.uptime) == ((), 0, 0, None)
