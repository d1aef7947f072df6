# SPDX-License-Identifier: Apache-2.0
"""An etcd of the tests' own, on loopback."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

#: Where Debian puts it.
PROGRAM = shutil.which("etcd") or "/usr/bin/etcd"


class Etcd:
    """A server that can be frozen, as if the network were gone."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self._process = process
        self.port = port

    def url(self, lasts: int) -> str:
        """Return it as tooz wants it, with the seconds that a lock lasts."""
        lasting = f"lock_timeout={lasts}&membership_timeout={lasts}"
        return f"etcd3+http://127.0.0.1:{self.port}?timeout=1&{lasting}"

    def freeze(self) -> None:
        """Let it answer nobody."""
        os.kill(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it answer again."""
        os.kill(self._process.pid, signal.SIGCONT)


@contextlib.contextmanager
def running(directory: Path) -> Iterator[Etcd]:
    """Run a server, with its data in this directory, as long as the context lasts."""
    clients, peers = free_port(), free_port()
    url, peer = f"http://127.0.0.1:{clients}", f"http://127.0.0.1:{peers}"
    command = [
        *(PROGRAM, "--name", "cstest", "--data-dir", str(directory / "etcd")),
        *("--listen-client-urls", url, "--advertise-client-urls", url),
        *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
        *("--initial-cluster", f"cstest={peer}"),
    ]
    log = directory / "etcd.log"
    with open(log, "wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        _wait(f"{url}/health", process, log)
        yield Etcd(process, clients)
    finally:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        process.wait(10)


def _wait(url: str, process: "subprocess.Popen[bytes]", log: Path, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(url, timeout=1):
                return
        except OSError:
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"etcd didn't start: {log.read_text()[-2000:]}") from None
            time.sleep(0.1)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
