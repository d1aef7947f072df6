# SPDX-License-Identifier: Apache-2.0
"""An object in a store as a file that can be read anywhere, without fetching all of it."""

import io

from container_stack import exceptions
from container_stack.storlets import objects

#: Bytes that are fetched with what is asked for: in an image's archive small files stand together.
AHEAD = 8192


class RangeFile(io.BufferedReader):
    """An object as it was when it was opened. Not safe to share between threads.

    :param ahead: bytes that a request fetches at least.
    :raises NotFound: there is no such object.
    :raises Busy: while reading: it has been replaced.
    """

    def __init__(
        self, store: objects.ObjectStore, container: str, name: str, ahead: int = AHEAD
    ) -> None:
        self._ranges = _Ranges(store, store.head(container, name))
        super().__init__(self._ranges, ahead)

    @property
    def object(self) -> objects.Object:
        """What the store knows of it."""
        return self._ranges.object

    @property
    def size(self) -> int:
        """Bytes of all of it."""
        return self._ranges.object.size

    @property
    def requests(self) -> int:
        """How often bytes have been asked for."""
        return self._ranges.requests

    @property
    def fetched(self) -> int:
        """Bytes that have come."""
        return self._ranges.fetched


class _Ranges(io.RawIOBase):
    """Each read is a request."""

    def __init__(self, store: objects.ObjectStore, found: objects.Object) -> None:
        super().__init__()
        if not found.etag:
            raise exceptions.InvalidRequest(
                f"{found.container}/{found.name} may change while it is read; upload it again, "
                f"whole or with `swift upload --use-slo --segment-size`."
            )
        self.object = found
        self.requests = 0
        self.fetched = 0
        self._store = store
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_CUR: self._position, io.SEEK_END: self.object.size}.get(whence, 0)
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        wanted = min(len(buffer), self.object.size - self._position)
        if wanted <= 0:
            return 0
        self.requests += 1
        done = 0
        found = self.object
        pieces = self._store.read(
            found.container, found.name, self._position, wanted, etag=found.etag
        )
        for piece in pieces:
            end = done + len(piece)
            if end > wanted:
                raise exceptions.ServiceUnavailable(f"{found.name} has more bytes than asked for.")
            buffer[done:end] = piece
            done = end
        self._position += done
        self.fetched += done
        return done
