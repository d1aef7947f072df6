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
from sqlalchemy import exc

from container_stack import exceptions
from container_stack.volumes.sql import engines, quick, refusals

T = TypeVar("T")
#: What the work in a transaction is given: statements that never change are quickest.
Connection = sa.Connection | quick.Connection
#: Seconds for which a server, a lock, or a free connection is waited for.
PATIENCE = 3.0
_repeated = api.wrap_db_retry(
    retry_interval=0.02, max_retries=4, max_retry_interval=0.5, retry_on_deadlock=True
)


class Database:
    """One database; safe under threads.

    :param patience: seconds for which a server, a lock, or a free connection is waited for.
    :raises InvalidRequest: the URL isn't one of SQLite, MySQL, MariaDB or PostgreSQL.
    """

    def __init__(self, url: str | sa.URL, patience: float = PATIENCE) -> None:
        self.url = engines.parse(url)
        self.engine = engines.make(self.url, patience)
        self._reader = engines.reading(self.engine)
        self._quick = quick.Quick(self.engine) if self.engine.name == "sqlite" else None

    def read(
        self, statement: sa.Executable, parameters: Mapping[str, object] | None = None
    ) -> Sequence[Any]:
        """Return the rows of one statement."""
        try:
            with self._reader.connect() as connection:
                return connection.execute(statement, parameters).fetchall()
        except _TROUBLE as error:
            raise self._gone(error) from error

    def fetch(self, statement: sa.Select[Any], parameters: Mapping[str, object]) -> Sequence[Any]:
        """Return the rows of one statement that never changes, as fast as can be."""
        if self._quick is None:
            return self.read(statement, parameters)
        try:
            with self._quick.connection() as connection:
                return connection.execute(statement, parameters).fetchall()
        except _TROUBLE as error:
            raise self._gone(error) from error

    def write(self, work: Callable[[Connection], T], *, lasting: bool = True) -> T:
        """Return what some work in a transaction gave; it may be done anew after a deadlock.

        Of results it may use ``rowcount`` and ``fetchall()`` alone.

        :param lasting: False for what isn't so any more after a restart of this host; SQLite
            doesn't wait for the disk then.

        :raises DBDuplicateEntry: (of oslo.db) something is taken; nothing was changed.
        """
        try:
            if self._quick is not None:
                return self._quickly(self._quick, work, lasting)
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
        if self._quick is not None:
            self._quick.close()
        self.engine.dispose()

    def _once(self, work: Callable[[Connection], T]) -> T:
        with self.engine.begin() as connection:
            return work(connection)

    def _quickly(self, own: quick.Quick, work: Callable[[Connection], T], lasting: bool) -> T:
        try:
            with own.transaction(lasting=lasting) as connection:
                return work(connection)
        except sqlite3.IntegrityError as error:
            raise db_exceptions.DBDuplicateEntry(inner_exception=error) from error

    def _gone(self, error: Exception) -> exceptions.ServiceUnavailable:
        # SQLAlchemy's own words would hold what was to be written.
        inner = getattr(error, "inner_exception", None) or error
        origin = getattr(inner, "orig", None) or inner
        said = str(origin).partition("\n")[0][:200]
        if self.url.password:
            said = said.replace(str(self.url.password), "***")
        where = self.url.render_as_string(hide_password=True)
        if refusals.is_refusal(origin):
            given = "" if self.url.password else ", which has no password,"
            return refusals.Refused(
                f"The registry {where}{given} refuses us: {said}; make the database, and let its "
                "URL say user:password@."
            )
        return exceptions.ServiceUnavailable(f"The registry {where} doesn't answer: {said}")


_TROUBLE = (exc.SQLAlchemyError, db_exceptions.DBError, sqlite3.Error, OSError)


def make_private(url: sa.URL) -> None:
    """Make a SQLite database that only its owner reads; others have users of their own.

    :raises HostNotReady: its directory isn't there, or not ours.
    """
    if url.get_backend_name() == "sqlite" and url.database:
        try:
            os.close(os.open(url.database, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise exceptions.HostNotReady(
                f"The registry {url.database} can't be opened: {error.strerror}."
            ) from error
