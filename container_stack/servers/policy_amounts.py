# SPDX-License-Identifier: Apache-2.0
"""Amounts that tenants choose: no more than their flavor has."""

from container_stack import exceptions
from container_stack.servers import model, parameters

#: Weight of a container for which nobody says another.
USUAL_SHARES = 1024
#: What the engine asks for at least.
LEAST_MEMORY = 6 * 1024**2


def memory(asked: parameters.Asked, limits: model.Limits) -> tuple[int | None, int | None]:
    """Return the memory, and the bytes that may be swapped out besides; None is the flavor's.

    :raises InvalidRequest: it is more than the flavor has, or too little.
    """
    if asked.memory is not None:
        _at_most(asked, "memory", asked.memory, limits.memory)
        if asked.memory < LEAST_MEMORY:
            raise exceptions.InvalidRequest(
                f"{asked.keys['memory']} must be {LEAST_MEMORY} bytes at least."
            )
    both = asked.memory_and_swap
    if both is None:
        return asked.memory, None
    own = asked.memory if asked.memory is not None else limits.memory
    key = asked.keys["memory_and_swap"]
    if own is None or both < own:
        raise exceptions.InvalidRequest(
            f"{key} is memory and swap together, so it can't be less than the memory; name both."
        )
    if limits.memory is not None and both > limits.memory + limits.swap:
        raise exceptions.InvalidRequest(
            f"{key} can't be more than {limits.memory + limits.swap}, the flavor's memory and swap."
        )
    return asked.memory, both - own


def cpu_shares(asked: parameters.Asked, limits: model.Limits) -> int | None:
    """Return the weight; None is the flavor's."""
    if asked.cpu_shares is not None:
        _at_most(asked, "cpu_shares", asked.cpu_shares, limits.cpu_shares or USUAL_SHARES)
    return asked.cpu_shares


def cpuset(asked: parameters.Asked, limits: model.Limits) -> str | None:
    """Return the CPUs; None is the flavor's.

    :raises InvalidRequest: some of them aren't the flavor's.
    """
    if asked.cpuset is None or limits.cpuset is None:
        return asked.cpuset
    more = _cpus(asked.cpuset) - _cpus(limits.cpuset)
    if more:
        raise exceptions.InvalidRequest(
            f"{asked.keys['cpuset']} can't have CPU {min(more)}; the flavor has {limits.cpuset}."
        )
    return asked.cpuset


def _at_most(asked: parameters.Asked, field: str, value: int, limit: int | None) -> None:
    if limit is not None and value > limit:
        raise exceptions.InvalidRequest(
            f"{asked.keys[field]} can't be more than {limit}, which is what the flavor gives."
        )


def _cpus(text: str) -> set[int]:
    found: set[int] = set()
    for each in text.split(","):
        low, _, high = each.partition("-")
        found |= set(range(int(low), int(high or low) + 1))
    return found
