# SPDX-License-Identifier: Apache-2.0
"""Extending a share under a client that writes: none of his operations fails.

The ratio is his slowest write while the share grows eight times, against his slowest without.
"""

import threading
import time
from collections.abc import Iterator

import smbclient

from benchmarks import harness, shares

SECONDS = 2.0


def run() -> Iterator[harness.Claim]:
    """Measure and yield the claims."""
    with shares.bench() as made:
        server = made.shares.create_server(made.spec(10))
        share = made.shares.create("bench", server.id, shares.SIZE)
        password = made.shares.set_rules("bench", [shares.ALICE])["alice"]
        writer = _Writer(share.export_location, password)
        quiet = writer.during(lambda: time.sleep(SECONDS))

        def grow() -> None:
            for step in range(2, 10):
                made.shares.extend("bench", step * shares.SIZE)
                time.sleep(SECONDS / 8)

        growing = writer.during(grow)
    detail = f"{writer.writes} writes, slowest {harness.ms(quiet)} and {harness.ms(growing)}"
    yield harness.Claim("failed writes while extending", writer.failed, 0, True, detail)


class _Writer:
    def __init__(self, location: str, password: str) -> None:
        self.writes = self.failed = 0
        self._location = location
        self._options = {"username": "alice", "connection_cache": {}}
        smbclient.register_session(
            location.split("\\")[2], password=password, auth_protocol="ntlm", **self._options
        )

    def during(self, action: object) -> float:
        """Write all the while that an action runs; return the seconds of the slowest write."""
        done = threading.Event()
        slowest = 0.0

        def write() -> None:
            nonlocal slowest
            while not done.is_set():
                slowest = max(slowest, harness.timed(self._write))

        thread = threading.Thread(target=write)
        thread.start()
        action()  # type: ignore[operator]
        done.set()
        thread.join()
        return slowest

    def _write(self) -> None:
        self.writes += 1
        path = rf"{self._location}\f{self.writes % 50}"
        try:
            with smbclient.open_file(path, mode="wb", **self._options) as file:
                file.write(b"x" * 65536)
        except Exception:
            self.failed += 1
