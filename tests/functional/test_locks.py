# SPDX-License-Identifier: Apache-2.0
"""Locks of objects: over threads and processes, for as long as their holder lives."""

import os
import subprocess
import sys
import threading
import time
from concurrent import futures
from pathlib import Path

import pytest

from container_stack import exceptions
from container_stack.host import locks

COUNT = """
import sys
from container_stack.host import locks
directory, counter, turns = sys.argv[1], sys.argv[2], int(sys.argv[3])
for _ in range(turns):
    with locks.ObjectLocks(directory).hold("counter"):
        with open(counter) as file:
            value = int(file.read())
        with open(counter, "w") as file:
            file.write(str(value + 1))
"""

HOLD = """
import sys, time
from container_stack.host import locks
with locks.ObjectLocks(sys.argv[1]).hold("held"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "locks"


@pytest.fixture
def object_locks(directory: Path) -> locks.ObjectLocks:
    return locks.ObjectLocks(str(directory))


def count(object_locks: locks.ObjectLocks, counter: Path) -> None:
    with object_locks.hold("counter"):
        value = int(counter.read_text())
        time.sleep(0)
        counter.write_text(str(value + 1))


def test_threads_exclude_each_other(object_locks, directory, tmp_path):
    counter = tmp_path / "counter"
    counter.write_text("0")
    with futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: count(object_locks, counter), range(800)))
    assert counter.read_text() == "800"
    assert list(directory.iterdir()) == []


def test_processes_and_threads_exclude_each_other(object_locks, directory, tmp_path):
    counter = tmp_path / "counter"
    counter.write_text("0")
    processes = [
        subprocess.Popen([sys.executable, "-c", COUNT, str(directory), str(counter), "300"])
        for _ in range(3)
    ]
    with futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: count(object_locks, counter), range(300)))
    assert [each.wait(60) for each in processes] == [0, 0, 0]
    assert counter.read_text() == "1200"
    assert list(directory.iterdir()) == []


def test_a_killed_holder_gives_way(object_locks, directory):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(directory)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    entered = threading.Event()

    def enter() -> None:
        with object_locks.hold("held"):
            entered.set()

    waiting = threading.Thread(target=enter)
    waiting.start()
    assert not entered.wait(0.3), "it was held"
    holder.kill()
    assert entered.wait(20)
    waiting.join()
    holder.wait()
    holder.stdout.close()
    assert list(directory.iterdir()) == []


def test_two_names_do_not_wait_for_each_other(object_locks):
    with object_locks.hold("share-a"), futures.ThreadPoolExecutor(1) as pool:

        def enter() -> str:
            with object_locks.hold("share-b"):
                return "entered"

        assert pool.submit(enter).result(5) == "entered"


def test_an_error_in_the_body_frees_the_lock(object_locks, directory):
    def fail() -> None:
        with object_locks.hold("x"):
            raise KeyError

    for _ in range(2):
        with pytest.raises(KeyError):
            fail()
    assert list(directory.iterdir()) == []


def test_a_program_that_was_started_meanwhile_does_not_keep_the_lock(object_locks):
    with object_locks.hold("x"):
        child = subprocess.Popen(["sleep", "60"], close_fds=False)
    try:
        with futures.ThreadPoolExecutor(1) as pool:

            def enter() -> str:
                with object_locks.hold("x"):
                    return "entered"

            assert pool.submit(enter).result(5) == "entered"
    finally:
        child.kill()
        child.wait()


def test_a_forked_child_does_not_keep_the_lock(object_locks):
    with object_locks.hold("x"):
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
    try:
        with futures.ThreadPoolExecutor(1) as pool:

            def enter() -> str:
                with object_locks.hold("x"):
                    return "entered"

            assert pool.submit(enter).result(5) == "entered"
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "/x", "a\0", "a\n", " ", "-x", "ä"])
def test_a_name_that_is_no_files_name_is_refused(object_locks, directory, name):
    with (
        pytest.raises(exceptions.InvalidRequest, match="can't name a lock"),
        object_locks.hold(name),
    ):
        pytest.fail("the body was entered")
    assert not directory.exists()


def test_the_directory_is_for_its_owner_alone(object_locks, directory):
    with object_locks.hold("x"):
        assert directory.stat().st_mode & 0o777 == 0o700


def test_who_is_not_to_wait_is_refused_what_another_holds(directory: Path) -> None:
    held = locks.ObjectLocks(str(directory))
    with held.hold("held"):
        with pytest.raises(exceptions.Busy), held.hold("held", wait=False):
            pass
        with held.hold("other", wait=False):
            pass
    with held.hold("held", wait=False):
        pass
