# SPDX-License-Identifier: Apache-2.0
"""Parts of lists, as requests ask for them: filter, sort, offset, limit."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from container_stack.testing.edf import errors

#: Entries of a page: when nobody asks for another number, and at most.
USUAL, MOST = 100, 1000

_MATCH = re.compile(r"match\((\w+),(.*)\)")

Entry = Mapping[str, Any]
Page = tuple[list[Any], dict[str, int]]


def page(
    entries: Iterable[Entry],
    params: Mapping[str, Any],
    shape: Callable[[Any], Any],
    *,
    counts_filtered: bool,
) -> Page:
    """Return the entries that were asked for, each in its shape, and what the array tells of them.

    :param shape: called for what is on the page, and for nothing else.
    :param counts_filtered: whether the total counts only what the filter admits. Before software
        3.3 it counts everything (dfs_sdk, connection.py).
    """
    every = list(entries)
    admitted = _filtered(every, params.get("filter"))
    if key := params.get("sort"):
        name = str(key).removeprefix("-")
        admitted.sort(key=lambda each: str(each.get(name, "")), reverse=key != name)
    limit = _number(params, "limit", USUAL)
    offset = _number(params, "offset", 0)
    if not 0 < limit <= MOST:
        raise errors.invalid(f"limit: 1 to {MOST}")
    found = [shape(each) for each in admitted[offset : offset + limit]]
    total = len(admitted if counts_filtered else every)
    counts = {
        "total_count": total,
        "request_count": len(found),
        "limit": limit,
        "offset": offset,
    }
    return found, counts


def _filtered(entries: list[Entry], text: Any) -> list[Entry]:
    if not text:
        return entries.copy()
    found = _MATCH.fullmatch(str(text))
    try:
        pattern = re.compile(found[2] if found else "(")
    except re.error as exc:
        raise errors.invalid(f"filter: {text} is none; write match(name,.*x.*)") from exc
    assert found is not None
    return [each for each in entries if pattern.fullmatch(str(each.get(found[1], "")))]


def _number(params: Mapping[str, Any], name: str, default: int) -> int:
    text = str(params.get(name, default))
    if not (text.isascii() and text.isdecimal()):
        raise errors.invalid(f"{name}: {text} is no number")
    return int(text)
