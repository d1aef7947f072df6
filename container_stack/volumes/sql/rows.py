# SPDX-License-Identifier: Apache-2.0
"""Volumes as rows, and back."""

import dataclasses
import datetime
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from container_stack.volumes import model

_SPEC = frozenset(field.name for field in dataclasses.fields(model.Spec)) - {"labels"}
_STATUSES = {str(status): status for status in model.Status}
_NO_SOURCE = model.Source()
#: Characters that are kept of a text that somebody else wrote.
LONGEST = 1000


def from_moment(moment: datetime.datetime | None) -> datetime.datetime | None:
    """Return a time as a column keeps it."""
    if moment is None:
        return None
    return moment.astimezone(datetime.UTC).replace(tzinfo=None)


def to_moment(moment: datetime.datetime) -> datetime.datetime:
    """Return a column's time as everybody else has it."""
    return moment.replace(tzinfo=datetime.UTC)


def clean(text: str) -> str:
    """Return a text without what PostgreSQL wouldn't keep, and not longer than is useful."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()[:LONGEST]


def dump(value: object) -> str:
    """Return JSON that is the same whenever the value is."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)


def pair(key: str, value: str) -> str:
    """Return what stands in the JSON of labels exactly if they have this key and value."""
    return dump({key: value})[1:-1]


def named(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row as parameters, whose names mustn't be those of columns."""
    return {f"new_{name}": value for name, value in row.items()}


def inserting(table: sa.Table, but: str = "") -> sa.Insert:
    """Return the statement that inserts a row so named; the column ``but`` counts by itself."""
    names = (column.name for column in table.columns if column.name != but)
    return sa.insert(table).values({name: sa.bindparam(f"new_{name}") for name in names})


def from_volume(volume: model.Volume) -> dict[str, object]:
    """Return a volume as a row."""
    row: dict[str, object] = {"id": volume.id, "driver": volume.driver}
    names = (field.name for field in dataclasses.fields(volume))
    return row | from_changes(
        {name: getattr(volume, name) for name in names if name not in _IDENTITY}
    )


def from_changes(changes: Mapping[str, Any]) -> dict[str, object]:
    """Return fields of a volume as columns.

    :raises TypeError: a volume has no such field, or it never changes.
    """
    row: dict[str, object] = {}
    for name, value in changes.items():
        if name not in _COLUMNS:
            raise TypeError(f"{name!r} of a volume can't be changed.")
        row.update(_COLUMNS[name](value))
    return row


def _spec(spec: model.Spec) -> dict[str, object]:
    fields = {name: getattr(spec, name) for name in _SPEC}
    return {"spec": dump(fields), "config_labels": dump(dict(spec.labels))}


def _source(source: model.Source) -> dict[str, object]:
    return {"parent": source.parent, "seed": source.seed}


def _column(name: str, turn: Callable[[Any], object]) -> Callable[[Any], dict[str, object]]:
    return lambda value: {name: turn(value)}


_IDENTITY = ("id", "driver")
_COLUMNS: Mapping[str, Callable[[Any], dict[str, object]]] = {
    "spec": _spec,
    "source": _source,
    "name": _column("name", str),
    "created_at": _column("created_at", from_moment),
    "labels": _column("labels", lambda labels: dump(dict(labels))),
    "read_only": _column("read_only", bool),
    "state": _column("state", int),
    "status": _column("status", str),
    "node_id": _column("node_id", str),
    "attached_on": _column("attached_on", str),
    "fence": _column("fence", int),
    "device_path": _column("device_path", str),
    "mount_paths": _column("mount_paths", lambda paths: dump(list(paths))),
    "format": _column("format", str),
    "usage": _column("used", int),
    "last_scan": _column("last_scan", from_moment),
    "error": _column("error", clean),
}


def to_volume(row: Sequence[Any]) -> model.Volume:
    """Return a row, whose columns are those of the table in their order, as a volume."""
    parent, seed = row[7], row[8]
    return model.Volume(
        id=row[0],
        driver=row[1],
        name=row[2],
        spec=_to_spec(row[3], row[4]),
        created_at=to_moment(row[5]),
        labels={} if row[6] == "{}" else dict(_to_labels(row[6])),
        source=model.Source(parent, seed) if parent or seed else _NO_SOURCE,
        read_only=bool(row[9]),
        state=_to_state(row[10]),
        status=_STATUSES[row[11]],
        node_id=row[12],
        attached_on=row[13],
        fence=row[14],
        device_path=row[15],
        mount_paths=() if row[16] == "[]" else tuple(json.loads(row[16])),
        format=row[17],
        usage=row[18],
        last_scan=None if row[19] is None else to_moment(row[19]),
        error=row[20],
    )


@functools.lru_cache(64)
def _to_state(number: int) -> model.State:
    return model.State(number)


def _to_spec(text: str, labels: str) -> model.Spec:
    plain = _to_plain_spec(text)
    return plain if labels == "{}" else dataclasses.replace(plain, labels=dict(_to_labels(labels)))


@functools.lru_cache(1024)
def _to_labels(text: str) -> Mapping[str, str]:
    found: Mapping[str, str] = json.loads(text)
    return found


@functools.lru_cache(1024)
def _to_plain_spec(text: str) -> model.Spec:
    # A newer daemon on another node may have written more than this one knows.
    known = {name: value for name, value in json.loads(text).items() if name in _SPEC}
    return model.Spec(**known)
