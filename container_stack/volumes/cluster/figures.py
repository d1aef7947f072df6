# SPDX-License-Identifier: Apache-2.0
"""What this host is, and how busy."""

import os
import socket
import threading

from container_stack.volumes import model


class Figures:
    """Describes this host; how busy it was counts from the call before."""

    def __init__(self, node_id: str, management_ip: str, data_ip: str) -> None:
        self._node_id = node_id
        self._addresses = (management_ip, data_ip)
        self._lock = threading.Lock()
        self._before = (0, 0)

    def node(self, status: model.Status = model.Status.UP) -> model.Node:
        """Return this node as it is now, but for its generation."""
        total, free = _memory()
        return model.Node(
            id=self._node_id,
            hostname=socket.gethostname(),
            management_ip=self._addresses[0],
            data_ip=self._addresses[1],
            status=status,
            cpu=self._cpu(),
            memory_total=total,
            memory_used=total - free,
            load=os.getloadavg()[0],
        )

    def _cpu(self) -> float:
        """Return the per cent that were busy, as proc_stat(5) counts."""
        with open("/proc/stat", encoding="ascii") as file:
            ticks = [int(word) for word in file.readline().split()[1:9]]
        now = (sum(ticks), ticks[3] + ticks[4])
        with self._lock:
            total, idle = (new - old for new, old in zip(now, self._before, strict=True))
            self._before = now
        return round(100.0 * (total - idle) / total, 1) if total else 0.0


def _memory() -> tuple[int, int]:
    """Return the bytes that there are, and those that could be had."""
    found = {}
    with open("/proc/meminfo", encoding="ascii") as file:
        for line in file:
            name, _colon, rest = line.partition(":")
            found[name] = int(rest.split()[0]) * 1024
    return found["MemTotal"], found["MemAvailable"]
