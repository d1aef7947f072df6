# SPDX-License-Identifier: Apache-2.0
"""How each kind of database is talked to, so that none is waited for without end."""

import math
import sqlite3
from typing import Any

import sqlalchemy as sa
from oslo_db.sqlalchemy import exc_filters
from sqlalchemy import event, exc

from container_stack import exceptions

#: The Python driver for each kind, when the URL names none.
_DRIVERS = {
    "mysql": "mysql+pymysql",
    "mariadb": "mysql+pymysql",
    "postgresql": "postgresql+psycopg",
    "sqlite": "sqlite",
}
_HELP = (
    "The registry's URL is sqlite:////path, mysql://user:password@host/database or "
    "postgresql://user:password@host/database, and its Python driver must be installed."
)


def parse(text: str | sa.URL) -> sa.URL:
    """Return a database's URL, with the Python driver that talks to it.

    :raises InvalidRequest: it isn't one of SQLite, MySQL, MariaDB or PostgreSQL.
    """
    try:
        url = sa.make_url(text)
        url = url.set(drivername=_DRIVERS.get(url.drivername, url.drivername))
        url.get_dialect().import_dbapi()
    except (exc.SQLAlchemyError, ImportError, ValueError):
        raise exceptions.InvalidRequest(_HELP) from None  # its cause may name a password
    if url.drivername not in _DRIVERS.values() or url.database in (None, "", ":memory:"):
        raise exceptions.InvalidRequest(_HELP)
    return url


def make(url: sa.URL, patience: float) -> sa.Engine:
    """Return an engine that waits so many seconds for a server, a lock or a free connection."""
    kind = url.get_backend_name()
    specific = {"sqlite": _sqlite, "mysql": _mysql, "postgresql": _postgresql}[kind](patience)
    engine = sa.create_engine(
        url,
        poolclass=sa.QueuePool,
        pool_size=8,
        max_overflow=24,
        pool_timeout=patience,
        pool_recycle=1800,
        hide_parameters=True,
        **specific,
    )
    if kind == "sqlite":
        event.listen(engine, "connect", _tune_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    elif kind == "postgresql":
        _bound_postgresql(engine, patience)
    exc_filters.register_engine(engine)
    return engine


def reading(engine: sa.Engine) -> sa.Engine:
    """Return the same for single statements that read; they need no transaction."""
    if engine.name == "postgresql":
        return engine.execution_options(isolation_level="AUTOCOMMIT")
    # MySQL would have to be told twice, which takes longer than to begin and end one.
    return engine.execution_options(reads=True)


def _sqlite(patience: float) -> dict[str, Any]:
    return {
        # Whoever lends a connection ends his transaction himself.
        "pool_reset_on_return": None,
        "connect_args": {"timeout": patience, "check_same_thread": False},
    }


def _mysql(patience: float) -> dict[str, Any]:
    seconds = math.ceil(patience)
    waits = {"connect_timeout": seconds, "read_timeout": seconds, "write_timeout": seconds}
    tuned = f"SET SESSION innodb_lock_wait_timeout = {max(1, seconds // 2)}"
    return {
        "pool_pre_ping": True,
        # Nothing here reads twice, and locks on gaps between rows make deadlocks.
        "isolation_level": "READ COMMITTED",
        "connect_args": {"charset": "utf8mb4", "init_command": tuned, **waits},
    }


def _postgresql(patience: float) -> dict[str, Any]:
    waits = f"-c lock_timeout={int(patience * 500)} -c statement_timeout={int(patience * 1000)}"
    return {
        "pool_pre_ping": True,
        "connect_args": {"connect_timeout": max(2, math.ceil(patience)), "options": waits},
    }


def _bound_postgresql(engine: sa.Engine, patience: float) -> None:
    from container_stack.volumes.sql import bounded  # psycopg is only there where it is used

    connections = bounded.connection_class(patience)

    def connect(dialect: object, record: object, args: list[Any], options: dict[str, Any]) -> Any:
        return connections.connect(*args, **options)

    event.listen(engine, "do_connect", connect)


def _tune_sqlite(connection: sqlite3.Connection, record: object) -> None:
    # Python's module would begin transactions as it sees fit.
    connection.isolation_level = None
    # Who reads doesn't wait for who writes.
    connection.execute("PRAGMA journal_mode = WAL")


def _begin_sqlite(connection: sa.Connection) -> None:
    if "reads" not in connection.get_execution_options():
        # At once, so that the lock is waited for: a reader that comes to write is refused it.
        connection.exec_driver_sql("BEGIN IMMEDIATE")
