# SPDX-License-Identifier: Apache-2.0
"""A client that notes what a share has acknowledged, and looks for it afterwards."""

import contextlib
import hashlib
import threading
import time
from collections.abc import Iterator, Sequence

from acceptance import smb

#: Bytes of a record.
SIZE = 8192
_DIGEST = 32


def record(name: str, number: int) -> bytes:
    """Return a record: its digest, and content that is no other's."""
    content = f"{name} {number} ".encode() * SIZE
    content = content[: SIZE - _DIGEST]
    return hashlib.sha256(content).digest() + content


class Recorder:
    """Writes records to a file of a share, and comes back whenever it is cut off.

    :ivar acknowledged: numbers of the records that were written and flushed, in order.
    """

    def __init__(self, location: str, user: str, key: str, name: str) -> None:
        self.acknowledged: list[int] = []
        self._door = (location, user, key)
        self._name = name
        self._next = 0
        self._stop = threading.Event()

    def run(self) -> None:
        """Write until told to stop; call in a thread."""
        while not self._stop.is_set():
            # The client library fails in many ways when its connection breaks.
            with contextlib.suppress(Exception), smb.Client(*self._door) as client:
                self._write(client)
            self._stop.wait(0.1)

    def stop(self) -> None:
        """Let it write its last record."""
        self._stop.set()

    def wait_for_more(self, seconds: float = 60.0) -> None:
        """Wait until it has written two more: it is served, now."""
        end, before = time.monotonic() + seconds, len(self.acknowledged)
        while len(self.acknowledged) < before + 2:
            assert time.monotonic() < end, f"{self._door[0]} takes nothing for {seconds} seconds"
            time.sleep(0.02)

    def kept(self, key: str | None = None) -> Sequence[int]:
        """Return those of the acknowledged records that are in the share, whole.

        :param key: the password, if it has become another.
        """
        location, user, first = self._door
        with smb.Client(location, user, key or first) as client:
            if self._name not in client.names():
                return []
            data = client.read(self._name)
        at = {number: data[number * SIZE :][:SIZE] for number in self.acknowledged}
        return [number for number, found in at.items() if found == record(self._name, number)]

    def _write(self, client: smb.Client) -> None:
        mode = "r+b" if self._name in client.names() else "wb"
        with client.open(self._name, mode) as file:
            while not self._stop.is_set():
                number, self._next = self._next, self._next + 1
                file.seek(number * SIZE)
                file.write(record(self._name, number))
                file.flush()
                self.acknowledged.append(number)
                self._stop.wait(0.01)


@contextlib.contextmanager
def recording(location: str, user: str, key: str, name: str) -> Iterator[Recorder]:
    """Write to a file of the share while the body runs."""
    made = Recorder(location, user, key, name)
    thread = threading.Thread(target=made.run)
    thread.start()
    try:
        made.wait_for_more()
        yield made
    finally:
        made.stop()
        thread.join(90)
        assert not thread.is_alive(), "A record has been on its way for more than a minute"
