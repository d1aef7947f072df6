# SPDX-License-Identifier: Apache-2.0
"""A connection to PostgreSQL that gives up.

libpq only bounds how long it connects: a server that has stopped while the network lives, such as
one on a hung disk, would be waited for until somebody starts it again.
"""

import time
from collections.abc import Generator
from typing import Any

import psycopg


def connection_class(patience: float) -> type[psycopg.Connection[Any]]:
    """Return a kind of connection that waits so many seconds for an answer, and then is closed."""

    class Bounded(psycopg.Connection[Any]):
        def wait(self, gen: Generator[Any, Any, Any], *args: Any, **kwargs: Any) -> Any:
            return super().wait(self._until(gen, time.monotonic() + patience), *args, **kwargs)

        def _until(self, gen: Generator[Any, Any, Any], end: float) -> Generator[Any, Any, Any]:
            try:
                wanted = next(gen)
                while True:
                    # Nothing is ready each time that psycopg has waited for a tenth of a second.
                    ready = yield wanted
                    if not ready and time.monotonic() > end:
                        self.close()
                        raise psycopg.OperationalError("The server doesn't answer.")
                    wanted = gen.send(ready)
            except StopIteration as done:
                return done.value

    return Bounded
