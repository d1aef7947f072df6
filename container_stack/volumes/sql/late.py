# SPDX-License-Identifier: Apache-2.0
"""A database whose server may come later than we do: its tables are made when it first answers."""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from container_stack import exceptions
from container_stack.volumes.sql import database, refusals, schema

LOG = logging.getLogger(__name__)

#: Seconds for which a server that didn't answer isn't asked again, whoever asks.
PAUSE = 1.0


class Late(database.Database):
    """A database that is made ready by who first asks for something; safe under threads.

    Until it is ready everybody is told why it isn't, in bounded time.
    """

    def __init__(self, url: str | sa.URL, patience: float = database.PATIENCE) -> None:
        super().__init__(url, patience)
        self._patience = patience
        self._preparing = threading.Lock()
        self._ready = False
        self._why, self._until = "", 0.0

    def prepare(self) -> None:
        """Have tables that are there and as new as this code, if the server answers.

        :raises InvalidRequest: it answers and refuses us.
        :raises HostNotReady: its tables are newer than this code.
        :raises ServiceUnavailable: it doesn't answer; it will be asked again.
        """
        plain = database.Database(self.url, self._patience)
        try:
            schema.bring_up_to_date(plain)
            self._ready = True
        except refusals.Refused as exc:
            raise exceptions.InvalidRequest(str(exc)) from exc
        finally:
            plain.close()

    def read(
        self, statement: sa.Executable, parameters: Mapping[str, object] | None = None
    ) -> Sequence[Any]:
        self._wait()
        return super().read(statement, parameters)

    def fetch(self, statement: sa.Select[Any], parameters: Mapping[str, object]) -> Sequence[Any]:
        self._wait()
        return super().fetch(statement, parameters)

    def write(
        self, work: Callable[[database.Connection], database.T], *, lasting: bool = True
    ) -> database.T:
        self._wait()
        return super().write(work, lasting=lasting)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        self._wait()
        with super().transaction() as connection:
            yield connection

    def _wait(self) -> None:
        if self._ready:
            return
        if not self._preparing.acquire(timeout=self._patience):
            raise exceptions.ServiceUnavailable(self._why or "The registry is being made ready.")
        try:
            if not self._ready:
                self._try()
        finally:
            self._preparing.release()

    def _try(self) -> None:
        if time.monotonic() < self._until:
            raise exceptions.ServiceUnavailable(self._why)
        try:
            self.prepare()
        except exceptions.ContainerStackError as exc:
            self._why, self._until = str(exc), time.monotonic() + PAUSE
            raise exceptions.ServiceUnavailable(self._why) from exc
        LOG.info("The registry answers.")
