# SPDX-License-Identifier: Apache-2.0
"""What LVM's reports say, and what we write on logical volumes as tags.

Sizes come as bytes without a unit (``--units b --nosuffix``), so they are numbers here and never
compared as text. A tag may hold letters, digits and ``_+.-/=!:&#`` (lvm(8)); any other character
is written as ``+`` and the two hexadecimal digits of each of its UTF-8 bytes.
"""

import dataclasses
import json
import re
from collections.abc import Mapping
from typing import Any

from container_stack import exceptions

_PREFIX = "container_stack."
_PLAIN = re.compile(r"[A-Za-z0-9_.-]")
_CODED = re.compile(rb"\+([0-9A-F]{2})")
#: Characters in a tag, says lvm(8).
_TAG_LENGTH = 1024


@dataclasses.dataclass(frozen=True, slots=True)
class Group:
    """A volume group; sizes are bytes."""

    size: int
    free: int
    extent: int


@dataclasses.dataclass(frozen=True, slots=True)
class LogicalVolume:
    """A logical volume; sizes are bytes.

    :param tags: ours alone; the values are in code.
    :param active: it can be used; what LVM was killed with is suspended, and no longer active.
    :param merging: a snapshot is being put back into it.
    :param origin: name of the volume that this is a snapshot of, or "".
    :param pool: name of its thin pool, or "".
    :param data: bytes occupied, for thin volumes and pools.
    """

    name: str
    size: int
    tags: Mapping[str, str]
    active: bool
    merging: bool
    origin: str
    pool: str
    data: int


def group(report: str) -> Group:
    """Return the volume group in a report of ``vgs``."""
    row = _rows(report, "vg")[0]
    return Group(
        size=int(row["vg_size"]), free=int(row["vg_free"]), extent=int(row["vg_extent_size"])
    )


def logical_volumes(report: str) -> dict[str, LogicalVolume]:
    """Return the logical volumes in a report of ``lvs``, by name."""
    return {row["lv_name"]: _logical_volume(row) for row in _rows(report, "lv")}


def tag(key: str, value: str) -> str:
    """Return the tag that says that ``key`` is ``value``, a text in code.

    :raises InvalidRequest: LVM can't keep so much.
    """
    text = f"{_PREFIX}{key}={value}"
    if len(text) > _TAG_LENGTH:
        raise exceptions.InvalidRequest(
            f"LVM can't keep so long a text as {key}: {len(text)} characters of {_TAG_LENGTH}."
        )
    return text


def encode(text: str) -> str:
    """Return any text in the characters that a tag may hold."""
    return "".join(
        char if _PLAIN.fullmatch(char) else "".join(f"+{byte:02X}" for byte in char.encode())
        for char in text
    )


def decode(text: str) -> str:
    """Return the text that :func:`encode` was given."""
    raw = _CODED.sub(lambda match: bytes([int(match[1], 16)]), text.encode())
    return raw.decode(errors="replace")


def pack(labels: Mapping[str, str]) -> str:
    """Return labels as one text, the same for the same labels."""
    return "&".join(f"{key}={encode(value)}" for key, value in sorted(labels.items()))


def unpack(text: str) -> dict[str, str]:
    """Return the labels that :func:`pack` was given."""
    pairs = (part.split("=", 1) for part in text.split("&") if part)
    return {key: decode(value) for key, value in pairs}


def _rows(report: str, kind: str) -> list[dict[str, str]]:
    parsed: Any = json.loads(report)
    return [row for part in parsed["report"] for row in part[kind]]


def _logical_volume(row: Mapping[str, str]) -> LogicalVolume:
    size = int(row["lv_size"])
    return LogicalVolume(
        name=row["lv_name"],
        size=size,
        tags=_tags(row["lv_tags"]),
        active=row["lv_active"] == "active" and not row["lv_suspended"],
        merging=row["lv_merging"] == "merging",
        origin=row["origin"],
        pool=row["pool_lv"],
        data=round(float(row["data_percent"] or 0) * size / 100),
    )


def _tags(text: str) -> dict[str, str]:
    ours = (tag.removeprefix(_PREFIX) for tag in text.split(",") if tag.startswith(_PREFIX))
    return dict(tag.split("=", 1) for tag in ours if "=" in tag)
