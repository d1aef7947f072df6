# SPDX-License-Identifier: Apache-2.0
"""An object as a file: the same bytes, and no more of them than need be."""

import io
import random

import hypothesis
import pytest
from hypothesis import strategies

from container_stack import exceptions
from container_stack.storlets.store import remote
from container_stack.testing import objects as memory

DATA = random.Random(7).randbytes(100_003)


@pytest.fixture(scope="module")
def store():
    made = memory.MemoryObjects()
    made.set_container("c", {})
    made.write("c", "a", DATA)
    return made


@hypothesis.given(
    steps=strategies.lists(
        strategies.tuples(
            strategies.sampled_from(["set", "cur", "end"]),
            strategies.integers(-10_000, 110_000),
            strategies.integers(-1, 20_000),
        ),
        max_size=20,
    ),
    ahead=strategies.integers(1, 10_000),
)
@hypothesis.settings(deadline=None, max_examples=60)
def test_it_reads_as_a_file_of_the_same_bytes_does(store, steps, ahead):
    file, like = remote.RangeFile(store, "c", "a", ahead), io.BytesIO(DATA)
    for how, offset, length in steps:
        if how == "set":
            position = max(0, offset)
        else:
            base = like.tell() if how == "cur" else len(DATA)
            position = max(0, base + offset)
        assert file.seek(position) == like.seek(position)
        assert file.read(length) == like.read(length)
        assert file.tell() == like.tell()


def test_only_what_is_asked_for_is_fetched(store):
    file = remote.RangeFile(store, "c", "a", ahead=512)
    for offset in (0, 512, 50_000, 50_100, len(DATA) - 3):
        file.seek(offset)
        assert file.read(100) == DATA[offset : offset + 100]
    assert (file.size, file.requests, file.fetched) == (len(DATA), 4, 3 * 512 + 3)
    assert file.object == store.head("c", "a")


def test_large_piece_takes_one_request(store):
    file = remote.RangeFile(store, "c", "a", ahead=512)
    assert file.read(512 * 100) == DATA[: 512 * 100]
    assert file.requests == 1


def test_replaced_object_is_not_read_on(store):
    store.write("c", "b", DATA)
    file = remote.RangeFile(store, "c", "b")
    assert file.read(10) == DATA[:10]
    store.write("c", "b", DATA[::-1])
    file.seek(50_000)
    with pytest.raises(exceptions.Busy):
        file.read(10)


def test_empty_object_is_an_empty_file(store):
    store.write("c", "e", b"")
    file = remote.RangeFile(store, "c", "e")
    assert file.read() == b""
    assert file.requests == 0


def test_what_is_not_there_is_not_found(store):
    with pytest.raises(exceptions.NotFound):
        remote.RangeFile(store, "c", "none")
