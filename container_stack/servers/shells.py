# SPDX-License-Identifier: Apache-2.0
"""Shells in a server, each with a terminal, each at the end of somebody's socket.

The engine starts commands and can't end them, and a shell doesn't notice that its terminal has
no listener any more. So each tells its process id first, which only counts inside the server;
when its listener is gone, a second command there hangs it up. The kernel then does the same to
what runs on its terminal.
"""

import contextlib
import logging
import os
import re
import select
import socket
import threading
import time
from collections.abc import Callable

from container_stack import exceptions
from container_stack.host import containers, engine_client, engine_wire

LOG = logging.getLogger(__name__)

#: Seconds that the engine may take to start a shell, or to end it.
PATIENCE = 30.0
#: The shell itself takes the place of this, and so its process id.
_START = 'printf "\\001%s\\002" "$$"; exec "$0"'
_STARTED = re.compile(rb"\x01([0-9]{1,10})\x02")
#: Longest that may come before that.
_FIRST = 4096
_END = 'kill -HUP "$1"; sleep 1; kill -KILL "$1"'


class Gone(Exception):
    """Who was connected isn't any more, or is not to be."""


class Shells:
    """The shells of one server.

    :param container: tells the name of its container; raises :class:`ServerNotFound`.
    """

    def __init__(self, engine: containers.Engine, container: Callable[[], str], shell: str) -> None:
        self._engine, self._container, self._shell = engine, container, shell
        self._guard = threading.Lock()
        self._closing = False
        self._peers: set[socket.socket] = set()

    def run(self, peer: socket.socket) -> None:
        """Be a console until either end has enough; what goes wrong is told to who listens."""
        with self._guard:
            if self._closing:
                return
            self._peers.add(peer)
        try:
            self._serve(peer)
        except (Gone, OSError):
            pass
        except engine_wire.Overran:
            _tell(peer, "the engine doesn't start the shell")
        except exceptions.ContainerStackError as exc:
            _tell(peer, str(exc))
        finally:
            with self._guard:
                self._peers.discard(peer)

    def close(self) -> None:
        """Hang up on everybody; idempotent."""
        with self._guard:
            self._closing = True
            for peer in self._peers:
                with contextlib.suppress(OSError):
                    peer.shutdown(socket.SHUT_RDWR)

    def _serve(self, peer: socket.socket) -> None:
        connection = self._engine.connection
        container = self._container()
        with connection.use() as client:
            argv = ["/bin/sh", "-c", _START, self._shell]
            created = client.exec_create(
                container, argv, stdin=True, tty=True, environment={"TERM": "vt220"}
            )
            path = f"/v{client.api_version}/exec/{created['Id']}/start"
            line = engine_wire.dial(connection.url, connection.tls, time.monotonic() + PATIENCE)
        with contextlib.closing(line):
            first = line.upgrade(path, {"Detach": False, "Tty": True})
            pid: str | None = None
            try:
                pid, first = self._started(line, first)
                peer.sendall(first)
                for data in line.converse(peer.fileno(), _Hangup(peer)):
                    peer.sendall(data)
                # It has ended by itself, and its id may be another's by now.
                pid = None
            finally:
                if pid is not None:
                    self._end(container, pid)

    def _started(self, line: engine_wire.Wire, said: bytes) -> tuple[str | None, bytes]:
        """Return the shell's process id and what else came; no id if none was told."""
        with engine_client.translated(self._engine.connection.url):
            more = line.exchange(b"")
            while (found := _STARTED.search(said)) is None and len(said) < _FIRST:
                data = next(more, None)
                if data is None:
                    return None, said
                said += data
        if found is None:
            return None, said
        return found[1].decode(), said[: found.start()] + said[found.end() :]

    def _end(self, container: str, pid: str) -> None:
        # It may have ended by itself, and its server too.
        with contextlib.suppress(exceptions.ContainerStackError):
            argv = ["/bin/sh", "-c", _END, "hang-up", pid]
            self._engine.exec(container, argv, timeout=PATIENCE)


class _Hangup:
    """Waits for files, and notices that the peer has gone while nothing is read from him."""

    def __init__(self, peer: socket.socket) -> None:
        self._peer = peer.fileno()

    def __call__(self, wanted: engine_wire.Ready) -> engine_wire.Ready:
        poll = select.poll()
        for file, events in wanted.items():
            poll.register(file, events)
        if self._peer not in wanted:
            poll.register(self._peer, select.POLLRDHUP)
        ready = dict(poll.poll())
        if ready.get(self._peer, 0) & (select.POLLRDHUP | select.POLLHUP | select.POLLERR):
            raise Gone
        if ready.get(self._peer, 0) & select.POLLIN and not _more(self._peer):
            raise Gone
        return {file: events for file, events in ready.items() if file in wanted}


def _more(file: int) -> bool:
    """Tell whether a socket that can be read has more than its end."""
    with contextlib.closing(socket.socket(fileno=os.dup(file))) as peer:
        return bool(peer.recv(1, socket.MSG_PEEK))


def _tell(peer: socket.socket, why: str) -> None:
    with contextlib.suppress(OSError):
        peer.sendall(f"\r\nNo console: {why}\r\n".encode())
