# SPDX-License-Identifier: Apache-2.0
"""What is sent to Swift, as swiftclient wants it: something with ``read``."""

from collections.abc import Iterable, Iterator

from container_stack import exceptions


class SourceFailed(Exception):
    """What should have been sent couldn't be had; the cause tells why.

    Not an OSError, which swiftclient would take for a broken connection.
    """


class Body:
    """Pieces, read as a file.

    :param size: bytes that they must be; neither less nor more is ever sent as a whole.
    """

    def __init__(self, pieces: Iterable[bytes], size: int | None) -> None:
        self._source = pieces
        self._size = size
        self._rest = memoryview(b"")
        self._pieces = _exactly(size, pieces)

    def read(self, length: int) -> bytes:
        """Return some bytes, at most so many; none at the end.

        :raises SourceFailed: the pieces failed, or aren't as many bytes as announced.
        """
        if not self._rest:
            try:
                self._rest = memoryview(next(self._pieces, b""))
            except BaseException as exc:
                raise SourceFailed from exc
        data, self._rest = self._rest[:length], self._rest[length:]
        return bytes(data)


class AgainBody(Body):
    """Pieces that can be had again; swiftclient repeats a request whose body has these methods."""

    def tell(self) -> int:
        return 0

    def seek(self, _offset: int) -> None:
        """Begin again."""
        self._rest = memoryview(b"")
        self._pieces = _exactly(self._size, self._source)


def make(data: bytes | Iterable[bytes], size: int | None) -> Body:
    """Return a body; it can be sent again unless the pieces come from an iterator."""
    pieces = (data,) if isinstance(data, bytes) else data
    return Body(pieces, size) if iter(pieces) is pieces else AgainBody(pieces, size)


def _exactly(size: int | None, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield pieces, and the last one only when it is sure that their sum is right."""
    taken, held = 0, b""
    for piece in filter(None, pieces):
        taken += len(piece)
        if size is not None and taken > size:
            raise exceptions.InvalidRequest(f"More than the announced {size} bytes came.")
        if held:
            yield held
        held = piece
    if size is not None and taken < size:
        raise exceptions.InvalidRequest(f"{taken} bytes came instead of {size}.")
    if held:
        yield held
