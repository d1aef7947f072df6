# SPDX-License-Identifier: Apache-2.0
"""SQLAlchemy's statements on SQLite without its connections and results.

SQLite does in a tenth of a millisecond what takes a whole one that way; and a node that stands
alone asks for little else than one row by its key.
"""

import contextlib
import functools
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

import sqlalchemy as sa

Parameters = Mapping[str, Any]
#: Statements that remain compiled: more than there are.
_KNOWN = 256


class Quick:
    """A database; safe under threads, which are lent a connection each."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        # By process, since a forked child must not use its parent's; and by whether commits wait
        # for the disk, which is told SQLite once. There are as many as were needed at a time.
        self._free: dict[tuple[int, bool], list[sqlite3.Connection]] = {}
        self._compiled = functools.lru_cache(_KNOWN)(functools.partial(_Compiled, engine.dialect))

    @contextlib.contextmanager
    def connection(self, *, lasting: bool = False) -> Iterator["Connection"]:
        """Give a connection on which each statement is a transaction.

        :param lasting: as in :meth:`transaction`.
        :raises sqlite3.Error: as it comes.
        """
        free = self._free.setdefault((os.getpid(), lasting), [])
        try:
            lent = free.pop()
        except IndexError:
            lent = self._connect(lasting)
        try:
            yield Connection(lent, self._compiled)
        finally:
            free.append(lent)

    def close(self) -> None:
        """Close the connections that nobody uses."""
        for lasting in (True, False):
            for each in self._free.pop((os.getpid(), lasting), ()):
                each.close()

    def _connect(self, lasting: bool) -> sqlite3.Connection:
        lent = self._engine.raw_connection()
        made = cast(sqlite3.Connection, lent.driver_connection)
        lent.detach()
        made.execute(f"PRAGMA synchronous = {'FULL' if lasting else 'NORMAL'}")
        return made

    @contextlib.contextmanager
    def transaction(self, *, lasting: bool = True) -> Iterator["Connection"]:
        """Give a connection on which all statements are one transaction.

        :param lasting: outlives a power cut, for which the disk is waited; else only all crashes
            of programs.
        :raises sqlite3.Error: as it comes; nothing was changed.
        """
        with self.connection(lasting=lasting) as connection:
            # At once, so that the lock is waited for: a reader that comes to write is refused it.
            connection.plain("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.plain("COMMIT")
            finally:
                connection.roll_back()


class Connection:
    """What of SQLAlchemy's Connection is needed here."""

    def __init__(
        self, connection: sqlite3.Connection, compiled: Callable[[sa.Executable], "_Compiled"]
    ) -> None:
        self._connection = connection
        self._compiled = compiled

    def plain(self, text: str) -> None:
        """Run what is no statement of SQLAlchemy's."""
        self._connection.execute(text)

    def roll_back(self) -> None:
        """Undo a transaction that is under way; SQLite itself ends some, as on a full disk."""
        if self._connection.in_transaction:
            self.plain("ROLLBACK")

    def execute(
        self, statement: sa.Executable, parameters: Parameters | Sequence[Parameters] = ()
    ) -> "Result":
        """Run a statement, for each of several parameters if there are."""
        compiled = self._compiled(statement)
        if isinstance(parameters, Mapping) or not parameters:
            bound = compiled.bound(cast(Parameters, parameters or {}))
            return Result(self._connection.execute(compiled.text, bound), compiled)
        many = map(compiled.bound, parameters)
        return Result(self._connection.executemany(compiled.text, many), compiled)


class Result:
    """What of SQLAlchemy's Result is needed here."""

    def __init__(self, cursor: sqlite3.Cursor, compiled: "_Compiled") -> None:
        self._cursor = cursor
        self._compiled = compiled
        #: Of rows that were changed.
        self.rowcount = cursor.rowcount

    def fetchall(self) -> list[Sequence[Any]]:
        """Return all rows."""
        return [self._compiled.row(row) for row in self._cursor.fetchall()]


class _Compiled:
    """A statement's text, and how its values become SQLite's and back."""

    def __init__(self, dialect: sa.Dialect, statement: sa.Executable) -> None:
        compiled: Any = cast(Any, statement).compile(dialect=dialect)
        self.text = str(compiled)
        self._names = [
            (name, value, compiled.binds[name].type.dialect_impl(dialect).bind_processor(dialect))
            for name, value in ((name, compiled.params[name]) for name in compiled.positiontup)
        ]
        columns = getattr(statement, "selected_columns", ())
        found = enumerate(
            column.type.dialect_impl(dialect).result_processor(dialect, None) for column in columns
        )
        self._results = [(index, processor) for index, processor in found if processor]

    def bound(self, parameters: Parameters) -> list[Any]:
        """Return values in the order of their places."""
        values = []
        for name, default, processor in self._names:
            value = parameters.get(name, default)
            values.append(processor(value) if processor else value)
        return values

    def row(self, fields: Sequence[Any]) -> Sequence[Any]:
        """Return a row as SQLAlchemy would."""
        made = list(fields)
        for index, processor in self._results:
            made[index] = processor(made[index])
        return made
