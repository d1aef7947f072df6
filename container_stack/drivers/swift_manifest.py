# SPDX-License-Identifier: Apache-2.0
"""Manifests of static large objects, as Swift takes and gives them.

A tenant may have made one of anything: of ranges, of data, of other large objects. Such a one is
refused, since neither its parts can be checked nor what removing them would take along.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from container_stack import exceptions
from container_stack.storlets import objects

#: Bytes; Swift's own bound for the ones it takes.
LARGEST = 8 * 1024**2
_MD5 = re.compile(r"[0-9a-f]{32}")


def dump(segments: Sequence[objects.Segment]) -> str:
    """Return a manifest to send.

    :raises InvalidRequest: there are none, or too many segments.
    """
    if not 0 < len(segments) <= objects.MAX_SEGMENTS:
        raise exceptions.InvalidRequest(
            f"An object has 1 to {objects.MAX_SEGMENTS} segments, not {len(segments)}."
        )
    return json.dumps(
        [
            {"path": f"/{each.container}/{each.name}", "etag": each.etag, "size_bytes": each.size}
            for each in segments
        ]
    )


def load(where: str, pieces: Iterable[bytes]) -> Sequence[objects.Segment]:
    """Return what a manifest that was got consists of.

    :param where: the object, for messages.
    :raises InvalidRequest: it is made of anything but whole objects with etags.
    """
    try:
        listed = json.loads(b"".join(_bounded(pieces)))
        if not isinstance(listed, list):
            raise ValueError("it is no list")
        return [_segment(each) for each in listed]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise exceptions.InvalidRequest(
            f"{where} isn't made of whole objects; upload it again, whole or with "
            f"`swift upload --use-slo --segment-size`."
        ) from exc


def _segment(entry: Any) -> objects.Segment:
    root, container, name = entry["name"].split("/", 2)
    etag, size = entry["hash"], entry["bytes"]
    if root or {"range", "sub_slo", "data"} & entry.keys() or not _MD5.fullmatch(etag):
        raise ValueError("it is no whole object")
    if type(size) is not int or size < 0:
        raise ValueError("it has no size")
    return objects.Segment(container, name, etag, size)


def _bounded(pieces: Iterable[bytes]) -> Iterator[bytes]:
    left = LARGEST
    for piece in pieces:
        left -= len(piece)
        if left < 0:
            raise ValueError("it is too large")
        yield piece
