# SPDX-License-Identifier: Apache-2.0
import threading
import time
from concurrent import futures

import pytest

from container_stack.host import joint

MANY, TIMES = 8, 20


class Asked:
    """What is asked; an answer is when it was looked for.

    :param failing: every time whose number this divides.
    """

    def __init__(self, failing: int = 0) -> None:
        self.times = 0
        self._failing = failing
        self._guard = threading.Lock()

    def __call__(self) -> int:
        begun = time.monotonic_ns()
        with self._guard:
            self.times = number = self.times + 1
        time.sleep(0.002)
        if self._failing and number % self._failing == 0:
            raise OSError("no answer")
        return begun


def ask_often(question: joint.Joint[int]) -> int:
    """Ask again and again, and return how often that failed."""
    failures = 0
    for _ in range(TIMES):
        now = time.monotonic_ns()
        try:
            assert question() >= now, "the answer is older than the question"
        except OSError:
            failures += 1
    return failures


def ask_together(asked: Asked) -> int:
    question, ready = joint.Joint(asked), threading.Barrier(MANY)

    def begin() -> int:
        ready.wait(30)
        return ask_often(question)

    with futures.ThreadPoolExecutor(MANY) as pool:
        begun = [pool.submit(begin) for _ in range(MANY)]
        return sum(each.result(60) for each in begun)


def test_whoever_asks_alone_gets_his_own_answer() -> None:
    asked = Asked()
    assert ask_often(joint.Joint(asked)) == 0
    assert asked.times == TIMES


def test_many_are_answered_together_and_never_by_something_older() -> None:
    asked = Asked()
    assert ask_together(asked) == 0
    assert asked.times < MANY * TIMES


def test_a_failure_is_told_to_whom_it_met_and_to_nobody_else() -> None:
    asked = Asked(failing=3)
    assert ask_together(asked) == asked.times // 3


def test_what_failed_is_asked_again() -> None:
    question = joint.Joint(Asked(failing=2))
    question()
    with pytest.raises(OSError, match="no answer"):
        question()
    question()
