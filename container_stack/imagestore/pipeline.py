# SPDX-License-Identifier: Apache-2.0
"""The bytes of an image on their way to a volume, piece by piece.

The caller's thread reads the stream while one thread writes the volume and one each computes a
digest: the slowest of them sets the pace, not their sum. Never are more than four pieces in memory.
"""

import collections
import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent import futures
from typing import Any, Protocol, Self

from container_stack import exceptions
from container_stack.host import attach

#: Bytes of a piece where the operator allows as much; larger ones are no faster.
PIECE = 8 * 1024**2
#: Pieces being filled, hashed or written. With what the stream hands over that makes four.
BUFFERS = 3
#: Bytes that a fresh thin volume is spared when all of them are zero.
BLOCK = 256 * 1024
_ZEROS = bytes(BLOCK)


class Source(Protocol):
    """Where the bytes of an image come from."""

    def read(self, size: int, /) -> bytes:
        """Return up to ``size`` bytes; none at the end."""


class Verifier(Protocol):
    """Something else that must see all bytes, in order: a signature's verifier."""

    def update(self, data: bytes, /) -> Any:
        """Take the next bytes."""


@dataclasses.dataclass(frozen=True, slots=True)
class Piece:
    """The first ``length`` bytes of a buffer, and where in the image they lie."""

    offset: int
    buffer: bytearray
    length: int

    @property
    def end(self) -> int:
        """Where in the image the next piece begins."""
        return self.offset + self.length

    @property
    def data(self) -> memoryview:
        """The bytes, not copied."""
        return memoryview(self.buffer)[: self.length]

    def runs(self) -> Iterator[tuple[int, int]]:
        """Yield start and end, within the piece, of what isn't zero; in blocks, merged."""
        start = None
        for at in range(0, self.length, BLOCK):
            end = min(at + BLOCK, self.length)
            zero = self.buffer.startswith(_ZEROS[: end - at], at, end)
            if zero and start is not None:
                yield start, at
                start = None
            elif not zero and start is None:
                start = at
        if start is not None:
            yield start, self.length


class Digests:
    """Digests of all bytes, by name.

    :raises InvalidRequest: an algorithm is unknown here.
    """

    def __init__(self, algorithms: Iterable[str]) -> None:
        self._hashes = {name: _new_hash(name) for name in dict.fromkeys(algorithms)}

    def updates(self) -> list[Callable[[Piece], None]]:
        """Return what feeds each; they may run at the same time."""
        return [_fed(each.update) for each in self._hashes.values()]

    def hex(self) -> Mapping[str, str]:
        """Return the digests, in hexadecimal digits."""
        return {name: each.hexdigest() for name, each in self._hashes.items()}


class FreshVolume:
    """A volume that reads as zeros wherever nobody has written.

    :param grow: makes the volume hold at least so many bytes; called when a piece needs it.
    """

    def __init__(self, device: attach.BlockDevice, grow: Callable[[int], None]) -> None:
        self._device = device
        self._grow = grow

    def write(self, piece: Piece) -> None:
        """Write a piece, except for blocks of zeros."""
        for start, end in piece.runs():
            if piece.offset + end > self._device.size:
                self._grow(piece.offset + end)
            self._device.write(piece.offset + start, piece.data[start:end])

    def finish(self, size: int) -> None:
        """Return when the volume holds ``size`` bytes, on stable storage."""
        if size > self._device.size:
            self._grow(size)
        self._device.flush()


def copy_in(
    stream: Source,
    volume: FreshVolume,
    digests: Digests,
    *,
    size: int = 0,
    piece: int = PIECE,
    verifier: Verifier | None = None,
) -> int:
    """Write a stream to a volume and return how many bytes it had.

    What the stream raises comes through as it is.

    :param size: bytes that it must have; 0: any number.
    :param piece: bytes of a piece.
    :raises InvalidRequest: it has more or fewer.
    """
    feeder = _Feeder(stream, size, verifier)
    with _Workers([volume.write, *digests.updates()], piece) as workers:
        while filled := feeder.fill(workers.buffer()):
            workers.start(filled)
    volume.finish(feeder.offset)
    return feeder.offset


class _Feeder:
    """Fills buffers from a stream whose reads may be short, and minds its length."""

    def __init__(self, stream: Source, size: int, verifier: Verifier | None) -> None:
        self._stream = stream
        self._size = size
        self._verifier = verifier
        self.offset = 0

    def fill(self, buffer: bytearray) -> Piece | None:
        """Fill a buffer as far as the stream goes; None at its end."""
        filled = 0
        while filled < len(buffer) and (part := self._read(buffer, filled)):
            filled += part
            self._check(self.offset + filled, at_end=False)
        piece = Piece(self.offset, buffer, filled)
        self.offset = piece.end
        self._check(self.offset, at_end=not filled)
        return piece if filled else None

    def _read(self, buffer: bytearray, start: int) -> int:
        # A function of its own, so that what was read is gone before the next read.
        part = self._stream.read(len(buffer) - start)
        if part and self._verifier is not None:
            self._verifier.update(part)
        # Through a view: a bytearray would copy the bytes once more on their way.
        memoryview(buffer)[start : start + len(part)] = part
        return len(part)

    def _check(self, seen: int, *, at_end: bool) -> None:
        if self._size and (seen > self._size or (at_end and seen < self._size)):
            raise exceptions.InvalidRequest(
                f"The image was to have {self._size} bytes and has "
                f"{seen if at_end else f'more than {self._size}'}."
            )


class _Workers:
    """One thread for each action; every action sees all pieces in order."""

    def __init__(self, actions: list[Callable[[Piece], None]], piece: int) -> None:
        self._size = piece
        self._made = 0
        self._under_way: collections.deque[tuple[bytearray, list[futures.Future[None]]]]
        self._under_way = collections.deque()
        self._threads = [(each, futures.ThreadPoolExecutor(1, "image-in")) for each in actions]

    def buffer(self) -> bytearray:
        """Return a buffer that nobody uses, when there is one.

        Raises what an action raised on an earlier piece.
        """
        if self._made < BUFFERS:
            self._made += 1
            return bytearray(self._size)
        return self._finish_oldest()

    def start(self, piece: Piece) -> None:
        """Let every action work on a piece."""
        begun = [thread.submit(action, piece) for action, thread in self._threads]
        self._under_way.append((piece.buffer, begun))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_rest: object) -> None:
        try:
            while kind is None and self._under_way:
                self._finish_oldest()
        finally:
            for _action, thread in self._threads:
                thread.shutdown(cancel_futures=True)

    def _finish_oldest(self) -> bytearray:
        buffer, begun = self._under_way.popleft()
        for each in begun:
            each.result()
        return buffer


def _new_hash(name: str) -> Any:
    try:
        made = hashlib.new(name, usedforsecurity=False)
    except ValueError as exc:
        raise exceptions.InvalidRequest(f"There is no digest {name!r} here.") from exc
    if not made.digest_size:
        raise exceptions.InvalidRequest(f"Digest {name!r} has no length of its own.")
    return made


def _fed(update: Callable[[memoryview], None]) -> Callable[[Piece], None]:
    def feed(piece: Piece) -> None:
        update(piece.data)

    return feed
