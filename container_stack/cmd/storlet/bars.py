# SPDX-License-Identifier: Apache-2.0
"""Progress on standard error: bars on a terminal, and elsewhere a line now and then."""

import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable
from typing import Any, Self, TextIO

import tqdm

#: Seconds between two lines about one thing, where there is no terminal.
EVERY = 5.0

#: How tqdm is to show bytes, and nodes.
_BYTES: dict[str, Any] = {"unit": "B", "unit_scale": True, "unit_divisor": 1024}
_NODES: dict[str, Any] = {"unit": "node"}


@dataclasses.dataclass(slots=True)
class _Course:
    """One thing that is under way, as lines tell it.

    :param first: bytes that were done when it was first heard of.
    """

    began: float
    first: int
    told: float


class Bars(contextlib.AbstractContextManager["Bars"]):
    """A :data:`container_stack.storlets.model.Progress` for any number of threads.

    Each thing that is done gets a bar or lines of its own, with its rate and the time left.
    """

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._lock = threading.Lock()
        self._bars: dict[str, tqdm.tqdm] = {}
        self._courses: dict[str, _Course] = {}
        self._ended: set[str] = set()
        self._terminal = stream.isatty()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        """Leave the cursor below the bars."""
        with self._lock:
            for bar in self._bars.values():
                bar.close()
            self._bars.clear()

    def __call__(self, what: str, done: int, total: int | None) -> None:
        """Tell that so many bytes are done."""
        self._tell(what, done, total, _BYTES)

    def count(self, what: str, done: int, total: int) -> None:
        """Tell that so many nodes are done."""
        self._tell(what, done, total, _NODES)

    def say(self, line: str) -> None:
        """Write a line without tearing a bar apart."""
        with self._lock:
            for bar in self._bars.values():
                bar.clear()
            self._stream.write(f"{line}\n")
            self._stream.flush()
            for bar in self._bars.values():
                bar.refresh()

    def _tell(self, what: str, done: int, total: int | None, units: dict[str, Any]) -> None:
        with self._lock:
            if done == total and what in self._ended:
                return
            (self._ended.add if done == total else self._ended.discard)(what)
            if self._terminal:
                self._move(what, done, total, units)
            else:
                self._write(what, done, total, units)

    def _move(self, what: str, done: int, total: int | None, units: dict[str, Any]) -> None:
        bar = self._bars.get(what)
        if bar is None:
            bar = self._bars[what] = tqdm.tqdm(
                desc=what, total=total, initial=done, file=self._stream, **units
            )
        bar.total = total
        bar.update(done - bar.n)
        if done == total:
            bar.refresh()
            self._bars.pop(what).close()

    def _write(self, what: str, done: int, total: int | None, units: dict[str, Any]) -> None:
        now = self._clock()
        course = self._courses.setdefault(what, _Course(now, done, now))
        if done == total:
            del self._courses[what]
        elif now - course.told < EVERY:
            return
        course.told = now
        line = tqdm.tqdm.format_meter(
            done, total, now - course.began, ncols=0, prefix=what, initial=course.first, **units
        )
        self._stream.write(f"{line}\n")
        self._stream.flush()
