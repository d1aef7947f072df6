# SPDX-License-Identifier: Apache-2.0
"""Sets of CPUs as the kernel writes them, such as 0-3,7."""

from collections.abc import Collection


def parse(text: str) -> set[int]:
    """Return the CPUs of a well-formed text."""
    found: set[int] = set()
    for each in text.split(","):
        low, _, high = each.partition("-")
        found |= set(range(int(low), int(high or low) + 1))
    return found


def of(cpus: Collection[int]) -> str:
    """Return the text for some CPUs."""
    return ",".join(str(cpu) for cpu in sorted(cpus))


def within(wanted: str | None, given: str | None) -> str | None:
    """Return those of the wanted CPUs that are given, or else all that are; None is any."""
    if wanted is None or given is None:
        return wanted or given
    return of(parse(wanted) & parse(given)) or given
