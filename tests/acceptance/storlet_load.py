# SPDX-License-Identifier: Apache-2.0
"""Clients that go on asking while something else happens."""

import collections
import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Iterator, Sequence

#: Makes one request and returns what came of it; raises what went wrong.
Request = Callable[[], str]

#: Seconds between a client's requests: with less, clients have the whole of a small machine.
PAUSE = 0.1


@dataclasses.dataclass(slots=True)
class Load:
    """What clients saw.

    :param outcomes: how often each thing came, by client.
    :param failures: in words, with the seconds since the beginning.
    """

    clients: int
    began: float = dataclasses.field(default_factory=time.monotonic)
    outcomes: list[collections.Counter[str]] = dataclasses.field(default_factory=list)
    failures: list[str] = dataclasses.field(default_factory=list)
    slowest: float = 0.0

    def __post_init__(self) -> None:
        self.outcomes = [collections.Counter() for _ in range(self.clients)]

    @property
    def total(self) -> collections.Counter[str]:
        """How often each thing came."""
        return sum(self.outcomes, collections.Counter())

    @property
    def requests(self) -> int:
        """How many requests there were, the failed ones too."""
        return self.total.total() + len(self.failures)


@contextlib.contextmanager
def running(requests: Sequence[Request], *, warm: int = 5) -> Iterator[Load]:
    """Have clients ask, each with a request of its own, while the body runs.

    The body begins when each client has had ``warm`` answers, and they go on until each has had as
    many after it ended.
    """
    load, over = Load(len(requests)), threading.Event()
    threads = [
        threading.Thread(target=_ask, args=(load, number, request, over))
        for number, request in enumerate(requests)
    ]
    for thread in threads:
        thread.start()
    try:
        _await_answers(load, warm)
        yield load
        _await_answers(load, warm)
    finally:
        over.set()
        for thread in threads:
            thread.join()


def _ask(load: Load, number: int, request: Request, over: threading.Event) -> None:
    while not over.is_set():
        start = time.monotonic()
        try:
            load.outcomes[number][request()] += 1
        except Exception as exc:
            load.failures.append(f"{start - load.began:.2f} s: {exc}")
        load.slowest = max(load.slowest, time.monotonic() - start)
        time.sleep(PAUSE)


def _await_answers(load: Load, more: int) -> None:
    goals = [counter.total() + more for counter in load.outcomes]
    deadline = time.monotonic() + 60
    while any(counter.total() < goal for counter, goal in zip(load.outcomes, goals, strict=True)):
        assert time.monotonic() < deadline, f"No answers: {load.failures[-3:]}"
        time.sleep(0.02)
