# SPDX-License-Identifier: Apache-2.0
"""Bytes on their way to a volume: whole, hashed, in little memory, without the zeros."""

import hashlib
import io
import threading
import time
import tracemalloc

import hypothesis
import pytest
from hypothesis import strategies

from container_stack import exceptions
from container_stack.imagestore import pipeline

from .memory_device import MemoryDevice

PIECE = 1000
BLOCK = pipeline.BLOCK


class Short(io.BytesIO):
    """A stream that hands over less than it is asked for."""

    def __init__(self, data: bytes, most: int) -> None:
        super().__init__(data)
        self._most = most

    def read(self, size: int | None = -1) -> bytes:
        return super().read(min(size or 0, self._most))


class Seen:
    """A verifier that keeps what it saw."""

    def __init__(self) -> None:
        self.data = b""

    def update(self, data: bytes) -> None:
        self.data += data


def copy_in(stream, device, algorithms=("md5", "sha512"), **more):
    digests = pipeline.Digests(algorithms)
    more.setdefault("piece", PIECE)
    size = pipeline.copy_in(stream, pipeline.FreshVolume(device, device.grow), digests, **more)
    return size, digests.hex()


@pytest.mark.parametrize("size", [0, 1, PIECE - 1, PIECE, PIECE + 1, 7 * PIECE + 3])
def test_any_size_arrives_whole_and_with_the_right_digests(size):
    data = bytes(1 + n % 255 for n in range(size))
    device = MemoryDevice()
    assert copy_in(io.BytesIO(data), device) == (
        size,
        {"md5": hashlib.md5(data).hexdigest(), "sha512": hashlib.sha512(data).hexdigest()},
    )
    assert device.content == data


@hypothesis.given(
    runs=strategies.lists(
        strategies.tuples(strategies.booleans(), strategies.integers(1, 3 * PIECE)), max_size=12
    ),
    piece=strategies.integers(1, 2 * PIECE).filter(lambda n: n > 20),
    most=strategies.integers(1, 3 * PIECE).filter(lambda n: n > 10),
    known=strategies.booleans(),
)
@hypothesis.settings(deadline=None, max_examples=60)
def test_whatever_is_sent_can_be_read_back(runs, piece, most, known):
    data = b"".join((b"\0" if zero else b"x") * length for zero, length in runs)
    device, seen = MemoryDevice(), Seen()
    size, digests = copy_in(
        Short(data, most),
        device,
        ["sha256"],
        piece=piece,
        size=len(data) if known else 0,
        verifier=seen,
    )
    assert (size, digests) == (len(data), {"sha256": hashlib.sha256(data).hexdigest()})
    assert device.content == data == seen.data


@hypothesis.given(blocks=strategies.lists(strategies.booleans(), max_size=12))
@hypothesis.settings(deadline=None, max_examples=40)
def test_only_blocks_with_data_are_written(blocks):
    data = b"".join((b"\0" if zero else b"x") * BLOCK for zero in blocks) + b"\0tail"
    device = MemoryDevice(len(data))
    copy_in(io.BytesIO(data), device, piece=4 * BLOCK)
    assert device.content == data
    assert device.written == blocks.count(False) * BLOCK + len(b"\0tail")


def test_zeros_are_neither_written_nor_room_made_for_before_the_end():
    device = MemoryDevice()
    copy_in(io.BytesIO(bytes(5 * PIECE + 1)), device)
    assert device.asked == [("grow", 0, 5 * PIECE + 1)]
    assert device.flushed_at == 1


def test_volume_is_flushed_after_the_last_write():
    device = MemoryDevice()
    copy_in(io.BytesIO(b"x" * 4321), device)
    assert device.flushed_at == len(device.asked)


@pytest.mark.parametrize(("sent", "told"), [(PIECE, PIECE - 1), (3000, 2999), (1, 2), (0, 1)])
def test_stream_of_another_length_than_told_is_refused(sent, told):
    device = MemoryDevice(4000)
    with pytest.raises(exceptions.InvalidRequest, match=f"was to have {told} bytes"):
        copy_in(io.BytesIO(b"x" * sent), device, size=told)


def test_stream_that_is_too_long_is_not_read_to_its_end():
    stream = Short(b"x" * 10 * PIECE, 100)
    with pytest.raises(exceptions.InvalidRequest):
        copy_in(stream, MemoryDevice(10 * PIECE), size=PIECE)
    assert stream.tell() == PIECE + 100


def test_unknown_digest_is_refused():
    for name in ("crc-of-doom", "shake_128"):
        with pytest.raises(exceptions.InvalidRequest, match=name):
            pipeline.Digests([name])


def test_what_the_stream_raises_comes_through_and_no_thread_stays():
    class Gone(Exception):
        pass

    class Client:
        def read(self, size: int) -> bytes:
            raise Gone

    before = threading.active_count()
    with pytest.raises(Gone):
        copy_in(Client(), MemoryDevice())
    assert threading.active_count() == before


def test_full_pool_ends_the_copy_soon():
    stream = io.BytesIO(b"x" * 100 * PIECE)
    device = MemoryDevice(100 * PIECE, full_after=3 * PIECE)
    with pytest.raises(exceptions.NoSpace):
        copy_in(stream, device)
    assert stream.tell() <= 8 * PIECE


@pytest.mark.parametrize("most", [64 * 1024, 1024**2, 2 * 1024**2])
def test_no_more_than_four_pieces_are_in_memory(most):
    piece = 2 * 1024**2

    class Long:
        left = 32 * piece

        def read(self, size: int) -> bytes:
            part = min(size, most, self.left)
            self.left -= part
            return b"x" * part

    class SlowSink(MemoryDevice):
        size = Long.left  # type: ignore[assignment]

        def write(self, offset: int, data: bytes) -> None:
            time.sleep(0.002)

    tracemalloc.start()
    try:
        copy_in(Long(), SlowSink(), piece=piece)
        _now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 2 * piece < peak < 4 * piece + 256 * 1024


def test_reading_hashing_and_writing_overlap():
    pause = 0.02

    class Slow(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            time.sleep(pause)
            return super().read(size)

    class SlowDevice(MemoryDevice):
        def write(self, offset: int, data: bytes) -> None:
            time.sleep(pause)
            super().write(offset, data)

    class SlowDigests(pipeline.Digests):
        def updates(self):
            return [lambda _piece: time.sleep(pause), lambda _piece: time.sleep(pause)]

    device = SlowDevice(30 * PIECE)
    volume = pipeline.FreshVolume(device, device.grow)
    began = time.monotonic()
    pipeline.copy_in(Slow(b"x" * 30 * PIECE), volume, SlowDigests(()), piece=PIECE)
    took = time.monotonic() - began
    assert took < 2 * 30 * pause, "one after the other would take four times as long"
