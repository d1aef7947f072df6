# SPDX-License-Identifier: Apache-2.0
"""An upload fails, or its process is killed, at every step: nothing of it stays on the array."""

import io
import multiprocessing
import os
import signal

import pytest

from container_stack import exceptions
from container_stack.imagestore import edf, pipeline

from . import image_world

array = image_world.array
world = image_world.world

A = "6f1a5a52-6b8d-4b1c-9a66-0b4f0c1d2e3a"
CHUNK = 64 * 1024
#: An image that makes its volume grow once.
SIZE = image_world.GIB + 1
FEWEST_STEPS = 12

pytestmark = pytest.mark.parametrize("array", ["tgt"], indirect=True)


class Growing:
    """A stream with data at its beginning and at its end."""

    _zeros = bytes(pipeline.PIECE)

    def __init__(self):
        self._at = 0

    def read(self, size):
        part = min(size, SIZE - self._at)
        self._at += part
        edge = self._at == part or self._at == SIZE
        return b"x" * part if edge else self._zeros[:part]


def steps():
    return range(1, 200)


def check_nothing_stays(world, store):
    """Nothing is left, and the same image can be stored again."""
    assert world.names() == []
    store.add(A, io.BytesIO(b"again"))
    assert store.size(A) == 5
    store.delete(A)
    assert world.names() == []


def test_failed_step_leaves_nothing(world):
    class Failed(exceptions.ArrayUnavailable):
        pass

    def fail(what):
        raise Failed(what)

    for step in steps():
        fate = image_world.Fate(step, fail)
        try:
            world.fateful(fate).add(A, Growing(), algorithms=())
        except Failed:
            assert world.names() == [], f"failed at step {step}"
        else:
            world.store().delete(A)
            if fate.steps < step:
                break
    assert step > FEWEST_STEPS
    check_nothing_stays(world, world.store())


def test_step_after_which_the_array_is_down_leaves_nothing_once_it_is_back(world):
    for step in steps():
        fall = image_world.Fall(step)
        try:
            world.fateful(fall).add(A, Growing(), algorithms=())
        except exceptions.ArrayUnavailable:
            left = world.names()
            assert world.store().recover() == ([A] if left else []), f"down from step {step} on"
            assert world.names() == []
        else:
            world.store().delete(A)
            if not fall.fallen:
                break
    assert step > FEWEST_STEPS
    check_nothing_stays(world, world.store())


def test_whenever_it_is_killed_the_next_start_leaves_nothing(world):
    for step in steps():
        if not _killed_at(step, world):
            break
        store = world.store()
        left = world.names()
        assert store.recover() == ([A] if left else []), f"killed at step {step}"
        assert world.names() == []
        assert world.sessions() == []
    assert step > FEWEST_STEPS
    assert world.names() == [f"OS-IMAGE-{A}"]
    world.store().delete(A)
    check_nothing_stays(world, world.store())


def test_killed_upload_makes_way_for_the_next_one_of_its_image(world):
    assert _killed_at(FEWEST_STEPS, world)
    assert world.names() == [f"OS-IMAGE-{A}"]
    check_whole = world.store()
    check_whole.add(A, io.BytesIO(b"again"))
    assert check_whole.size(A) == 5
    check_whole.delete(A)


def test_killed_upload_whose_name_somebody_else_took_is_left_alone(world):
    assert _killed_at(FEWEST_STEPS, world)
    edf.Client(world.endpoint).delete_app_instance(f"OS-IMAGE-{A}")
    other = world.store("two")
    other.add(A, io.BytesIO(b"another"))
    assert world.store().recover() == []
    assert other.size(A) == 7
    other.delete(A)


def test_client_that_goes_away_leaves_nothing(world):
    class Gone(BaseException):
        pass

    class Client:
        def read(self, size):
            if size < CHUNK:
                raise Gone
            return b"x" * (CHUNK - 1)

    store = world.store(chunk_size=CHUNK)
    with pytest.raises(Gone):
        store.add(A, Client())
    check_nothing_stays(world, store)


def _killed_at(step, world):
    context = multiprocessing.get_context("fork")
    child = context.Process(target=_upload_and_die, args=(step, world))
    child.start()
    child.join(60)
    assert child.exitcode in (0, -signal.SIGKILL)
    return child.exitcode != 0


def _upload_and_die(step, world):
    # Killed before a call is as good as killed after the one before it.
    fate = image_world.Fate(step, lambda _what: os.kill(os.getpid(), signal.SIGKILL), before=False)
    world.fateful(fate).add(A, Growing(), algorithms=())
