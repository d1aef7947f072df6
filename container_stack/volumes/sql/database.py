# SPDX-License-Identifier: Apache-2.0
"""A database that answers in bounded time, or is said to be gone.

SQLAlchemy talks to it; oslo.db tells errors apart, and repeats what lost a deadlock.
"""

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import sqlalchemy as sa
from oslo_db import api
from oslo_db import exception as db_exceptions
from oslo_db.sqlalchemy import exc_filters
from sqlalchemy import event, exc

from container_stack import exceptions

T = TypeVar("T")
#: Seconds for which a server, a lock, or a free connection is waited for.
PATIENCE = 4
_DRIVERS = {
    "mysql": "mysql+pymysql",
    "mariadb": "mysql+pymysql",
    "postgresql": "postgresql+psycopg",
}
_repeated = api.wrap_db_retry(
    retry_interval=0.02, max_retries=4, max_retry_interval=0.5, retry_on_deadlock=True
)


class Database:
    """One database; safe under threads.

    :raises InvalidRequest: the URL isn't one of SQLite, MySQL, MariaDB or PostgreSQL.
    """

    def __init__(self, url: str) -> None:
        self.url = parse(url)
        self.engine = _engine(self.url)
        self._reader = self.engine.execution_options(**_reading(self.engine))

    def read(
        self, statement: sa.Executable, parameters: Mapping[str, object] | None = None
    ) -> Sequence[Any]:
        """Return the rows of one statement."""
        try:
            with self._reader.connect() as connection:
                return connection.execute(statement, parameters).fetchall()
        except _TROUBLE as error:
            raise self._gone(error) from error

    def write(self, work: Callable[[sa.Connection], T]) -> T:
        """Return what some work in a transaction gave; it may be done anew after a deadlock.

        :raises DBDuplicateEntry: (of oslo.db) something is taken; nothing was changed.
        """
        try:
            done: T = _repeated(self._once)(work)
            return done
        except db_exceptions.DBDuplicateEntry:
            raise
        except _TROUBLE as error:
            raise self._gone(error) from error

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """Give a transaction, which isn't repeated."""
        try:
            with self.engine.begin() as connection:
                yield connection
        except _TROUBLE as error:
            raise self._gone(error) from error

    def close(self) -> None:
        """Let go of all connections."""
        self.engine.dispose()

    def _once(self, work: Callable[[sa.Connection], T]) -> T:
        with self.engine.begin() as connection:
            return work(connection)

    def _gone(self, error: Exception) -> exceptions.ServiceUnavailable:
        # Its own words may hold what was to be written, or an address with a password.
        where = self.url.render_as_string(hide_password=True)
        return exceptions.ServiceUnavailable(
            f"The registry {where} doesn't answer ({type(error).__name__})."
        )


_TROUBLE = (exc.SQLAlchemyError, db_exceptions.DBError, OSError)


def parse(text: str) -> sa.URL:
    """Return a database's URL, with the Python driver that talks to it.

    :raises InvalidRequest: it isn't one of SQLite, MySQL, MariaDB or PostgreSQL.
    """
    try:
        url = sa.make_url(text)
        url = url.set(drivername=_DRIVERS.get(url.drivername, url.drivername))
        known = url.get_backend_name() in ("sqlite", *_DRIVERS)
        url.get_dialect()
    except (exc.SQLAlchemyError, ImportError, ValueError):
        known = False
    if not known or (url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:")):
        raise exceptions.InvalidRequest(
            "The registry's URL is sqlite:////path, mysql://user:password@host/database or "
            "postgresql://user:password@host/database, and its driver must be installed."
        )
    return url


def _reading(engine: sa.Engine) -> dict[str, object]:
    # One statement needs no transaction; SQLite has none unless _begin makes it.
    return {"reads": True} if engine.name == "sqlite" else {"isolation_level": "AUTOCOMMIT"}


def _engine(url: sa.URL) -> sa.Engine:
    common = {
        "pool_size": 8,
        "max_overflow": 24,
        "pool_timeout": PATIENCE,
        "connect_args": _arguments(url),
        "hide_parameters": True,
    }
    if url.get_backend_name() == "sqlite":
        engine = sa.create_engine(url, poolclass=sa.QueuePool, **common)
        event.listen(engine, "connect", _tune_sqlite)
        event.listen(engine, "begin", _begin)
    else:
        engine = sa.create_engine(url, pool_pre_ping=True, pool_recycle=1800, **common)
    exc_filters.register_engine(engine)
    return engine


def _arguments(url: sa.URL) -> dict[str, object]:
    if url.get_backend_name() == "sqlite":
        return {"timeout": PATIENCE, "check_same_thread": False}
    return {}


def _tune_sqlite(connection: sqlite3.Connection, record: object) -> None:
    # Python's module would begin transactions as it sees fit.
    connection.isolation_level = None
    # Who reads doesn't wait for who writes.
    connection.execute("PRAGMA journal_mode = WAL")


def _begin(connection: sa.Connection) -> None:
    if "reads" not in connection.get_execution_options():
        # At once, so that the lock is waited for: a reader that comes to write is refused it.
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def make_private(url: sa.URL) -> None:
    """Make a SQLite database that only its owner reads; others have users of their own."""
    if url.get_backend_name() == "sqlite" and url.database:
        os.close(os.open(url.database, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
