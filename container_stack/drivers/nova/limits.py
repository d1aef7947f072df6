# SPDX-License-Identifier: Apache-2.0
"""What a flavor grants, as limits of a server.

Extra specs, all of which only operators can set:

``quota:cpu_shares``
    Weight against other servers when all want CPUs; else 1024 for each of the flavor's.
``quota:cpu_quota``, ``quota:cpu_period``
    Microseconds of CPU in each period of so many microseconds; else as many CPUs as the flavor
    has. A quota of -1 is without limit.
``hw:cpu_policy=dedicated``
    CPUs of its own, chosen by Nova of ``[compute] cpu_dedicated_set``.
``docker:pids_limit``
    Processes and threads; else the option ``pids_limit``.
``resources:PGPU``
    How many of the devices in the option ``gpus`` it gets.
"""

from collections.abc import Mapping
from typing import Any

from nova.virt import hardware

from container_stack import exceptions
from container_stack.drivers.nova import gpus
from container_stack.servers import model

GIB = 1024**3
MIB = 1024**2
#: What the kernel takes at most; one CPU's weight.
MOST_SHARES, SHARES = 262144, 1024
_PERIOD = 100_000


def limits(instance: Any) -> model.Limits:
    """Return the limits of a server's flavor.

    :raises InvalidRequest: an extra spec isn't what it must be.
    """
    flavor = instance.flavor
    specs = _specs(flavor)
    shares = _number(specs, "quota:cpu_shares") or SHARES * flavor.vcpus
    return model.Limits(
        memory=flavor.memory_mb * MIB,
        swap=flavor.swap * MIB,
        cpus=_cpus(specs, flavor.vcpus),
        cpu_shares=min(shares, MOST_SHARES),
        cpuset=_pinned(instance),
        pids=_number(specs, "docker:pids_limit"),
        disk=flavor.root_gb * GIB or None,
    )


def refuse_pci(instance: Any) -> None:
    """Refuse devices of PCI that the flavor or a port asks for.

    :raises InvalidRequest: naming how the engine passes devices on.
    """
    asked = instance.pci_requests if instance.obj_attr_is_set("pci_requests") else None
    if asked and asked.requests:
        raise exceptions.InvalidRequest(
            "Containers get no PCI devices by alias or by port: a flavor asks for devices of the "
            f"engine's by {gpus.EXTRA_SPEC}."
        )


def gpus_wanted(instance: Any) -> int:
    """Return how many devices of the option ``gpus`` a server gets."""
    return _number(_specs(instance.flavor), gpus.EXTRA_SPEC, least=0) or 0


def _cpus(specs: Mapping[str, str], vcpus: int) -> float | None:
    quota = _number(specs, "quota:cpu_quota", least=-1)
    if quota is None:
        return float(vcpus)
    if quota <= 0:
        return None
    return quota / (_number(specs, "quota:cpu_period") or _PERIOD)


def _pinned(instance: Any) -> str | None:
    """Return the host's CPUs that a server runs on, or None for all.

    Those that Nova has chosen for it alone; else those that ``cpu_shared_set`` has for all.
    """
    topology = instance.numa_topology
    cells = topology.cells if topology else ()
    chosen = {cpu for cell in cells for cpu in (cell.cpu_pinning or {}).values()}
    if not chosen or any(cell.cpuset for cell in cells):
        chosen |= hardware.get_cpu_shared_set() or set()
    return ",".join(str(cpu) for cpu in sorted(chosen)) or None


def _specs(flavor: Any) -> Mapping[str, str]:
    found: Mapping[str, str] = flavor.get("extra_specs", {}) or {}
    return found


def _number(specs: Mapping[str, str], name: str, *, least: int = 1) -> int | None:
    if name not in specs:
        return None
    try:
        value = int(specs[name])
    except ValueError:
        value = least - 1
    if value < least:
        raise exceptions.InvalidRequest(
            f"The flavor's extra spec {name} is {specs[name]!r}; it must be a number from {least}."
        )
    return value
