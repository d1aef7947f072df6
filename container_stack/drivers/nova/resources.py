# SPDX-License-Identifier: Apache-2.0
"""What this host has for servers, as Nova and placement are told."""

import json
import os
import platform
import re
from collections.abc import Collection, Mapping
from typing import Any

import nova.conf
import os_resource_classes as orc
from nova.objects import fields
from nova.virt import hardware

from container_stack.drivers.nova import numa

CONF = nova.conf.CONF

GIB = 1024**3
MIB = 1024**2
#: On every node of ours; flavors may require it where a cloud has other hypervisors, too.
TRAIT = "CUSTOM_CONTAINER_STACK"
#: Flavors' root_gb is a limit here, not only a figure.
DISK_QUOTA = "CUSTOM_CONTAINER_STACK_DISK_QUOTA"


def node(name: str, info: Mapping[str, Any], directory: str) -> dict[str, Any]:
    """Return what Nova's resource tracker wants to know of this host.

    What servers take isn't told: Nova adds that up itself.

    :param info: what the engine tells of itself.
    :param directory: on the file system where the engine keeps containers.
    """
    total, free = space(directory)
    architecture = fields.Architecture.canonicalize(info["Architecture"])
    return {
        "vcpus": len(hardware.get_cpu_shared_set() or ()) or int(info["NCPU"]),
        "vcpus_used": 0,
        "memory_mb": int(info["MemTotal"]) // MIB,
        "memory_mb_used": 0,
        "local_gb": total // GIB,
        "local_gb_used": 0,
        "disk_available_least": free // GIB,
        "hypervisor_type": fields.HVType.DOCKER,
        "hypervisor_version": version(info["ServerVersion"]),
        "hypervisor_hostname": name,
        "cpu_info": json.dumps(_cpu_info(architecture, int(info["NCPU"]))),
        "numa_topology": numa.topology(),
        "supported_instances": [(architecture, fields.HVType.DOCKER, fields.VMMode.EXE)],
    }


def inventory(
    info: Mapping[str, Any],
    directory: str,
    ratios: Mapping[str, float],
    reserved_gb: int,
    gpus: Collection[str],
) -> dict[str, dict[str, Any]]:
    """Return placement's inventories of this host.

    :param reserved_gb: of disk, which servers don't get.
    """
    shared, dedicated = hardware.get_cpu_shared_set(), hardware.get_cpu_dedicated_set()
    # Where CPUs are set apart for some and none for all, servers without their own have none.
    vcpus = len(shared or ()) if shared or dedicated else int(info["NCPU"])
    totals = {
        orc.VCPU: (vcpus, CONF.reserved_host_cpus),
        orc.PCPU: (len(dedicated or ()), 0),
        orc.MEMORY_MB: (int(info["MemTotal"]) // MIB, CONF.reserved_host_memory_mb),
        orc.DISK_GB: (space(directory)[0] // GIB, reserved_gb),
        orc.PGPU: (len(gpus), 0),
    }
    return {
        name: {
            "total": total,
            "reserved": min(reserved, total),
            "min_unit": 1,
            "max_unit": total,
            "step_size": 1,
            "allocation_ratio": ratios.get(name, 1.0),
        }
        for name, (total, reserved) in totals.items()
        if total
    }


def traits(*, disk_quota: bool) -> list[str]:
    """Return this host's traits besides those that Nova makes of capabilities."""
    return [TRAIT, *([DISK_QUOTA] if disk_quota else [])]


def space(directory: str) -> tuple[int, int]:
    """Return how many bytes a file system has, and how many of them an unprivileged user may
    still take.
    """
    found = os.statvfs(directory)
    return found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize


def version(text: str) -> int:
    """Return an engine's version as Nova's number, as 20010024 of 20.10.24."""
    numbers = [int(each) for each in re.findall(r"[0-9]+", text)[:3]]
    major, minor, patch = (*numbers, 0, 0, 0)[:3]
    return (major * 1000 + minor) * 1000 + patch


def uptime() -> str:
    """Return what uptime(1) would say, without its count of users."""
    with open("/proc/uptime", encoding="ascii") as file:
        minutes = int(float(file.read().split()[0])) // 60
    load = ", ".join(f"{each:.2f}" for each in os.getloadavg())
    hours = minutes // 60
    return f"up {hours // 24} days, {hours % 24:2}:{minutes % 60:02},  load average: {load}"


def cpu_times() -> dict[str, int]:
    """Return nanoseconds that all CPUs have spent, and their frequency in MHz."""
    with open("/proc/stat", encoding="ascii") as file:
        user, nice, kernel, idle, iowait, *_ = (int(each) for each in file.readline().split()[1:])
    tick = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    return {
        "kernel": kernel * tick,
        "idle": idle * tick,
        "user": (user + nice) * tick,
        "iowait": iowait * tick,
        "frequency": int(float(_cpu_facts().get("cpu MHz", 0))),
    }


def _cpu_info(architecture: str, cpus: int) -> dict[str, Any]:
    facts = _cpu_facts()
    return {
        "arch": architecture,
        "vendor": facts.get("vendor_id", "unknown"),
        "model": facts.get("model name", platform.machine()),
        "topology": {"sockets": 1, "cores": cpus, "threads": 1},
        "features": facts.get("flags", "").split(),
    }


def _cpu_facts() -> dict[str, str]:
    """Return what the kernel tells of the first CPU."""
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        first = file.read().split("\n\n", 1)[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}
