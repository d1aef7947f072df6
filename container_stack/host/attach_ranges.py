# SPDX-License-Identifier: Apache-2.0
"""Ranges of a device: whether they lie in it, and who may write them now."""

import contextlib
import threading
from collections.abc import Iterator

from container_stack import exceptions


def check(size: int, offset: int, length: int) -> None:
    """Return if a range lies in a device of ``size`` bytes.

    :raises InvalidRequest: it doesn't.
    """
    if offset < 0 or length < 0 or offset + length > size:
        raise exceptions.InvalidRequest(
            f"{length} bytes from {offset} don't lie in a volume of {size} bytes."
        )


class RangeLocks:
    """Keeps writes that touch each other apart.

    Who writes part of a block reads the block, changes it and writes it back; another write to
    the block in between would be undone.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._held: list[tuple[int, int]] = []

    @contextlib.contextmanager
    def hold(self, start: int, end: int) -> Iterator[None]:
        """Hold a range, waiting while another that overlaps it is held. Not reentrant."""
        mine = (start, end)
        with self._changed:
            self._changed.wait_for(lambda: not self._overlaps(start, end))
            self._held.append(mine)
        try:
            yield
        finally:
            with self._changed:
                self._held.remove(mine)
                self._changed.notify_all()

    def _overlaps(self, start: int, end: int) -> bool:
        return any(start < other_end and other < end for other, other_end in self._held)
