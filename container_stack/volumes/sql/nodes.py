# SPDX-License-Identifier: Apache-2.0
"""The part of the registry that remembers nodes."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa
from oslo_db import exception as db_exceptions

from container_stack import exceptions
from container_stack.volumes import model, registry
from container_stack.volumes.sql import database, rows, tables

_NODES = tables.NODES
#: What each database calls the time that is now, in UTC.
_NOW = {
    "sqlite": "strftime('%Y-%m-%d %H:%M:%f', 'now')",
    "mysql": "utc_timestamp(6)",
    "postgresql": "clock_timestamp() at time zone 'utc'",
}
_NAMES = [column.name for column in _NODES.columns]
_WHICH = sa.bindparam("which", type_=sa.String())
_ALL = sa.select(_NODES).order_by(_NODES.c.id)
_ONE = sa.select(_NODES).where(_NODES.c.id == _WHICH)
_REMOVE = sa.delete(_NODES).where(
    _NODES.c.id == _WHICH, ~sa.exists().where(tables.VOLUMES.c.attached_on == _WHICH)
)


class Nodes(registry.Registry):
    """Nodes in a database."""

    _database: database.Database

    def put_node(self, node: model.Node) -> model.Node:
        try:
            return self._database.write(self._putting(node))
        except db_exceptions.DBDuplicateEntry:  # two have put it for the first time
            return self._database.write(self._putting(node))

    def nodes(self) -> Sequence[model.Node]:
        found = self._database.fetch(_ALL, {})
        return sorted(map(_node, found), key=lambda node: node.id)

    def remove_node(self, node_id: str) -> None:
        which = {"which": node_id}

        def work(connection: database.Connection) -> None:
            gone = connection.execute(_REMOVE, which).rowcount
            if not gone and connection.execute(_ONE, which).fetchall():
                raise exceptions.Busy(f"Node {node_id} owns volumes.")

        self._database.write(work)

    def _putting(self, node: model.Node) -> Callable[[database.Connection], model.Node]:
        update, insert = _statements(self._database.engine.name)
        values = rows.named(dataclasses.asdict(node))
        values |= {"new_status": str(node.status), "which": node.id}

        def work(connection: database.Connection) -> model.Node:
            if not connection.execute(update, values).rowcount:
                connection.execute(insert, values)
            [row] = connection.execute(_ONE, values).fetchall()
            return _node(row)

        return work


@functools.cache
def _statements(kind: str) -> tuple[sa.Update, sa.Insert]:
    row: dict[str, Any] = {name: sa.bindparam(f"new_{name}") for name in _NAMES}
    row["timestamp"] = sa.literal_column(_NOW[kind])
    return sa.update(_NODES).where(_NODES.c.id == _WHICH).values(row), sa.insert(_NODES).values(row)


def _node(row: Sequence[Any]) -> model.Node:
    fields = dict(zip(_NAMES, row, strict=True))
    fields["status"] = model.Status(fields["status"])
    fields["timestamp"] = rows.to_moment(fields["timestamp"])
    return model.Node(**fields)
