# SPDX-License-Identifier: Apache-2.0
"""One process of tgtd, which ends with the process that started it."""

import contextlib
import ctypes
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from container_stack import exceptions
from container_stack.testing.edf import tgt_control
from container_stack.testing.edf.tgt_control import Mode, Operation

_SOCKET = "tgtd"
#: The same on every architecture but Alpha; Python has no name for it.
_PIDFD_GETFD = 438


class Server:
    """A tgtd with its own control socket.

    :param directory: for the socket and the log; two servers need two.
    :param addresses: where it listens, each at a free port.
    """

    def __init__(self, directory: Path, addresses: Sequence[str]) -> None:
        self._directory = directory
        self._addresses = addresses
        self._process: subprocess.Popen[bytes] | None = None
        self._keeper: threading.Thread | None = None
        self.control = tgt_control.Control(directory, _SOCKET)

    def start(self) -> None:
        """Start it and wait until it answers.

        :raises HostNotReady: it is missing, or doesn't start.
        """
        program = shutil.which("tgtd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
        if program is None:
            raise exceptions.HostNotReady(
                "There is no tgtd here to export volumes with: apt-get install tgt."
            )
        self._directory.mkdir(parents=True, exist_ok=True)
        started = threading.Event()
        # The kernel ends a child with the thread that started it, so this one stays.
        self._keeper = threading.Thread(target=self._keep, args=(program, started), daemon=True)
        self._keeper.start()
        started.wait()
        try:
            self._wait()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End it; idempotent. What initiators wrote is in the files already."""
        # It ignores SIGTERM while it has targets.
        if self._process is not None:
            self._process.kill()
        if self._keeper is not None:
            self._keeper.join()
        self._process = self._keeper = None
        for name in (f"{_SOCKET}.0", f"{_SOCKET}.0.lock"):
            (self._directory / name).unlink(missing_ok=True)

    def cut(self, portal: str) -> None:
        """Break the connections that came by one portal.

        tgt itself can't tell by which portal a session came.
        """
        if self._process is None:
            return
        for each in _sockets(self._process.pid):
            with each, contextlib.suppress(OSError):
                if each.getsockname()[:2] == address(portal):
                    each.shutdown(socket.SHUT_RDWR)

    def _keep(self, program: str, started: threading.Event) -> None:
        portals = ",".join(f"portal={_bracketed(each)}:0" for each in self._addresses)
        words = ["setpriv", "--pdeathsig", "KILL", program]
        words += ["-f", "-t", "4", "-C", "0", "--iscsi", portals]
        try:
            with open(self._directory / "tgtd.log", "wb") as log:
                process = self._process = subprocess.Popen(
                    words,
                    cwd=self._directory,
                    env={**os.environ, "TGT_IPC_SOCKET": _SOCKET},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
        finally:
            started.set()
        process.wait()

    def _wait(self) -> None:
        end = time.monotonic() + 20
        while True:
            try:
                self.control.order(Mode.TARGET, Operation.SHOW)
            except exceptions.HostNotReady:
                ended = self._process is None or self._process.poll() is not None
                if ended or time.monotonic() > end:
                    raise exceptions.HostNotReady(
                        f"tgtd doesn't start; see {self._directory / 'tgtd.log'}."
                    ) from None
                time.sleep(0.02)
            else:
                return


def address(portal: str) -> tuple[str, int]:
    """Return the address and the port of a portal."""
    host, _, port = portal.rpartition(":")
    return host.strip("[]"), int(port)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _sockets(pid: int) -> Iterator[socket.socket]:
    """Yield the sockets of another process, which must be a child of ours or of our user."""
    call = ctypes.CDLL(None, use_errno=True).syscall
    process = os.pidfd_open(pid)
    try:
        for entry in os.scandir(f"/proc/{pid}/fd"):
            with contextlib.suppress(FileNotFoundError):
                if not os.readlink(entry.path).startswith("socket:"):
                    continue
            number = call(_PIDFD_GETFD, process, int(entry.name), 0)
            if number >= 0:
                yield socket.socket(fileno=number)
            elif ctypes.get_errno() != 9:  # EBADF: closed in between
                raise exceptions.NotSupported("This kernel doesn't let us cut connections.")
    finally:
        os.close(process)
