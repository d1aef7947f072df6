# SPDX-License-Identifier: Apache-2.0
"""The part of the registry that remembers volumes, and who owns them."""

import functools
import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa
from oslo_db import exception as db_exceptions

from container_stack import exceptions
from container_stack.volumes import model, registry
from container_stack.volumes.sql import database, rows, tables

_VOLUMES = tables.VOLUMES
#: Names of parameters, which mustn't be those of columns.
_WHICH = sa.bindparam("which", type_=sa.String())
_OWNER = sa.bindparam("owner", type_=sa.String())
_FENCE = sa.bindparam("reached", type_=sa.BigInteger())
_ONE = sa.select(_VOLUMES).where(_VOLUMES.c.id == _WHICH)
_NAMED = sa.select(_VOLUMES).where(
    _VOLUMES.c.driver == sa.bindparam("of"), _VOLUMES.c.name == sa.bindparam("called")
)
_CHILDREN = (
    sa.select(_VOLUMES)
    .where(_VOLUMES.c.driver == sa.bindparam("of"), _VOLUMES.c.parent == _WHICH)
    .order_by(_VOLUMES.c.name)
)
_ADD = rows.inserting(_VOLUMES)
_CLAIM = (
    sa.update(_VOLUMES)
    .where(_VOLUMES.c.id == _WHICH, _VOLUMES.c.attached_on == "")
    .values(attached_on=_OWNER, fence=_VOLUMES.c.fence + 1)
)
#: What isn't so any more when a node owns a volume no more.
_UNUSED: dict[str, Any] = {"attached_on": "", "device_path": "", "mount_paths": "[]"}
#: What is only said of volumes in use, or measured anew.
_PASSING = {"device_path", "mount_paths", "last_scan"}
_RELEASE = (
    sa.update(_VOLUMES)
    .where(_VOLUMES.c.id == _WHICH, _VOLUMES.c.attached_on == _OWNER)
    .values(_UNUSED)
)
_OWNED = (
    sa.select(_VOLUMES.c.id)
    .where(_VOLUMES.c.attached_on == _OWNER)
    .order_by(_VOLUMES.c.id)
    .with_for_update()
)
_RELEASE_ALL = sa.update(_VOLUMES).where(_VOLUMES.c.attached_on == _OWNER).values(_UNUSED)
_REMOVE = sa.delete(_VOLUMES).where(_VOLUMES.c.id == _WHICH)
_REMOVE_UNLESS = _REMOVE.where(_VOLUMES.c.fence <= _FENCE)
_REMOVE_REST = [
    sa.delete(table).where(table.c.volume_id == _WHICH) for table in (tables.SAMPLES, tables.ALERTS)
]


class Volumes(registry.Registry):
    """Volumes in a database."""

    _database: database.Database

    @property
    def local(self) -> bool:
        return self._database.engine.name == "sqlite"

    def add(self, volume: model.Volume) -> None:
        row = rows.named(rows.from_volume(volume))
        try:
            self._database.write(lambda connection: connection.execute(_ADD, row))
        except db_exceptions.DBDuplicateEntry as error:
            raise exceptions.AlreadyExists(
                f"{volume.driver} has a volume named {volume.name} already."
            ) from error

    def get(self, volume_id: str) -> model.Volume:
        return _only(self._database.fetch(_ONE, {"which": volume_id}))

    def find(self, driver: str, name: str) -> model.Volume:
        return _only(self._database.fetch(_NAMED, {"of": driver, "called": name}))

    def list(self, driver: str, query: model.Query = model.EVERYTHING) -> list[model.Volume]:
        found = map(rows.to_volume, self._select(driver, query))
        if not (query.labels or query.config_labels):
            return [*found]
        wanted = (volume for volume in found if _has_labels(volume, query))
        return [*itertools.islice(wanted, query.limit or None)]

    def _select(self, driver: str, query: model.Query) -> Sequence[Any]:
        if query.parents and query == model.Query(parents=query.parents[:1]):
            # Whoever deletes a volume asks this.
            return self._database.fetch(_CHILDREN, {"of": driver, "which": query.parents[0]})
        return self._database.read(_select(driver, query))

    def update(
        self, volume_id: str, *, fence: int | None = None, **changes: object
    ) -> model.Volume:
        row = rows.from_changes(changes)
        statement = _update(tuple(row), fence is not None)
        values = {**rows.named(row), "which": volume_id, "reached": fence}

        def work(connection: database.Connection) -> model.Volume:
            changed = not row or connection.execute(statement, values).rowcount
            volume = _get(connection, volume_id)
            if not changed or (fence is not None and volume.fence > fence):
                raise _lost(volume)
            return volume

        try:
            return self._database.write(work, lasting=not _PASSING & row.keys())
        except db_exceptions.DBDuplicateEntry as error:
            raise exceptions.AlreadyExists("The volume's new name is taken.") from error

    def remove(self, volume_id: str, *, fence: int | None = None) -> None:
        statement = _REMOVE if fence is None else _REMOVE_UNLESS
        values = {"which": volume_id, "reached": fence}

        def work(connection: database.Connection) -> None:
            if not connection.execute(statement, values).rowcount:
                for row in connection.execute(_ONE, values).fetchall():
                    raise _lost(rows.to_volume(row))
            for rest in _REMOVE_REST:
                connection.execute(rest, values)

        # A row that a power cut brings back says that its volume is to be erased.
        self._database.write(work, lasting=False)

    def claim(self, volume_id: str, node_id: str) -> model.Volume:
        def work(connection: database.Connection) -> model.Volume:
            connection.execute(_CLAIM, {"which": volume_id, "owner": node_id})
            volume = _get(connection, volume_id)
            if volume.attached_on != node_id:
                raise exceptions.Busy(f"Volume is attached on {volume.attached_on}.")
            return volume

        return self._database.write(work, lasting=False)

    def release(self, volume_id: str, node_id: str) -> None:
        values = {"which": volume_id, "owner": node_id}
        release = lambda connection: connection.execute(_RELEASE, values)  # noqa: E731
        self._database.write(release, lasting=False)

    def release_all(self, node_id: str) -> Sequence[str]:
        def work(connection: database.Connection) -> Sequence[str]:
            owned = connection.execute(_OWNED, {"owner": node_id}).fetchall()
            connection.execute(_RELEASE_ALL, {"owner": node_id})
            return [volume_id for (volume_id,) in owned]

        return self._database.write(work)


@functools.lru_cache(128)
def _update(names: tuple[str, ...], fenced: bool) -> sa.Update:
    statement = sa.update(_VOLUMES).where(_VOLUMES.c.id == _WHICH)
    if fenced:
        statement = statement.where(_VOLUMES.c.fence <= _FENCE)
    return statement.values({name: sa.bindparam(f"new_{name}") for name in names})


def _get(connection: database.Connection, volume_id: str) -> model.Volume:
    return _only(connection.execute(_ONE, {"which": volume_id}).fetchall())


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
