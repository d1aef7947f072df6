# SPDX-License-Identifier: Apache-2.0
"""What is to be done if something else isn't done in time.

One thread waits for all of it: the start of one each time takes longer than many a command.
"""

import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterator


class Deadlines:
    """Deadlines of one process, which a forked child must not use; safe under threads."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._due: dict[object, tuple[float, Callable[[], None]]] = {}
        self._thread: threading.Thread | None = None
        #: When the thread looks again.
        self._looks_at = math.inf

    @contextlib.contextmanager
    def within(self, seconds: float, late: Callable[[], None]) -> Iterator[None]:
        """Call something, from another thread, if the block takes longer; never after its end.

        :param late: takes no time, and doesn't fail.
        """
        key, when = object(), time.monotonic() + seconds
        with self._changed:
            self._due[key] = when, late
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="deadlines", daemon=True)
                self._thread.start()
            elif when < self._looks_at:
                self._changed.notify()
        try:
            yield
        finally:
            with self._changed:
                self._due.pop(key, None)

    def _watch(self) -> None:
        with self._changed:
            while True:
                now = time.monotonic()
                for key, (when, late) in list(self._due.items()):
                    if when <= now:
                        del self._due[key]
                        late()
                self._looks_at = min((when for when, _ in self._due.values()), default=math.inf)
                wait = self._looks_at - now
                self._changed.wait(None if wait == math.inf else min(wait, threading.TIMEOUT_MAX))
