# SPDX-License-Identifier: Apache-2.0
"""A block device in memory."""

from container_stack import exceptions
from container_stack.host import attach


class MemoryDevice(attach.BlockDevice):
    """A volume that remembers what was asked of it.

    :param full_after: bytes that can be written before its pool is full.
    """

    def __init__(self, size: int = 0, *, full_after: int | None = None) -> None:
        self.content = bytearray(size)
        self.asked: list[tuple[str, int, int]] = []
        self.flushed_at = -1
        self.closed = 0
        self._full_after = full_after

    @property
    def size(self) -> int:
        return len(self.content)

    @property
    def written(self) -> int:
        return sum(length for what, _offset, length in self.asked if what == "write")

    def grow(self, size: int) -> None:
        self.asked.append(("grow", 0, size))
        self.content.extend(bytes(size - len(self.content)))

    def read(self, offset: int, length: int) -> bytes:
        self._ask("read", offset, length)
        return bytes(self.content[offset : offset + length])

    def write(self, offset: int, data: attach.Buffer) -> None:
        self._ask("write", offset, len(data))
        if self._full_after is not None and self.written > self._full_after:
            raise exceptions.NoSpace("The pool is full.")
        self.content[offset : offset + len(data)] = data

    def flush(self) -> None:
        self.flushed_at = len(self.asked)

    def refresh(self) -> int:
        return self.size

    def close(self) -> None:
        self.closed += 1

    def _ask(self, what: str, offset: int, length: int) -> None:
        if self.closed:
            raise exceptions.InvalidRequest("The device is closed.")
        if offset < 0 or offset + length > self.size:
            raise exceptions.InvalidRequest("Past the end.")
        self.asked.append((what, offset, length))
