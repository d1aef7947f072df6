# SPDX-License-Identifier: Apache-2.0
"""The part of the registry that remembers what happened."""

import datetime
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from oslo_db import exception as db_exceptions

from container_stack.volumes import model, registry
from container_stack.volumes.sql import database, journal, rows, tables

_EVENTS, _SAMPLES, _ALERTS = tables.EVENTS, tables.SAMPLES, tables.ALERTS
_WHICH = sa.bindparam("which", type_=sa.String())
_MOMENT = sa.bindparam("moment", type_=sa.DateTime())
_USED = sa.bindparam("bytes", type_=sa.BigInteger())
_ADD_EVENT = rows.inserting(_EVENTS, but="id")
_ADD_ALERT = rows.inserting(_ALERTS, but="id")
# Asking again is harmless: a sample of the same moment takes the place of the former one.
_REMOVE_SAMPLE = sa.delete(_SAMPLES).where(_SAMPLES.c.volume_id == _WHICH, _SAMPLES.c.at == _MOMENT)
_ADD_SAMPLE = sa.insert(_SAMPLES).values(volume_id=_WHICH, at=_MOMENT, used=_USED)
_MEASURED = (
    sa.update(tables.VOLUMES)
    .where(tables.VOLUMES.c.id == _WHICH)
    .values(used=_USED, last_scan=_MOMENT)
)
_STANDING = sa.and_(_ALERTS.c.volume_id == _WHICH, _ALERTS.c.standing.is_not(None))
_CLEARING = {"standing": None, "cleared_at": _MOMENT}
_CLEAR = sa.update(_ALERTS).where(_STANDING).values(_CLEARING)
_CLEAR_TEXT = (
    sa.update(_ALERTS)
    .where(_STANDING, _ALERTS.c.text == sa.bindparam("said", type_=sa.Text()))
    .values(_CLEARING)
)


class Happenings(registry.Registry):
    """Events, samples of usage, and alerts in a database."""

    def __init__(self, opened: database.Database) -> None:
        self._database = opened
        self._journal = journal.Journal(opened, _ADD_EVENT)

    def close(self) -> None:
        self._journal.close()
        self._database.close()

    def add_event(
        self, kind: str, *, driver: str = "", volume_id: str = "", node_id: str = "", text: str = ""
    ) -> None:
        row = {
            "at": _now(),
            "kind": kind,
            "driver": driver,
            "volume_id": volume_id,
            "node_id": node_id,
            "text": rows.clean(text),
        }
        self._journal.add(rows.named(row))

    def events(
        self, *, driver: str = "", volume_id: str = "", after: int = 0, limit: int = 100
    ) -> Sequence[model.Event]:
        self._journal.flush()
        statement = sa.select(_EVENTS).order_by(_EVENTS.c.id.desc()).limit(limit)
        for column, value in ((_EVENTS.c.driver, driver), (_EVENTS.c.volume_id, volume_id)):
            if value:
                statement = statement.where(column == value)
        if after:
            statement = statement.where(_EVENTS.c.id > after)
        return [
            model.Event(id=number, at=rows.to_moment(at), kind=kind, driver=of, volume_id=volume,
                        node_id=node, text=text)
            for number, at, kind, of, volume, node, text in self._database.read(statement)
        ]  # fmt: skip

    def add_samples(self, samples: Sequence[model.Sample]) -> None:
        taken: list[dict[str, Any]] = [
            {"which": sample.volume_id, "moment": rows.from_moment(sample.at), "bytes": sample.used}
            for sample in samples
        ]
        if taken:
            self._database.write(lambda connection: _add_samples(connection, taken), lasting=False)

    def samples(
        self, volume_id: str, *, since: datetime.datetime | None = None, limit: int = 500
    ) -> Sequence[model.Sample]:
        newest = sa.select(_SAMPLES).where(_SAMPLES.c.volume_id == volume_id)
        if since is not None:
            newest = newest.where(_SAMPLES.c.at >= rows.from_moment(since))
        found = self._database.read(newest.order_by(_SAMPLES.c.at.desc()).limit(limit))
        return [model.Sample(volume, rows.to_moment(at), used) for volume, at, used in found[::-1]]

    def raise_alert(self, volume_id: str, severity: model.Severity, text: str) -> None:
        said = rows.clean(text)
        row: dict[str, object] = {
            "volume_id": volume_id,
            "severity": int(severity),
            "text": said,
            "raised_at": _now(),
            "cleared_at": None,
            "standing": _standing(volume_id, severity, said),
        }
        try:
            self._database.write(lambda connection: connection.execute(_ADD_ALERT, rows.named(row)))
        except db_exceptions.DBDuplicateEntry:
            return  # it stands

    def clear_alerts(self, volume_id: str, text: str = "") -> None:
        values = {"which": volume_id, "said": rows.clean(text), "moment": _now()}
        statement = _CLEAR_TEXT if text else _CLEAR
        self._database.write(lambda connection: connection.execute(statement, values))

    def alerts(
        self, volume_id: str = "", *, standing: bool = True, limit: int = 100
    ) -> Sequence[model.Alert]:
        statement = sa.select(_ALERTS).order_by(_ALERTS.c.id.desc()).limit(limit)
        if volume_id:
            statement = statement.where(_ALERTS.c.volume_id == volume_id)
        if standing:
            statement = statement.where(_ALERTS.c.standing.is_not(None))
        return [_alert(row) for row in self._database.read(statement)]

    def trim(self, before: datetime.datetime) -> None:
        self._journal.flush()
        moment = rows.from_moment(before)
        for column in (_EVENTS.c.at, _SAMPLES.c.at, _ALERTS.c.cleared_at):
            old = sa.delete(column.table).where(column < moment)
            self._database.write(lambda connection, old=old: connection.execute(old))  # type: ignore[misc]


def _add_samples(connection: database.Connection, taken: Sequence[Mapping[str, Any]]) -> None:
    for statement in (_REMOVE_SAMPLE, _ADD_SAMPLE, _MEASURED):
        connection.execute(statement, taken)


def _alert(row: Sequence[Any]) -> model.Alert:
    number, volume_id, severity, text, raised_at, cleared_at, _ = row
    return model.Alert(
        id=number,
        volume_id=volume_id,
        severity=model.Severity(severity),
        text=text,
        raised_at=rows.to_moment(raised_at),
        cleared_at=None if cleared_at is None else rows.to_moment(cleared_at),
    )


def _now() -> datetime.datetime | None:
    return rows.from_moment(datetime.datetime.now(datetime.UTC))


def _standing(volume_id: str, severity: model.Severity, text: str) -> str:
    return hashlib.sha256(rows.dump([volume_id, int(severity), text]).encode()).hexdigest()
