# SPDX-License-Identifier: Apache-2.0
import threading
from collections.abc import Callable
from concurrent import futures

import pytest

from container_stack.host import joint

PATIENCE = 30.0


class Asked:
    """What is asked: each time it waits until it may answer, with the number of that time."""

    def __init__(self) -> None:
        self.times = 0
        self.begun = threading.Semaphore(0)
        self.may = threading.Semaphore(0)
        self.failing: set[int] = set()

    def __call__(self) -> int:
        self.times += 1
        now = self.times
        self.begun.release()
        assert self.may.acquire(timeout=PATIENCE)
        if now in self.failing:
            raise OSError(f"time {now}")
        return now


@pytest.fixture
def asked() -> Asked:
    return Asked()


def test_whoever_asks_alone_gets_his_own_answer(asked: Asked) -> None:
    asked.may.release(2)
    question = joint.Joint(asked)
    assert [question(), question()] == [1, 2]


def begin_and_wait(question: joint.Joint[int], asked: Asked, pool: futures.Executor) -> list:
    """Have one ask, and three more while his question is answered; return what they will get."""
    first = pool.submit(question)
    assert asked.begun.acquire(timeout=PATIENCE)
    later = [pool.submit(question) for _ in range(3)]
    wait_until(lambda: question._turn.locked() and waiting(question, later))
    return [first, *later]


def waiting(question: joint.Joint[int], later: list) -> bool:
    coming = question._coming
    return coming is not None and all(each.running() for each in later)


def wait_until(true: Callable[[], bool]) -> None:
    tick = threading.Event()
    for _ in range(int(PATIENCE * 100)):
        if true():
            # All have begun; those who have not joined yet do so in a moment.
            tick.wait(0.2)
            return
        tick.wait(0.01)
    pytest.fail("it doesn't come true")


def test_who_asks_meanwhile_gets_one_answer_together_that_was_begun_later(asked: Asked) -> None:
    question = joint.Joint(asked)
    with futures.ThreadPoolExecutor(4) as pool:
        got = begin_and_wait(question, asked, pool)
        asked.may.release(2)
        assert [each.result(PATIENCE) for each in got] == [1, 2, 2, 2]
    assert asked.times == 2


def test_a_failure_is_told_to_who_met_it_and_the_others_ask_again(asked: Asked) -> None:
    question = joint.Joint(asked)
    asked.failing = {1, 2}
    with futures.ThreadPoolExecutor(4) as pool:
        got = begin_and_wait(question, asked, pool)
        asked.may.release(4)
        with pytest.raises(OSError, match="time 1"):
            got[0].result(PATIENCE)
        failed = [each.exception(PATIENCE) for each in got[1:]]
    assert sorted(str(each) for each in failed if each) == ["time 2"]
    assert sorted(each.result() for each in got[1:] if not each.exception()) == [3, 4]
    asked.may.release()
    assert question() == 5
