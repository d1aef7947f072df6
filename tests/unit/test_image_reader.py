# SPDX-License-Identifier: Apache-2.0
"""A range on its way out: exactly that, one piece ahead, and the volume is let go in time."""

import gc
import threading
import time

import hypothesis
import pytest
from hypothesis import strategies

from container_stack import exceptions
from container_stack.imagestore import reader

from .memory_device import MemoryDevice

SIZE = 10_000
DATA = bytes(n % 251 for n in range(SIZE))


def make(offset=0, length=SIZE, piece=1000):
    device = MemoryDevice()
    device.content[:] = DATA
    made = reader.Reader(device, device.close, size=SIZE, offset=offset, length=length, piece=piece)
    return device, made


def wait_for(condition):
    end = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


@hypothesis.given(
    ends=strategies.tuples(strategies.integers(0, SIZE), strategies.integers(0, SIZE)).map(sorted),
    piece=strategies.integers(100, 2 * SIZE),
)
@hypothesis.settings(deadline=None, max_examples=60)
def test_range_is_read_and_nothing_else(ends, piece):
    start, end = ends
    device, made = make(start, end - start, piece)
    assert (made.size, made.length) == (SIZE, end - start)
    assert b"".join(made) == DATA[start:end]
    assert sum(length for _what, _offset, length in device.asked) == end - start
    assert device.closed == 1


def test_volume_is_let_go_with_the_last_piece_not_after_it():
    device, made = make(0, 2500)
    assert len(next(made)) + len(next(made)) == 2000
    assert not device.closed
    assert len(next(made)) == 500
    assert device.closed == 1
    assert next(made, None) is None


def test_empty_range_lets_go_at_once():
    device, made = make(5, 0)
    assert device.closed == 1
    assert list(made) == []


def test_one_piece_is_read_ahead():
    device, made = make()
    wait_for(lambda: len(device.asked) == 1)
    next(made)
    wait_for(lambda: len(device.asked) == 2)
    time.sleep(0.02)
    assert len(device.asked) == 2
    made.close()


def test_closed_early_it_lets_go_once_and_ends():
    device, made = make()
    next(made)
    made.close()
    made.close()
    assert device.closed == 1
    assert list(made) == []


def test_left_as_a_context_it_lets_go():
    device, made = make()
    with made:
        next(made)
    assert device.closed == 1


def test_forgotten_it_lets_go():
    before = threading.active_count()
    device, made = make()
    next(made)
    del made
    gc.collect()
    wait_for(lambda: device.closed == 1)
    wait_for(lambda: threading.active_count() == before)


def test_failed_read_is_raised_and_lets_go():
    device, made = make(0, SIZE + 1, piece=SIZE)
    assert next(made) == DATA
    with pytest.raises(exceptions.InvalidRequest):
        next(made)
    assert device.closed == 1
    assert next(made, None) is None
