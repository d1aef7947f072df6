# SPDX-License-Identifier: Apache-2.0
"""One answer for all who ask the same at the same time.

What takes long and only looks, such as a report of LVM's, is done once for all threads that asked
before it was begun. Nobody gets an answer that is older than his question.
"""

import threading
from collections.abc import Callable
from concurrent import futures
from typing import Generic, TypeVar

T = TypeVar("T")


class Joint(Generic[T]):
    """Asks for many; safe under threads.

    :param ask: what finds the answer; it is never run twice at the same time, but for those who
        were told that it failed, each of whom asks for himself.
    """

    def __init__(self, ask: Callable[[], T]) -> None:
        self._ask = ask
        self._turn, self._guard = threading.Lock(), threading.Lock()
        self._coming: futures.Future[T] | None = None

    def __call__(self) -> T:
        """Return an answer that was looked for after this call; raise what ``ask`` raises."""
        with self._guard:
            joined = self._coming
            mine: futures.Future[T] = joined or futures.Future()
            self._coming = mine
        if joined is None:
            return self._lead(mine)
        try:
            return mine.result()
        except Exception:
            return self._ask()

    def _lead(self, mine: "futures.Future[T]") -> T:
        with self._turn:
            with self._guard:
                # Who comes from now on may want to know what is done from now on.
                self._coming = None
            try:
                answer = self._ask()
            except BaseException:
                mine.set_exception(RuntimeError("Nobody found the answer."))
                raise
        mine.set_result(answer)
        return answer
