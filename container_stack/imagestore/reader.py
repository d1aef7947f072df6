# SPDX-License-Identifier: Apache-2.0
"""The bytes of an image on their way back: pieces, one read ahead."""

import weakref
from collections.abc import Callable, Iterator
from concurrent import futures
from types import TracebackType
from typing import Self

from container_stack.host import attach
from container_stack.imagestore import pipeline


class Reader(Iterator[bytes]):
    """A range of a volume, as pieces; the next one is read ahead.

    The volume is let go as soon as the last piece is handed out: a WSGI server stops asking when
    it has as many bytes as it announced. Earlier by :meth:`close`, or with the garbage.

    :param close: lets go of the volume.
    :param size: bytes of the whole image, ``length`` of this range.
    """

    def __init__(
        self,
        device: attach.BlockDevice,
        close: Callable[[], None],
        *,
        size: int,
        offset: int,
        length: int,
        piece: int = pipeline.PIECE,
    ) -> None:
        self.size = size
        self.length = length
        self._ahead = _ReadAhead(device, close, offset, length, piece)
        weakref.finalize(self, self._ahead.abandon)

    def __next__(self) -> bytes:
        return self._ahead.next()

    def close(self) -> None:
        """Let go of the volume; idempotent. Nothing can be read any more."""
        self._ahead.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class _ReadAhead:
    """Reads a range in a thread, one piece ahead of who asks for it."""

    def __init__(
        self,
        device: attach.BlockDevice,
        close: Callable[[], None],
        offset: int,
        length: int,
        piece: int,
    ) -> None:
        self._device = device
        self._close = close
        self._starts = iter(range(offset, offset + length, piece))
        self._end = offset + length
        self._piece = piece
        self._thread = futures.ThreadPoolExecutor(1, "image-out")
        self._ahead: futures.Future[bytes] | None = None
        self._open = True
        self._read_on()

    def next(self) -> bytes:
        if self._ahead is None:
            raise StopIteration
        try:
            data = self._ahead.result()
            self._read_on()
        except BaseException:
            self.close()
            raise
        return data

    def close(self) -> None:
        if self._leave():
            self._thread.shutdown(cancel_futures=True)
            self._close()

    def abandon(self) -> None:
        """Let go of the volume without waiting for the read that is under way."""
        if self._leave():
            try:
                self._thread.submit(self._close)
            except RuntimeError:  # the interpreter ends, and its threads have
                self._close()
            self._thread.shutdown(wait=False)

    def _leave(self) -> bool:
        was_open, self._open, self._ahead = self._open, False, None
        return was_open

    def _read_on(self) -> None:
        start = next(self._starts, None)
        if start is None:
            self.close()
        else:
            length = min(self._piece, self._end - start)
            self._ahead = self._thread.submit(self._device.read, start, length)
