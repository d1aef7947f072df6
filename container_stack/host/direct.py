# SPDX-License-Identifier: Apache-2.0
"""Reading and writing a block device past the kernel's page cache, at any offset.

What is read is what the device has, a failure is told by the call that met it, and the cache of
the host isn't emptied by bytes that nobody reads twice. The kernel wants whole blocks in aligned
memory in return (open(2), O_DIRECT).
"""

import contextlib
import errno
import fcntl
import mmap
import os
import queue
import struct
from collections.abc import Iterator

from container_stack.host import attach_ranges

#: Bytes that one system call moves at most; the kernel makes many commands of them at once.
PIECE = 8 * 1024**2
#: BLKSSZGET of linux/fs.h: the device's logical block size.
_BLOCK_SIZE = 0x1268
#: Buffers that are kept.
_KEPT = 4


class DirectDevice:
    """A block device opened with ``O_DIRECT``; threads may share it.

    OSError says what failed.

    :param descriptor: stays the caller's.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        answer = fcntl.ioctl(descriptor, _BLOCK_SIZE, bytes(4))
        self._block: int = struct.unpack("i", answer)[0]
        self._locks = attach_ranges.RangeLocks()
        self._buffers: queue.LifoQueue[mmap.mmap] = queue.LifoQueue(_KEPT)

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly ``length`` bytes."""
        parts = []
        with self._buffer() as buffer:
            for start, end in self._pieces(offset, offset + length):
                first, last = max(start, offset), min(end, offset + length)
                self._load(buffer, start, end)
                parts.append(bytes(buffer[first - start : last - start]))
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def write(self, offset: int, data: memoryview) -> None:
        """Write all of ``data``, a view of bytes."""
        finish = offset + len(data)
        with self._buffer() as buffer:
            for start, end in self._pieces(offset, finish):
                first, last = max(start, offset), min(end, finish)
                with self._locks.hold(start, end):
                    if first > start:
                        self._load(buffer, start, start + self._block)
                    if last < end:
                        begin = end - self._block
                        with buffer[begin - start :] as tail:
                            self._load(tail, begin, end)
                    buffer[first - start : last - start] = data[first - offset : last - offset]
                    self._store(buffer, start, end)

    def flush(self) -> None:
        """Return when everything written is on stable storage."""
        os.fsync(self._descriptor)

    def _pieces(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield the ranges of whole blocks that cover a range, none if it is empty."""
        if start == end:
            return
        start -= start % self._block
        end += -end % self._block
        for each in range(start, end, PIECE):
            yield each, min(each + PIECE, end)

    def _load(self, buffer: memoryview, start: int, end: int) -> None:
        while start < end:
            with buffer[: end - start] as view:
                count = os.preadv(self._descriptor, [view], start)
            if not count:
                raise OSError(errno.ENXIO, "the device became smaller")
            start, buffer = start + count, buffer[count:]

    def _store(self, buffer: memoryview, start: int, end: int) -> None:
        while start < end:
            with buffer[: end - start] as view:
                count = os.pwritev(self._descriptor, [view], start)
            start, buffer = start + count, buffer[count:]

    @contextlib.contextmanager
    def _buffer(self) -> Iterator[memoryview]:
        try:
            memory = self._buffers.get_nowait()
        except queue.Empty:
            memory = mmap.mmap(-1, PIECE)
        with memoryview(memory) as view:
            yield view
        with contextlib.suppress(queue.Full):
            self._buffers.put_nowait(memory)
