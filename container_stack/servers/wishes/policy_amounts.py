# SPDX-License-Identifier: Apache-2.0
"""Amounts that tenants choose: no more than their flavor has."""

from container_stack import exceptions
from container_stack.servers import cpusets, model
from container_stack.servers.wishes import parameters

#: Weight of a container for which nobody says another.
USUAL_SHARES = 1024
#: What the engine asks for at least.
LEAST_MEMORY = 6 * 1024**2


def memory(
    asked: parameters.Asked, limits: model.Limits, *, strict: bool = True
) -> tuple[int | None, int | None]:
    """Return the memory, and the bytes that may be swapped out besides; None is the flavor's.

    :param strict: refuse what is more than the flavor has; else return what it has.
    :raises InvalidRequest: it is more, or too little.
    """
    wanted = _at_most(asked, "memory", limits.memory, strict)
    if wanted is not None and wanted < LEAST_MEMORY:
        raise exceptions.InvalidRequest(
            f"{asked.keys['memory']} must be {LEAST_MEMORY} bytes at least."
        )
    most = None if limits.memory is None else limits.memory + limits.swap
    both = _at_most(asked, "memory_and_swap", most, strict)
    if both is None:
        return wanted, None
    own = wanted if wanted is not None else limits.memory
    if own is None or (strict and both < own):
        raise exceptions.InvalidRequest(
            f"{asked.keys['memory_and_swap']} is memory and swap together, so it can't be less "
            "than the memory; name both."
        )
    return wanted, max(both - own, 0)


def cpu_shares(asked: parameters.Asked, limits: model.Limits, *, strict: bool = True) -> int | None:
    """Return the weight; None is the flavor's."""
    return _at_most(asked, "cpu_shares", limits.cpu_shares or USUAL_SHARES, strict)


def cpuset(asked: parameters.Asked, limits: model.Limits, *, strict: bool = True) -> str | None:
    """Return the CPUs; None is the flavor's.

    :raises InvalidRequest: some of them aren't the flavor's.
    """
    if asked.cpuset is None or limits.cpuset is None or not strict:
        return cpusets.within(asked.cpuset, limits.cpuset) if asked.cpuset else None
    more = cpusets.parse(asked.cpuset) - cpusets.parse(limits.cpuset)
    if more:
        raise exceptions.InvalidRequest(
            f"{asked.keys['cpuset']} can't have CPU {min(more)}; the flavor has {limits.cpuset}."
        )
    return asked.cpuset


def _at_most(asked: parameters.Asked, field: str, limit: int | None, strict: bool) -> int | None:
    wanted: int | None = getattr(asked, field)
    if wanted is None or limit is None or wanted <= limit:
        return wanted
    if not strict:
        return limit
    raise exceptions.InvalidRequest(
        f"{asked.keys[field]} can't be more than {limit}, which is what the flavor has."
    )
