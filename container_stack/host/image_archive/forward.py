# SPDX-License-Identifier: Apache-2.0
"""An archive that comes in pieces and is read once, from its beginning to its end."""

import zlib
from collections.abc import Iterable, Iterator

from container_stack import exceptions
from container_stack.host.image_archive import bounds, tar

CHUNK = 1024 * 1024
_GZIP = b"\x1f\x8b\x08"
#: Says to zlib that it is gzip's form, with the largest window.
_WINDOW = 31


class Forward:
    """What of a stream wasn't read yet; offsets count from the stream's beginning.

    :param limit: bytes, above which it is refused.
    """

    def __init__(self, pieces: Iterable[bytes], limit: int) -> None:
        self._pieces = iter(pieces)
        self._left = memoryview(b"")
        self._limit = limit
        self.position = 0

    def read(self, offset: int, length: int) -> bytes:
        """Return a range; what lies before it is lost.

        :raises InvalidRequest: the stream ends before, or is too large.
        """
        for _ in self.pieces(offset - self.position):
            pass
        return b"".join(self.pieces(length))

    def pieces(self, length: int) -> Iterator[bytes]:
        """Yield the next bytes, of this number.

        :raises InvalidRequest: the stream ends before, or is too large.
        """
        end = self.position + length
        while self.position < end:
            if not self._fill():
                raise tar.cut_off(end)
            yield self._take(end - self.position)

    def peek(self, length: int) -> bytes:
        """Return the next bytes, or what there is, and leave them to be read."""
        found = bytes(self._left)
        while len(found) < length:
            piece = next(self._pieces, None)
            if piece is None:
                break
            found += piece
        self._left = memoryview(found)
        return found[:length]

    def rest(self) -> Iterator[bytes]:
        """Yield what there is, to the end."""
        while self._fill():
            yield self._take(len(self._left))

    def _fill(self) -> bool:
        while not self._left:
            piece = next(self._pieces, None)
            if piece is None:
                return False
            self._left = memoryview(piece)
        return True

    def _take(self, length: int) -> bytes:
        data = bytes(self._left[:length])
        self._left = self._left[length:]
        self.position += len(data)
        bounds.check("bytes", self.position, self._limit)
        return data


def unpacked(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield a stream, without gzip's compression if it has that.

    A piece is never larger than a megabyte, or as it came.

    :raises InvalidRequest: the compression is damaged.
    """
    source = iter(pieces)
    head = b""
    while len(head) < len(_GZIP):
        piece = next(source, None)
        if piece is None:
            break
        head += piece
    if head.startswith(_GZIP):
        yield from _inflated(_chain(head, source))
    else:
        yield from _chain(head, source)


def _chain(head: bytes, source: Iterator[bytes]) -> Iterator[bytes]:
    if head:
        yield head
    yield from source


def _inflated(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Yield what is compressed; like the engine's reader, of several files in a row too."""
    inflater = zlib.decompressobj(_WINDOW)
    for piece in pieces:
        data, more = piece, True
        while data or more:
            if inflater.eof:
                if not data:
                    break
                inflater = zlib.decompressobj(_WINDOW)
            out = _inflate(inflater, data)
            data = inflater.unused_data if inflater.eof else inflater.unconsumed_tail
            # With a full buffer there may be more inside, though all input is taken.
            more = len(out) == CHUNK
            if out:
                yield out
    if not inflater.eof:
        raise exceptions.InvalidRequest("The archive is cut off; save and upload it again.")


def _inflate(inflater: "zlib._Decompress", data: bytes) -> bytes:
    try:
        return inflater.decompress(data, CHUNK)
    except zlib.error as exc:
        raise exceptions.InvalidRequest(f"The archive's compression is damaged: {exc}.") from exc
