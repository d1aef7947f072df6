# SPDX-License-Identifier: Apache-2.0
"""What a server takes of its host, by the engine's own figures."""

import dataclasses
import datetime
from collections.abc import Mapping, Sequence
from typing import Any

from container_stack.host import containers
from container_stack.servers import model


@dataclasses.dataclass(frozen=True, slots=True)
class Diagnostics:
    """What a running server takes.

    :param cpu: nanoseconds for each CPU, or one figure where the kernel tells no more.
    :param read: bytes read from disks; ``written`` bytes written.
    """

    state: model.State
    uptime: int | None
    cpu: Sequence[int]
    memory: int
    memory_limit: int
    pids: int
    read: int
    written: int
    interfaces: Sequence[model.Interface] = ()


def measure(
    engine: containers.Engine,
    server: model.Server,
    interfaces: Sequence[model.Interface] = (),
    *,
    now: datetime.datetime | None = None,
) -> Diagnostics:
    """Return what a server takes just now; zeros for what a stopped one doesn't.

    :param server: from :meth:`service.Servers.get`, not from a list.
    :param interfaces: what its interfaces count.
    :raises NotFound: its container is gone.
    """
    taken = engine.stats(server.container_id)
    memory = taken.get("memory_stats") or {}
    return Diagnostics(
        state=server.state,
        uptime=_uptime(server, now or datetime.datetime.now(datetime.UTC)),
        cpu=_cpu(taken.get("cpu_stats") or {}),
        memory=_used(memory),
        memory_limit=int(memory.get("limit") or 0),
        pids=int((taken.get("pids_stats") or {}).get("current") or 0),
        read=_bytes(taken, "read"),
        written=_bytes(taken, "write"),
        interfaces=tuple(interfaces),
    )


def _uptime(server: model.Server, now: datetime.datetime) -> int | None:
    if server.state is model.State.STOPPED or server.started_at is None:
        return None
    return max(int((now - server.started_at).total_seconds()), 0)


def _cpu(stats: Mapping[str, Any]) -> tuple[int, ...]:
    """Return nanoseconds, for each CPU under cgroup v1; v2 has only their sum."""
    usage = stats.get("cpu_usage") or {}
    each = usage.get("percpu_usage") or ()
    # Under v1 the kernel tells of all CPUs that there might ever be.
    each = each[: int(stats.get("online_cpus") or len(each))]
    if each:
        return tuple(int(taken) for taken in each)
    total = int(usage.get("total_usage") or 0)
    return (total,) if total else ()


def _used(memory: Mapping[str, Any]) -> int:
    """Return bytes without the page cache that the kernel would give up at once."""
    details = memory.get("stats") or {}
    # cgroup v1 says total_inactive_file, v2 inactive_file, as `docker stats` reads them.
    cache = details.get("total_inactive_file", details.get("inactive_file", 0))
    return max(int(memory.get("usage") or 0) - int(cache or 0), 0)


def _bytes(taken: Mapping[str, Any], operation: str) -> int:
    entries = (taken.get("blkio_stats") or {}).get("io_service_bytes_recursive") or ()
    return sum(int(each["value"]) for each in entries if each["op"].lower() == operation)
