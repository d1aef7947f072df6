# SPDX-License-Identifier: Apache-2.0
"""A container on somebody's terminal, or on the pipes of a command: what `docker run -i` does."""

import contextlib
import itertools
import json
import os
import select
import signal
import termios
import threading
import time
import tty
from collections.abc import Iterator
from typing import Any

from container_stack import exceptions
from container_stack.host import containers, engine_client, engine_exec, engine_wire

#: Seconds that the engine may take to connect us.
PATIENCE = 60.0
#: Keys that would leave the container running without us. The engine's own, Ctrl-P Ctrl-Q, are
#: in a shell's way; there is no way to have none.
_DETACH = ",".join(["ctrl-@"] * 6)


class Console:
    """Three open files of this process, as a container is to have them; they stay open."""

    def __init__(self, stdin: int = 0, stdout: int = 1, stderr: int = 2) -> None:
        self.stdin, self.stdout, self.stderr = stdin, stdout, stderr
        # Asked once: the kernel denies it of a terminal that has gone away.
        self._is_terminal = os.isatty(stdin) and os.isatty(stdout)

    @property
    def is_terminal(self) -> bool:
        """Whether somebody can type here and see the answer."""
        return self._is_terminal

    @contextlib.contextmanager
    def raw(self) -> Iterator[None]:
        """Let every key through, Ctrl-C among them, if this is a terminal; then as it was."""
        if not self.is_terminal:
            yield
            return
        before = termios.tcgetattr(self.stdin)
        tty.setraw(self.stdin, termios.TCSANOW)
        try:
            yield
        finally:
            # The terminal may be gone.
            with contextlib.suppress(termios.error):
                termios.tcsetattr(self.stdin, termios.TCSADRAIN, before)


def run(engine: containers.Engine, container: str, console: Console) -> int:
    """Start a container, be its console until it ends, and return its exit code.

    Nothing that it writes is lost. When the terminal goes away, the container is killed. After
    any error it may still run: whoever made it removes it.

    :param container: made with ``open_stdin``, and with ``tty`` if the console is a terminal.
    """
    connection = engine.connection
    with contextlib.ExitStack() as undo:
        with connection.use() as client:
            deadline = time.monotonic() + PATIENCE
            line = engine_wire.dial(connection.url, connection.tls, deadline)
            undo.callback(line.close)
            first = line.upgrade(_attach(client, container, console), {})
            ended = _await_end(client, container)
            undo.callback(ended.close)
            client.start(container)
        session = _Session(engine, container, console)
        try:
            with console.raw(), session.resizing():
                session.pass_on(line, first)
        except _TerminalGone:
            with contextlib.suppress(exceptions.Busy, exceptions.NotFound):
                engine.kill(container)
        with engine_client.translated(connection.url):
            return int(json.loads(ended.content)["StatusCode"])


def _attach(client: Any, container: str, console: Console) -> str:
    keys = f"&detachKeys={_DETACH}" if console.is_terminal else ""
    streams = "stream=1&stdin=1&stdout=1&stderr=1"
    return f"/v{client.api_version}/containers/{container}/attach?{streams}{keys}"


def _await_end(client: Any, container: str) -> Any:
    """Ask for the next exit code; the answer's head says that the engine is watching."""
    url = client._url("/containers/{0}/wait", container)
    answer = client.post(
        url, params={"condition": "next-exit"}, stream=True, timeout=(PATIENCE, None)
    )
    client._raise_for_status(answer)
    return answer


class _TerminalGone(Exception):
    """Nobody can see the container's output any more, nor end it."""


class _Session:
    """A running container and its console."""

    def __init__(self, engine: containers.Engine, container: str, console: Console) -> None:
        self._engine = engine
        self._container = container
        self._console = console
        self._bell: int | None = None

    def pass_on(self, line: engine_wire.Wire, first: bytes) -> None:
        """Carry bytes both ways until the container's output ends."""
        output = engine_exec.Output()
        stream = itertools.chain([first], line.converse(self._console.stdin, self._wait))
        while True:
            with engine_client.translated(self._engine.connection.url):
                data = next(stream, None)
            if data is None:
                return
            if self._console.is_terminal:
                _write(self._console.stdout, data)
                continue
            output.feed(data)
            for file, written in (
                (self._console.stdout, output.stdout),
                (self._console.stderr, output.stderr),
            ):
                _write(file, bytes(written))
                written.clear()

    @contextlib.contextmanager
    def resizing(self) -> Iterator[None]:
        """Give the container the terminal's size, and each new one.

        Only Python's main thread hears of those.
        """
        if not self._console.is_terminal:
            yield
            return
        self._resize()
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        with contextlib.ExitStack() as undo:
            self._bell, ringer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
            undo.callback(os.close, self._bell)
            undo.callback(os.close, ringer)
            before = signal.signal(signal.SIGWINCH, lambda *_: _ring(ringer))
            undo.callback(signal.signal, signal.SIGWINCH, before)
            yield

    def _wait(self, wanted: engine_wire.Ready) -> engine_wire.Ready:
        """Wait for files, of which some may be ordinary ones, which epoll doesn't take."""
        poll = select.poll()
        for file, events in wanted.items():
            poll.register(file, events)
        if self._bell is not None:
            poll.register(self._bell, select.POLLIN)
        ready = dict(poll.poll())
        if self._bell is not None and ready.pop(self._bell, 0):
            os.read(self._bell, engine_wire.CHUNK)
            self._resize()
        if ready.get(self._console.stdin, 0) & (select.POLLHUP | select.POLLERR) and (
            self._console.is_terminal
        ):
            raise _TerminalGone
        return ready

    def _resize(self) -> None:
        try:
            columns, lines = os.get_terminal_size(self._console.stdout)
            # It may have ended already.
            with (
                contextlib.suppress(exceptions.ContainerStackError),
                self._engine.connection.use() as client,
            ):
                client.resize(self._container, lines, columns)
        except OSError as exc:
            raise _TerminalGone from exc


def _ring(ringer: int) -> None:
    with contextlib.suppress(BlockingIOError):
        os.write(ringer, b"!")


def _write(file: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(file, left) :]
