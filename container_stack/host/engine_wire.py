# SPDX-License-Identifier: Apache-2.0
"""A byte stream to the Docker Engine in which every wait ends at one deadline.

Commands in containers need what HTTP libraries don't give: both directions at once, the end of
input told while output still comes (also through TLS), and no byte lost that arrives together
with the answer's head.
"""

import contextlib
import http.client
import io
import json
import os
import select
import selectors
import socket
import ssl
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

from container_stack.host import engine_client, engine_ssh
from container_stack.host import engine_model as model

CHUNK = 64 * 1024


#: Files and what they are ready for, as poll(2) puts it.
Ready = Mapping[int, int]


class Overran(Exception):
    """The deadline came first."""


class Codec(Protocol):
    """What lies between plain bytes and the socket."""

    def seal(self, data: bytes) -> bytes: ...

    def open(self, data: bytes) -> tuple[bytes, bool]:
        """Return what was inside, and whether the peer has ended; b"" is the socket's end."""

    def end(self) -> bytes | None:
        """Return what tells the peer that no more comes; None when the socket tells."""


class Wire:
    """A connection.

    :param deadline: by :func:`time.monotonic`; may be put off.
    """

    def __init__(self, sock: socket.socket, codec: Codec, deadline: float) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._codec = codec
        self.deadline = deadline
        self._selector = selectors.DefaultSelector()
        self._selector.register(sock, selectors.EVENT_READ)

    def close(self) -> None:
        self._selector.close()
        self._sock.close()

    def upgrade(self, path: str, body: object) -> bytes:
        """Send a POST that turns the connection into a stream; return what of it came already.

        :raises ContainerStackError: the engine refuses.
        """
        data = json.dumps(body).encode()
        head = (
            f"POST {path} HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
        )
        answer, end = b"", -1
        for chunk in self.exchange(head.encode() + data):
            answer += chunk
            end = answer.find(b"\r\n\r\n")
            if end >= 0:
                break
        if end < 0:
            raise ConnectionResetError("the engine closed the connection")
        status = int(answer.split(None, 2)[1])
        if status >= http.client.BAD_REQUEST:
            raise engine_client.api_error(status, self._error(answer, end + 4))
        return answer[end + 4 :]

    def exchange(self, outgoing: bytes, *, then_end: bool = False) -> Iterator[bytes]:
        """Send, and yield what comes until the peer ends.

        A peer that wants no more input doesn't hinder its output.

        :param then_end: tell the peer when all is sent that no more comes.
        :raises Overran: the deadline came first.
        """
        pending = memoryview(self._codec.seal(outgoing))
        while True:
            if then_end and not pending:
                then_end = False
                pending = memoryview(self._end())
            readable, writable = self._wait(bool(pending))
            if writable:
                pending = self._send(pending)
            if readable:
                data, ended = self._receive()
                if data:
                    yield data
                if ended:
                    return

    def converse(self, source: int, wait: Callable[[Ready], Ready]) -> Iterator[bytes]:
        """Send what a file gives, when it does, and yield what comes until the peer ends.

        There is no deadline, and no more is read than the peer takes. The source's end is told
        to the peer.

        :param wait: tells which of some files are ready for what, as poll(2) puts it.
        """
        sock, pending, more = self._sock.fileno(), memoryview(b""), True
        while True:
            wanted = {sock: select.POLLIN | (select.POLLOUT if pending else 0)}
            if more and not pending:
                wanted[source] = select.POLLIN
            ready = wait(wanted)
            if source in ready:
                data = os.read(source, CHUNK)
                more = bool(data)
                pending = memoryview(self._codec.seal(data) if more else self._end())
            if ready.get(sock, 0) & select.POLLOUT:
                pending = self._send(pending)
            if ready.get(sock, 0) & ~select.POLLOUT:
                data, ended = self._receive()
                if data:
                    yield data
                if ended:
                    return

    def _error(self, answer: bytes, start: int) -> str:
        headers = http.client.parse_headers(io.BytesIO(answer.split(b"\r\n", 1)[1]))
        missing = int(headers.get("Content-Length", 0)) - (len(answer) - start)
        for chunk in self.exchange(b"") if missing > 0 else ():
            answer += chunk
            missing -= len(chunk)
            if missing <= 0:
                break
        text = answer[start:].decode(errors="replace")
        with contextlib.suppress(ValueError, KeyError, TypeError):
            return str(json.loads(text)["message"])
        return text

    def _wait(self, writing: bool) -> tuple[bool, bool]:
        left = self.deadline - time.monotonic()
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if writing else 0)
        self._selector.modify(self._sock, wanted)
        ready = self._selector.select(max(left, 0)) if left > 0 else []
        if not ready:
            raise Overran
        events = ready[0][1]
        return bool(events & selectors.EVENT_READ), bool(events & selectors.EVENT_WRITE)

    def _send(self, pending: memoryview) -> memoryview:
        try:
            return pending[self._sock.send(pending[:CHUNK]) :]
        except BlockingIOError:
            return pending
        except ConnectionError:
            return pending[:0]

    def _receive(self) -> tuple[bytes, bool]:
        try:
            data = self._sock.recv(CHUNK)
        except (BlockingIOError, InterruptedError):
            return b"", False
        except ConnectionResetError:
            # The engine closed with input of ours unread: its output is complete all the same.
            data = b""
        return self._codec.open(data)

    def _end(self) -> bytes:
        farewell = self._codec.end()
        if farewell is None:
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_WR)
        return farewell or b""


class Plain:
    """No encryption."""

    def seal(self, data: bytes) -> bytes:
        return data

    def open(self, data: bytes) -> tuple[bytes, bool]:
        return data, not data

    def end(self) -> bytes | None:
        return None


class Encrypted:
    """TLS by buffers in memory: a TLS socket of Python's can't end one direction only."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, host: str) -> None:
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_hostname=host)
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                sock.sendall(self._out.read())
                data = sock.recv(CHUNK)
                if not data:
                    raise ConnectionResetError("the engine ended the TLS handshake") from None
                self._in.write(data)
        sock.sendall(self._out.read())

    def seal(self, data: bytes) -> bytes:
        if data:
            self._tls.write(data)
        return self._out.read()

    def open(self, data: bytes) -> tuple[bytes, bool]:
        if data:
            self._in.write(data)
        else:
            self._in.write_eof()
        plain = b""
        # The peer's farewell is an empty read, and an error once we have said ours.
        with contextlib.suppress(ssl.SSLZeroReturnError, ssl.SSLEOFError):
            try:
                while more := self._tls.read(CHUNK):
                    plain += more
            except ssl.SSLWantReadError:
                return plain, False
        return plain, True

    def end(self) -> bytes | None:
        with contextlib.suppress(ssl.SSLWantReadError):
            self._tls.unwrap()
        return self._out.read()


def dial(url: str, tls: model.TLS | None, deadline: float) -> Wire:
    """Return a new connection to the engine.

    :raises OSError: it can't be made before the deadline.
    """
    left = max(deadline - time.monotonic(), 0.001)
    parts = urllib.parse.urlsplit(url)
    with contextlib.ExitStack() as undo:
        codec: Codec = Plain()
        if parts.scheme == "unix":
            sock = undo.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            sock.settimeout(left)
            sock.connect(parts.path)
        elif parts.scheme == "ssh":
            sock = undo.enter_context(engine_ssh.dial(url, left))
        else:
            host = parts.hostname or ""
            sock = undo.enter_context(socket.create_connection((host, parts.port or 0), left))
            if tls is not None:
                codec = Encrypted(sock, _context(tls), host)
        undo.pop_all()
    return Wire(sock, codec, deadline)


def _context(tls: model.TLS) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=tls.ca_cert)
    if not tls.verify:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if tls.client_cert:
        context.load_cert_chain(tls.client_cert, tls.client_key)
    return context
