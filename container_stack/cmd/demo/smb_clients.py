# SPDX-License-Identifier: Apache-2.0
"""Clients that keep working in the background while the demo changes their share."""

import os
import threading
import time
from typing import Self

from container_stack.cmd.demo import smb

#: Bytes of one write.
BLOCK = 65536


class Busy:
    """A client that works without pause until told to stop or until an operation fails.

    :param client: connected; used by nobody else meanwhile.
    """

    def __init__(self, client: smb.Client) -> None:
        self._client = client
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        #: Operations begun, and those of them that succeeded.
        self.begun = self.operations = 0
        self.slowest = 0.0
        self.failure: Exception | None = None
        self.failed_at: float | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        self.go_on(5)
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join(smb.PATIENCE)

    def go_on(self, count: int) -> bool:
        """Wait for so many more operations; tell whether they succeeded."""
        goal = self.operations + count
        end = time.monotonic() + smb.PATIENCE
        while self.operations < goal and self.failure is None and time.monotonic() < end:
            time.sleep(0.005)
        return self.operations >= goal

    def wait_for_failure(self, seconds: float) -> float | None:
        """Wait until an operation fails; return when that was, by time.monotonic()."""
        self._thread.join(seconds)
        return self.failed_at

    def operate(self) -> None:
        """Do one thing in the share."""
        raise NotImplementedError

    def _work(self) -> None:
        while not self._stop.is_set():
            started = time.monotonic()
            self.begun += 1
            try:
                self.operate()
            except Exception as exc:  # whatever it is, it is what the client sees
                self.failure, self.failed_at = exc, time.monotonic()
                return
            self.operations += 1
            self.slowest = max(self.slowest, time.monotonic() - started)


class Writer(Busy):
    """Writes files one after the other, and reads each back."""

    def operate(self) -> None:
        """Write a file of random bytes, read it and compare."""
        name, data = f"busy-{self.operations % 50}", os.urandom(BLOCK)
        self._client.write(name, data)
        if self._client.read(name) != data:
            raise OSError(f"{name} doesn't hold what was written.")


class Session(Busy):
    """Works on one file that stays open, as an editor or a database does."""

    def __init__(self, client: smb.Client, name: str, *, write: bool) -> None:
        super().__init__(client)
        self._write = write
        self._file = client.open(name, "r+b" if write else "rb")

    def operate(self) -> None:
        """Write or read a little through the open file, without closing it."""
        self._file.seek(0)
        if self._write:
            self._file.write(os.urandom(512))
        else:
            self._file.read(512)
        time.sleep(0.005)
