# SPDX-License-Identifier: Apache-2.0
"""The part of the registry that remembers volumes, and who owns them."""

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import sqlalchemy as sa
from oslo_db import exception as db_exceptions

from container_stack import exceptions
from container_stack.volumes import model, registry
from container_stack.volumes.sql import database, rows, tables

_VOLUMES = tables.VOLUMES
_ONE = sa.select(_VOLUMES).where(_VOLUMES.c.id == sa.bindparam("id"))
_NAMED = sa.select(_VOLUMES).where(
    _VOLUMES.c.driver == sa.bindparam("driver"), _VOLUMES.c.name == sa.bindparam("name")
)
#: What isn't so any more when a node owns a volume no more.
_UNUSED: dict[str, Any] = {"attached_on": "", "device_path": "", "mount_paths": "[]"}


class Volumes(registry.Registry):
    """Volumes in a database."""

    def __init__(self, opened: database.Database) -> None:
        self._database = opened
        self._by_id = opened.prepare(_ONE)
        self._by_name = opened.prepare(_NAMED)

    def add(self, volume: model.Volume) -> None:
        row = rows.from_volume(volume)
        try:
            self._database.write(lambda connection: connection.execute(sa.insert(_VOLUMES), row))
        except db_exceptions.DBDuplicateEntry as error:
            raise exceptions.AlreadyExists(
                f"{volume.driver} has a volume named {volume.name} already."
            ) from error

    def get(self, volume_id: str) -> model.Volume:
        return _only(self._by_id({"id": volume_id}))

    def find(self, driver: str, name: str) -> model.Volume:
        return _only(self._by_name({"driver": driver, "name": name}))

    def list(self, driver: str, query: model.Query = model.EVERYTHING) -> list[model.Volume]:
        found = map(rows.to_volume, self._database.read(_select(driver, query)))
        wanted = (volume for volume in found if _has_labels(volume, query))
        return [*itertools.islice(wanted, query.limit or None)]

    def update(
        self, volume_id: str, *, fence: int | None = None, **changes: object
    ) -> model.Volume:
        row = rows.from_changes(changes)
        statement = sa.update(_VOLUMES).where(_VOLUMES.c.id == volume_id, *_unless_grown(fence))

        def work(connection: sa.Connection) -> model.Volume:
            changed = not row or connection.execute(statement.values(row)).rowcount
            volume = _get(connection, volume_id)
            if not changed or (fence is not None and volume.fence > fence):
                raise _lost(volume)
            return volume

        try:
            return self._database.write(work)
        except db_exceptions.DBDuplicateEntry as error:
            raise exceptions.AlreadyExists("The volume's new name is taken.") from error

    def remove(self, volume_id: str, *, fence: int | None = None) -> None:
        statement = sa.delete(_VOLUMES).where(_VOLUMES.c.id == volume_id, *_unless_grown(fence))

        def work(connection: sa.Connection) -> None:
            if not connection.execute(statement).rowcount:
                for row in connection.execute(_ONE, {"id": volume_id}):
                    raise _lost(rows.to_volume(row))
            for table in (tables.SAMPLES, tables.ALERTS):
                connection.execute(sa.delete(table).where(table.c.volume_id == volume_id))

        self._database.write(work)

    def claim(self, volume_id: str, node_id: str) -> model.Volume:
        statement = (
            sa.update(_VOLUMES)
            .where(_VOLUMES.c.id == volume_id, _VOLUMES.c.attached_on == "")
            .values(attached_on=node_id, fence=_VOLUMES.c.fence + 1)
        )

        def work(connection: sa.Connection) -> model.Volume:
            connection.execute(statement)
            volume = _get(connection, volume_id)
            if volume.attached_on != node_id:
                raise exceptions.Busy(f"Volume is attached on {volume.attached_on}.")
            return volume

        return self._database.write(work)

    def release(self, volume_id: str, node_id: str) -> None:
        self._database.write(_releasing(node_id, _VOLUMES.c.id == volume_id))

    def release_all(self, node_id: str) -> Sequence[str]:
        return self._database.write(_releasing(node_id))


def _releasing(
    node_id: str, *which: sa.ColumnElement[bool]
) -> Callable[[sa.Connection], Sequence[str]]:
    owned = sa.and_(_VOLUMES.c.attached_on == node_id, *which)
    find = sa.select(_VOLUMES.c.id).where(owned).order_by(_VOLUMES.c.id).with_for_update()

    def work(connection: sa.Connection) -> Sequence[str]:
        found = connection.execute(find).scalars().all()
        connection.execute(sa.update(_VOLUMES).where(owned).values(_UNUSED))
        return found

    return work


def _unless_grown(fence: int | None) -> Iterable[sa.ColumnElement[bool]]:
    return () if fence is None else (_VOLUMES.c.fence <= fence,)


def _get(connection: sa.Connection, volume_id: str) -> model.Volume:
    return _only(connection.execute(_ONE, {"id": volume_id}).fetchall())


def _only(found: Sequence[Any]) -> model.Volume:
    if not found:
        raise exceptions.NotFound("Volume does not exist.")
    return rows.to_volume(found[0])


def _lost(volume: model.Volume) -> exceptions.Busy:
    owner = volume.attached_on or "another node"
    return exceptions.Busy(f"Volume {volume.name} has come to belong to {owner}.")


def _select(driver: str, query: model.Query) -> sa.Select[Any]:
    table = _VOLUMES.c
    exact = {"name": query.name, "node_id": query.node_id, "attached_on": query.attached_on}
    statement = sa.select(_VOLUMES).where(table.driver == driver).order_by(table.name)
    statement = statement.where(*(table[key] == value for key, value in exact.items() if value))
    statement = statement.where(*_with_labels(query))
    if query.ids is not None:
        statement = statement.where(table.id.in_(query.ids))
    if query.parents is not None:
        any_of = table.parent.in_(query.parents) if query.parents else table.parent != ""
        statement = statement.where(any_of)
    if query.after:
        statement = statement.where(table.name > query.after)
    if query.limit and not (query.labels or query.config_labels):
        statement = statement.limit(query.limit)
    return statement


def _with_labels(query: model.Query) -> Iterable[sa.ColumnElement[bool]]:
    # SQLite's LIKE takes "A" for "a", so that what it finds is looked at again.
    for column, labels in (
        (_VOLUMES.c.labels, query.labels),
        (_VOLUMES.c.config_labels, query.config_labels),
    ):
        for key, value in labels.items():
            yield column.contains(rows.pair(key, value), autoescape=True)


def _has_labels(volume: model.Volume, query: model.Query) -> bool:
    return (
        query.labels.items() <= volume.labels.items()
        and query.config_labels.items() <= volume.spec.labels.items()
    )
