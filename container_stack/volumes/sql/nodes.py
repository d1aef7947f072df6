# SPDX-License-Identifier: Apache-2.0
"""The part of the registry that remembers nodes."""

import dataclasses
from collections.abc import Sequence
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
    "mariadb": "utc_timestamp(6)",
    "postgresql": "clock_timestamp() at time zone 'utc'",
}


class Nodes(registry.Registry):
    """Nodes in a database."""

    _database: database.Database

    def put_node(self, node: model.Node) -> model.Node:
        try:
            return self._database.write(lambda connection: _put(connection, node))
        except db_exceptions.DBDuplicateEntry:  # two have put it for the first time
            return self._database.write(lambda connection: _put(connection, node))

    def nodes(self) -> Sequence[model.Node]:
        found = self._database.read(sa.select(_NODES).order_by(_NODES.c.id))
        return sorted(map(_node, found), key=lambda node: node.id)

    def remove_node(self, node_id: str) -> None:
        owned = sa.exists().where(tables.VOLUMES.c.attached_on == node_id)
        statement = sa.delete(_NODES).where(_NODES.c.id == node_id, ~owned)
        find = sa.select(_NODES.c.id).where(_NODES.c.id == node_id)

        def work(connection: sa.Connection) -> None:
            if not connection.execute(statement).rowcount and connection.execute(find).first():
                raise exceptions.Busy(f"Node {node_id} owns volumes.")

        self._database.write(work)


def _put(connection: sa.Connection, node: model.Node) -> model.Node:
    row: dict[str, Any] = dataclasses.asdict(node) | {
        "status": str(node.status),
        "timestamp": sa.literal_column(_NOW[connection.dialect.name]),
    }
    where = _NODES.c.id == node.id
    if not connection.execute(sa.update(_NODES).where(where).values(row)).rowcount:
        connection.execute(sa.insert(_NODES).values(row))
    return _node(connection.execute(sa.select(_NODES).where(where)).one())


def _node(row: sa.Row[Any]) -> model.Node:
    fields = dict(row._mapping)
    fields["status"] = model.Status(fields["status"])
    fields["timestamp"] = rows.to_moment(fields["timestamp"])
    return model.Node(**fields)
