# SPDX-License-Identifier: Apache-2.0
"""What is written a moment later, many rows at once: nobody's work waits for it, or fails by it."""

import collections
import logging
import threading
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from container_stack import exceptions
from container_stack.volumes.sql import database

LOG = logging.getLogger(__name__)

#: Seconds for which a row waits for others; after an error it waits longer.
SOON, LATER = 0.2, 5.0
#: Rows that are kept while the database is gone; then the oldest are forgotten.
MOST = 10_000


class Journal:
    """Rows of one table on their way; safe under threads.

    :param insert: a statement that takes a row.
    """

    def __init__(self, opened: database.Database, insert: sa.Insert) -> None:
        self._database = opened
        self._insert = insert
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._rows: collections.deque[Mapping[str, Any]] = collections.deque(maxlen=MOST)
        self._timer: threading.Timer | None = None

    def add(self, row: Mapping[str, Any]) -> None:
        """Take a row; never fails."""
        with self._lock:
            self._rows.append(row)
            self._arm(SOON)

    def flush(self) -> None:
        """Write what there is.

        :raises ServiceUnavailable: it is written later.
        """
        with self._writing:
            with self._lock:
                rows = list(self._rows)
                self._rows.clear()
            if not rows:
                return
            try:
                insert = lambda connection: connection.execute(self._insert, rows)  # noqa: E731
                self._database.write(insert, lasting=False)
            except BaseException:
                with self._lock:
                    self._rows = collections.deque([*rows, *self._rows], maxlen=MOST)
                    self._arm(LATER)
                raise

    def close(self) -> None:
        """Write what there is, if that can be."""
        try:
            self.flush()
        except exceptions.ServiceUnavailable as exc:
            LOG.warning("What happened last isn't remembered: %(why)s", {"why": exc})
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()

    def _arm(self, seconds: float) -> None:
        if self._timer is None:
            self._timer = threading.Timer(seconds, self._due)
            self._timer.daemon = True
            self._timer.start()

    def _due(self) -> None:
        with self._lock:
            self._timer = None
        try:
            self.flush()
        except exceptions.ServiceUnavailable as exc:
            LOG.debug("What happened is remembered later: %(why)s", {"why": exc})
