# SPDX-License-Identifier: Apache-2.0
"""The same work on many things, a few of them at a time."""

import dataclasses
import itertools
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from typing import Generic, TypeVar

_T = TypeVar("_T")
_R = TypeVar("_R")


@dataclasses.dataclass(frozen=True, slots=True)
class Done(Generic[_T, _R]):
    """What became of one thing: either a value, or an error."""

    item: _T
    value: _R | None = None
    error: Exception | None = None


def each(
    items: Iterable[_T],
    work: Callable[[_T], _R],
    width: int,
    halt: threading.Event | None = None,
) -> Iterator[Done[_T, _R]]:
    """Yield what became of every item, in the order in which they get ready.

    However many there are, no more than ``width`` threads work, and no more items are looked at.

    :param halt: once it is set, no other item is begun. It is set when who reads this stops
        reading, or is interrupted; work that has begun is waited for, and may look at it.
    """
    halt = halt or threading.Event()
    waiting = iter(items)
    with futures.ThreadPoolExecutor(width, "storlet-nodes") as threads:
        running: dict[futures.Future[_R], _T] = {}
        try:
            while True:
                free = 0 if halt.is_set() else width - len(running)
                for item in itertools.islice(waiting, free):
                    running[threads.submit(work, item)] = item
                if not running:
                    return
                ready, _rest = futures.wait(running, return_when=futures.FIRST_COMPLETED)
                for future in ready:
                    yield _done(running.pop(future), future)
        except BaseException:
            halt.set()
            raise


def _done(item: _T, future: futures.Future[_R]) -> Done[_T, _R]:
    try:
        return Done(item, future.result())
    except Exception as exc:
        return Done(item, error=exc)
