# SPDX-License-Identifier: Apache-2.0
"""Several streams in one, for a server that moves to another host.

A parcel is made of parts, a part of pieces: each is four bytes that tell its length, and so many
bytes; a piece without bytes ends its part. Nobody has to know how long a part will be.
"""

import struct
from collections.abc import Iterable, Iterator

from container_stack import exceptions

#: A longer piece isn't ours.
LONGEST = 8 * 1024**2
_LENGTH = struct.Struct(">I")


def pack(parts: Iterable[Iterable[bytes]]) -> Iterator[bytes]:
    """Yield a parcel, reading each part once and in its turn."""
    for part in parts:
        for chunk in part:
            for start in range(0, len(chunk), LONGEST):
                piece = chunk[start : start + LONGEST]
                yield _LENGTH.pack(len(piece)) + piece
        yield _LENGTH.pack(0)


class Parcel:
    """The parts of a parcel, to be read in their order.

    :param stream: the parcel, in any pieces.
    """

    def __init__(self, stream: Iterable[bytes]) -> None:
        self._stream = iter(stream)
        self._buffer = b""

    def part(self) -> Iterator[bytes]:
        """Yield the next part; who wants the one behind it reads it to its end.

        :raises InvalidRequest: the parcel ends early, or never was one.
        """
        while length := _LENGTH.unpack(self._read(_LENGTH.size))[0]:
            if length > LONGEST:
                raise exceptions.InvalidRequest("What came from the other host is no parcel.")
            yield self._read(length)

    def end(self) -> None:
        """Make sure that nothing follows.

        :raises InvalidRequest: something does.
        """
        if self._buffer or any(self._stream):
            raise exceptions.InvalidRequest("The other host's parcel has more parts than it names.")

    def _read(self, size: int) -> bytes:
        pieces, have = [self._buffer], len(self._buffer)
        while have < size:
            chunk = next(self._stream, None)
            if chunk is None:
                raise exceptions.InvalidRequest("What came from the other host ends too early.")
            pieces.append(chunk)
            have += len(chunk)
        whole = b"".join(pieces)
        self._buffer = whole[size:]
        return whole[:size]
