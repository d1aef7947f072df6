# SPDX-License-Identifier: Apache-2.0
"""Which volumes Docker is asking about, and when it last did.

Docker mounts a volume before the container that wants it is seen to run, and tells nobody for
which container it does so. Hence a volume that Docker has just asked for is left alone.
"""

import contextlib
import threading
import time
from collections.abc import Iterator


class Traffic:
    """Requests of one plugin that change something, one at a time for each volume's name."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._busy: set[str] = set()
        # What happened before this process did is taken to have happened when it began.
        self._began = time.monotonic()
        self._last: dict[str, float] = {}

    @contextlib.contextmanager
    def hold(self, name: str) -> Iterator[None]:
        """Wait until nobody else changes a volume, and remember that somebody did."""
        with self._changed:
            self._changed.wait_for(lambda: name not in self._busy)
            self._busy.add(name)
        try:
            yield
        finally:
            with self._changed:
                self._last[name] = time.monotonic()
            self._let_go(name)

    @contextlib.contextmanager
    def quiet(self, name: str, grace: float) -> Iterator[bool]:
        """Keep requests for a volume waiting, if there was none for some seconds; else lend False.

        :param grace: seconds.
        """
        with self._changed:
            since = self._last.get(name, self._began)
            free = name not in self._busy and time.monotonic() - since >= grace
            if free:
                self._busy.add(name)
        try:
            yield free
        finally:
            if free:
                self._let_go(name)

    def forget(self, grace: float) -> None:
        """Forget what is longer ago."""
        with self._changed:
            past = time.monotonic() - grace
            self._last = {name: when for name, when in self._last.items() if when > past}

    def _let_go(self, name: str) -> None:
        with self._changed:
            self._busy.discard(name)
            self._changed.notify_all()
