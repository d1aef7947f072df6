# SPDX-License-Identifier: Apache-2.0
"""A server that lets anybody log in, and then answers what no array would."""

import contextlib
import json
import random
import socketserver
import threading
from collections.abc import Callable, Iterator
from typing import Any

from container_stack.imagestore import edf

#: The port on which arrays speak plain HTTP; each server has an address of its own.
PORT = 7717

Send = Callable[[bytes], None]


def answer(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    """Return a whole HTTP answer."""
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(head).encode() + body


def good(value: Any) -> bytes:
    return answer(json.dumps(value).encode())


class _Handler(socketserver.StreamRequestHandler):
    server: "_Server"

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):
            while line := self.rfile.readline().decode():
                self._answer(*line.split()[:2])

    def _answer(self, method: str, path: str) -> None:
        length = 0
        while header := self.rfile.readline().strip().lower():
            if header.startswith(b"content-length:"):
                length = int(header.partition(b":")[2])
            self.server.headers.append(header.decode())
        self.rfile.read(length)
        path = path.partition("?")[0]
        self.server.seen.append(f"{method} {path}")
        script = self.server.scripts.get(path.removeprefix("/v2.2"), self.server.odd)
        if isinstance(script, bytes):
            self.wfile.write(script)
        else:
            script(self.wfile.write)
        if script is self.server.odd:
            raise ConnectionAbortedError


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, odd: bytes | Callable[[Send], None]) -> None:
        self.odd = odd
        self.seen: list[str] = []
        self.headers: list[str] = []
        self.scripts: dict[str, bytes | Callable[[Send], None]] = {
            "/api_versions": good({"api_versions": ["v2", "v2.1", "v2.2"]}),
            "/login": good({"key": "k1", "version": "v2.2"}),
        }
        rest = (random.randint(1, 250) for _ in range(3))
        super().__init__(("127." + ".".join(map(str, rest)), PORT), _Handler)

    def endpoint(self, **values: Any) -> edf.Endpoint:
        defaults = {"port": PORT, "timeout": 2.0, "retry_attempts": 1, "retry_interval": 0.01}
        address = str(self.server_address[0])
        return edf.Endpoint(address, "admin", "swordfish", **{**defaults, **values})


@contextlib.contextmanager
def serve(odd: bytes | Callable[[Send], None]) -> Iterator[_Server]:
    """Serve this in answer to everything but logins, and then close the connection."""
    with _Server(odd) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
