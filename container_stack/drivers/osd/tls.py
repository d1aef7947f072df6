# SPDX-License-Identifier: Apache-2.0
"""TLS before a unix socket, for who comes over TCP, and the token that he has to bring.

Waitress knows no TLS. Here bytes are passed on by asyncio, which can't be held up by a client that
doesn't finish its handshake, or never reads.
"""

import asyncio
import contextlib
import hmac
import ssl
import threading
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Self, TypeVar

from container_stack import exceptions
from container_stack.drivers.osd import servers

#: Connections at once, and seconds for a handshake, and without a byte in either direction.
CONNECTIONS, HANDSHAKE, IDLE = 256, 10.0, 300.0
_PIECE = 2**16

_T = TypeVar("_T")


class Guard:
    """A WSGI application behind a token: ``Authorization: Bearer TOKEN``.

    :param token: not empty.
    :param is_open: tells of a method and path whether everybody may have it.
    """

    def __init__(
        self,
        application: servers.Application,
        token: str,
        is_open: Callable[[str, str], bool] = lambda method, path: False,
    ) -> None:
        if not token:
            raise exceptions.InvalidRequest("TCP needs a token that isn't empty.")
        self._application = application
        self._token = token.encode()
        self._is_open = is_open

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        """Answer as WSGI wants it."""
        kind, _, given = str(environ.get("HTTP_AUTHORIZATION", "")).partition(" ")
        # WSGI's texts are bytes, as Latin-1.
        known = hmac.compare_digest(given.strip().encode("latin-1", "replace"), self._token)
        if kind.lower() == "bearer":
            allowed = known
        else:
            # Who brings a token is told when it is wrong, even where none is needed.
            allowed = self._is_open(environ["REQUEST_METHOD"], environ["PATH_INFO"])
        if allowed:
            return self._application(environ, start)
        text = b"Unauthorized: a token is needed.\n"
        headers = [
            ("Content-Type", "text/plain; charset=utf-8"),
            ("Content-Length", str(len(text))),
            ("WWW-Authenticate", 'Bearer realm="osd"'),
        ]
        start("401 Unauthorized", headers)
        return [text]


class Front:
    """A TCP port that speaks TLS and passes on what it hears to a unix socket.

    :param path: of the unix socket.
    :param port: 0 means any that is free; see :attr:`port` after the start.
    :param certificate: path of a PEM file, with its chain; ``key`` of its private key.
    """

    def __init__(self, path: str, host: str, port: int, certificate: str, key: str) -> None:
        self.host = host
        self.port = port
        self._path = path
        self._files = (certificate, key)
        self._loop = asyncio.new_event_loop()
        self._connections: set[asyncio.Task[None]] = set()
        self._undo = contextlib.ExitStack()

    def start(self) -> Self:
        """Serve, in a thread.

        :raises HostNotReady: the port, the certificate or the key can't be used.
        """
        with contextlib.ExitStack() as undo:
            context = _context(*self._files)
            undo.callback(self._loop.close)
            thread = threading.Thread(target=self._loop.run_forever, name="osd tls", daemon=True)
            undo.callback(thread.join, 10)
            undo.callback(self._loop.call_soon_threadsafe, self._loop.stop)
            thread.start()
            try:
                server = self._run(self._listen(context))
            except OSError as exc:
                raise exceptions.HostNotReady(
                    f"{self.host}:{self.port} can't be used: {exc}."
                ) from exc
            undo.callback(lambda: self._run(self._end(server)))
            self.port = server.sockets[0].getsockname()[1]
            self._undo = undo.pop_all()
        return self

    def stop(self) -> None:
        """Close all connections; idempotent, but nothing starts again."""
        self._undo.close()

    def _run(self, what: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(what, self._loop).result(20)

    async def _listen(self, context: ssl.SSLContext) -> asyncio.Server:
        return await asyncio.start_server(
            self._serve,
            self.host,
            self.port,
            ssl=context,
            ssl_handshake_timeout=HANDSHAKE,
            ssl_shutdown_timeout=5,
        )

    async def _end(self, server: asyncio.Server) -> None:
        server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or len(self._connections) >= CONNECTIONS:
            writer.transport.abort()
            return
        self._connections.add(task)
        try:
            await self._pass_on(reader, writer)
        finally:
            self._connections.discard(task)
            writer.transport.abort()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, TimeoutError, asyncio.CancelledError):
            inner_reader, inner_writer = await asyncio.open_unix_connection(self._path)
            there = asyncio.ensure_future(_copy(reader, inner_writer))
            try:
                await _copy(inner_reader, writer)
                await asyncio.wait_for(writer.wait_closed(), 5)
            finally:
                there.cancel()
                await asyncio.gather(there, return_exceptions=True)
                inner_writer.transport.abort()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass on what comes until nothing does; then the other direction ends, too."""
    try:
        while piece := await asyncio.wait_for(reader.read(_PIECE), IDLE):
            writer.write(piece)
            await asyncio.wait_for(writer.drain(), IDLE)
    finally:
        writer.close()


def _context(certificate: str, key: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as exc:
        raise exceptions.HostNotReady(
            f"The certificate {certificate} and the key {key} can't be used: "
            f"{exc.strerror or type(exc).__name__}."
        ) from exc
    return context
