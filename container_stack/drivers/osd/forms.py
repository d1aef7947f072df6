# SPDX-License-Identifier: Apache-2.0
"""The contract of those who put answers into the words of a release: 0.3 and later."""

import datetime
import itertools
import json
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from container_stack.drivers.osd import body
from container_stack.volumes import model

Json = Any

_encoder = json.JSONEncoder(separators=(",", ":"))
#: Of a long list, what is made and encoded at a time.
_PIECE = 200


class Form(Protocol):
    """How a release puts its answers. ``error`` is "" where there is none."""

    def volume(self, volume: model.Volume) -> Json:
        """A volume, or a snapshot."""

    def created(self, volume_id: str, error: str) -> Json:
        """What a new volume's maker gets."""

    def snapshotted(self, volume_id: str, error: str) -> Json:
        """What a new snapshot's maker gets."""

    def changed(self, change: body.Change, volume: model.Volume | None, error: str) -> Json:
        """What is told of a change.

        :param volume: as it is now; None after an error.
        """

    def done(self, error: str) -> Json:
        """What is told of something that has no result."""

    def stats(self, stats: model.Stats) -> Json:
        """What a device did."""


def encode(answer: Json) -> bytes:
    """Return an answer's JSON, with the end of line that Go's encoder writes."""
    return _encoder.encode(answer).encode() + b"\n"


def encode_list(answers: Iterable[Json]) -> bytes:
    """Return a list's JSON; of what it is made of there is little at a time.

    Ten thousand volumes as dictionaries would keep the garbage collector busy.
    """
    rest = iter(answers)
    pieces = []
    while piece := [*itertools.islice(rest, _PIECE)]:
        pieces.append(_encoder.encode(piece)[1:-1])
    return f"[{','.join(pieces)}]\n".encode()


def alerts(found: Sequence[model.Alert]) -> Json:
    """Return alerts; 0.3 had none, so that all releases have the later form."""
    return {"alert": [_alert(each) for each in found]} if found else {}


def _alert(found: model.Alert) -> Json:
    return {
        "id": found.id,
        # The original counts from the worst: ALARM 1, WARNING 2, NOTIFY 3.
        "severity": 1 + model.Severity.ALARM - found.severity,
        "message": found.text,
        "timestamp": moment(found.raised_at),
        "resource_id": found.volume_id,
        "resource": 1,
        "cleared": found.cleared_at is not None,
    }


def event(found: model.Event) -> Json:
    """Return an event; no release of the original told any."""
    return {
        "id": found.id,
        "timestamp": moment(found.at),
        "kind": found.kind,
        "driver": found.driver,
        "volume_id": found.volume_id,
        "node_id": found.node_id,
        "text": found.text,
    }


def moment(at: datetime.datetime) -> Json:
    """Return a time as later releases put it."""
    at = at if at.tzinfo else at.replace(tzinfo=datetime.UTC)
    return {"seconds": int(at.timestamp()), "nanos": at.microsecond * 1000}


def rfc3339(at: datetime.datetime | None) -> str:
    """Return a time as Go writes it."""
    if at is None:
        return "0001-01-01T00:00:00Z"
    at = at.astimezone(datetime.UTC) if at.tzinfo else at.replace(tzinfo=datetime.UTC)
    return at.isoformat().removesuffix("+00:00") + "Z"
