# SPDX-License-Identifier: Apache-2.0
"""This host's memory nodes and their CPUs, of which Nova gives some to servers alone."""

import os
import re

from nova import objects
from nova.virt import hardware

_NODES = "/sys/devices/system/node"
_CPUS = "/sys/devices/system/cpu"
_NODE = re.compile("node([0-9]+)")
_TOTAL = re.compile(r"MemTotal:\s+([0-9]+) kB")


def topology() -> "objects.NUMATopology | None":
    """Return this host's nodes, or None where no CPUs are set apart by ``cpu_dedicated_set``.

    Without, flavors that want CPUs of their own aren't served here.
    """
    dedicated = hardware.get_cpu_dedicated_set()
    if not dedicated:
        return None
    shared = hardware.get_cpu_shared_set() or set()
    return objects.NUMATopology(
        cells=[_cell(node, shared, dedicated) for node in _nodes()],
    )


def _cell(node: int, shared: set[int], dedicated: set[int]) -> "objects.NUMACell":
    cpus = hardware.parse_cpu_spec(_read(f"{_NODES}/node{node}/cpulist") or "")
    megabytes = _megabytes(node)
    return objects.NUMACell(
        id=node,
        cpuset=cpus & shared,
        pcpuset=cpus & dedicated,
        memory=megabytes,
        cpu_usage=0,
        memory_usage=0,
        pinned_cpus=set(),
        siblings=[siblings for siblings in _siblings(cpus) if len(siblings) > 1],
        mempages=[
            objects.NUMAPagesTopology(
                size_kb=_page_kb(), total=megabytes * 1024 // _page_kb(), used=0
            )
        ],
        socket=None,
    )


def _nodes() -> list[int]:
    return sorted(int(found[1]) for name in os.listdir(_NODES) if (found := _NODE.fullmatch(name)))


def _megabytes(node: int) -> int:
    found = _TOTAL.search(_read(f"{_NODES}/node{node}/meminfo") or "")
    return int(found[1]) // 1024 if found else 0


def _siblings(cpus: set[int]) -> list[set[int]]:
    """Return the threads of each core."""
    cores = {
        frozenset(hardware.parse_cpu_spec(listed)) & cpus
        for cpu in cpus
        if (listed := _read(f"{_CPUS}/cpu{cpu}/topology/thread_siblings_list"))
    }
    return [set(core) for core in sorted(cores, key=sorted)]


def _page_kb() -> int:
    return os.sysconf("SC_PAGE_SIZE") // 1024


def _read(path: str) -> str | None:
    try:
        with open(path, encoding="ascii") as file:
            return file.read().strip()
    except FileNotFoundError:
        return None
