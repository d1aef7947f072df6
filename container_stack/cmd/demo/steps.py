# SPDX-License-Identifier: Apache-2.0
"""A walk in steps, each of which keeps a promise or fails; shown as it goes, with times."""

import contextlib
import dataclasses
import os
import time
from collections.abc import Iterator
from typing import TextIO


class BrokenPromiseError(Exception):
    """A step went through and the outcome isn't what was promised."""


def told(exc: BaseException) -> str:
    """Return on one line what an exception says, or its kind if it says nothing."""
    return " ".join(str(exc).split()) or type(exc).__name__


@dataclasses.dataclass(slots=True)
class Step:
    """One step.

    :param result: "ok", "FAILED" or, while it runs, "".
    :param detail: what was seen.
    """

    title: str
    result: str = ""
    seconds: float = 0.0
    detail: str = ""


class Steps:
    """Runs steps, one line each on the stream: moving on a terminal, plain anywhere else."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self._terminal = stream.isatty()
        self._colour = self._terminal and not os.environ.get("NO_COLOR")
        self.done: list[Step] = []
        self.stopped = self.waiting = False

    @property
    def failed(self) -> bool:
        """Whether any step failed."""
        return any(step.result != "ok" for step in self.done)

    @contextlib.contextmanager
    def step(self, title: str, *, back: bool = False) -> Iterator[Step]:
        """Time the body; whatever it raises makes the step a failed one and goes on up.

        :param back: on the way back, which is walked whatever happens.
        """
        if self.stopped and not back:
            raise KeyboardInterrupt
        step = Step(title)
        self.done.append(step)
        if self._terminal:
            self.stream.write(f"     {title} ...\r")
            self.stream.flush()
        started = time.monotonic()
        try:
            yield step
        except BaseException as exc:
            step.result = "FAILED"
            step.detail = told(exc)
            raise
        else:
            step.result = "ok"
        finally:
            step.seconds = round(time.monotonic() - started, 2)
            self._show(step)

    def stop(self, _signal: int, _frame: object) -> None:
        """Handle a signal: end the walk before its next step, or at once while it is ``waiting``.

        A step that is cut in the middle could leave what nobody knows of yet.
        """
        if self.waiting:
            raise KeyboardInterrupt
        self.stopped = True

    def wait(self, told: str) -> None:
        """Tell the user something, and wait for Enter or a signal."""
        with contextlib.suppress(KeyboardInterrupt):
            self.waiting = True  # before anybody is told that a signal ends it
            self.stream.write(f"\n{told}\nPress Enter or Ctrl-C to delete everything. ")
            self.stream.flush()
            if not os.isatty(0):
                time.sleep(1e8)
            input()
        self.waiting = False

    def promise(self, kept: bool, broken: str) -> None:
        """Fail the step unless the promise was kept.

        :param broken: what is wrong then.
        :raises BrokenPromiseError: it wasn't kept.
        """
        if not kept:
            raise BrokenPromiseError(broken)

    def _show(self, step: Step) -> None:
        line = f"{len(self.done):3}. {step.title:<42} {self._paint(step.result)}"
        clear = "\x1b[K" if self._colour else ""
        self.stream.write(f"{line:<50} {step.seconds:6.2f} s  {step.detail}{clear}\n")
        self.stream.flush()

    def _paint(self, result: str) -> str:
        text = f"{result:<6}"
        if not self._colour:
            return text
        return f"\x1b[{32 if result == 'ok' else 31}m{text}\x1b[0m"
