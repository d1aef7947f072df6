# SPDX-License-Identifier: Apache-2.0
"""What an engine must have so that servers on it are what their flavors and settings say."""

from collections.abc import Mapping, Sequence
from typing import Any

from container_stack import exceptions
from container_stack.host import containers

#: What the engine says of itself (GET /info), and what of a flavor isn't obeyed without.
LIMITS: Mapping[str, str] = {
    "MemoryLimit": "memory",
    "SwapLimit": "swap, so that a server may swap out as much as it has memory",
    "CpuCfsQuota": "CPU time",
    "CPUSet": "the choice of CPUs",
    "PidsLimit": "processes",
}


def check(
    engine: containers.Engine, *, user_namespaces: bool, runtime: str | None
) -> Sequence[str]:
    """Return in words what this engine can't limit.

    :param user_namespaces: root in a server must be nobody outside of it.
    :raises HostNotReady: the engine hasn't what it must have.
    """
    info = engine.info()
    if user_namespaces and not _has(info, "userns"):
        raise exceptions.HostNotReady(
            "The engine keeps no user namespaces; start dockerd with --userns-remap=default, or "
            "set require_user_namespaces to false."
        )
    runtimes = info.get("Runtimes") or {}
    if runtime and runtime not in runtimes:
        raise exceptions.HostNotReady(
            f"The engine knows no runtime {runtime}, only {', '.join(sorted(runtimes))}; add it to "
            "dockerd's runtimes, or correct the option runtime."
        )
    missing = [
        f"The engine can't limit {what}." for key, what in LIMITS.items() if not info.get(key)
    ]
    if not _has(info, "seccomp"):
        missing.append("The engine filters no system calls (seccomp).")
    return missing


def _has(info: Mapping[str, Any], name: str) -> bool:
    """Tell whether one of the engine's security options is this: "name=seccomp,profile=..."."""
    options = [each.split(",") for each in info.get("SecurityOptions") or ()]
    return any(f"name={name}" in each for each in options)
