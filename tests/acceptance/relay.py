# SPDX-License-Identifier: Apache-2.0
"""What lies between a client and a server: it may speak TLS, and cuts connections on demand."""

import contextlib
import dataclasses
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator


@dataclasses.dataclass
class Relay:
    """A TCP server that passes on what it gets.

    :param up: bytes that a connection brings the server before it is cut; taken in turn, and
        when there are none left nothing is cut.
    :param down: the same of what the server answers.
    :param head: replaces text in the first bytes of answers.
    """

    target: int
    port: int = 0
    up: list[int] = dataclasses.field(default_factory=list)
    down: list[int] = dataclasses.field(default_factory=list)
    head: tuple[bytes, bytes] = (b"", b"")
    connections: int = 0


@contextlib.contextmanager
def running(target: int, tls: ssl.SSLContext | None = None) -> Iterator[Relay]:
    """Run a relay to a port of this host."""
    relay = Relay(target)

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            relay.connections += 1
            _serve(relay, self.request, tls)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        relay.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield relay
        finally:
            server.shutdown()
            thread.join()


def _serve(relay: Relay, client: socket.socket, tls: ssl.SSLContext | None) -> None:
    with contextlib.ExitStack() as opened:
        if tls is not None:
            try:
                client = opened.enter_context(tls.wrap_socket(client, server_side=True))
            except OSError:
                return
        server = opened.enter_context(socket.create_connection(("127.0.0.1", relay.target)))
        up = relay.up.pop(0) if relay.up else None
        down = relay.down.pop(0) if relay.down else None
        answers = threading.Thread(target=_copy, args=(server, client, down, relay.head))
        answers.start()
        _copy(client, server, up, (b"", b""))
        answers.join()


def _copy(
    source: socket.socket, target: socket.socket, limit: int | None, head: tuple[bytes, bytes]
) -> None:
    try:
        while data := source.recv(65536):
            data = data.replace(*head) if head[0] else data
            if limit is not None:
                data, limit = data[:limit], limit - len(data)
            target.sendall(data)
            if limit is not None and limit <= 0:
                break
    except OSError:
        pass
    for each in (source, target):
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
