# SPDX-License-Identifier: Apache-2.0
"""A command in a container that goes on running, and answers line by line.

Starting a command takes the engine a tenth of a second; an answer takes none.
"""

import contextlib
import time
from collections.abc import Iterator, Sequence

from container_stack import exceptions
from container_stack.host import engine_client, engine_exec, engine_wire

#: Bytes that an answer may have.
ANSWER = 1024 * 1024


class Conversation:
    """A command that is running; see :meth:`containers.Engine.talk`."""

    def __init__(
        self, connection: engine_client.Connection, exec_id: str, name: str, line: engine_wire.Wire
    ) -> None:
        self._connection = connection
        self._id = exec_id
        self._name = name
        self._line = line
        self._output = engine_exec.Output()

    def start(self) -> None:
        """Start it."""
        with self._connection.use() as client:
            path = f"/v{client.api_version}/exec/{self._id}/start"
            self._output.feed(self._line.upgrade(path, {"Detach": False, "Tty": False}))

    def ask(self, question: bytes, timeout: float) -> bytes:
        """Send a line and return the next one that comes.

        :param timeout: seconds; what comes later than that would answer the next question, so
            nothing can be asked any more.
        :raises CommandFailed: it ended, or overran (``timed_out``).
        """
        self._line.deadline = time.monotonic() + timeout
        stdout = self._output.stdout
        with engine_client.translated(self._connection.url):
            try:
                for data in self._line.exchange(question + b"\n"):
                    self._output.feed(data)
                    end = stdout.find(b"\n")
                    if end >= 0:
                        answer = bytes(stdout[:end])
                        del stdout[: end + 1]
                        return answer
                    if len(stdout) + len(self._output.stderr) > ANSWER:
                        break
            except engine_wire.Overran:
                raise exceptions.CommandFailed(self._name, -9, timed_out=True) from None
        # Is it the engine that went away?
        with self._connection.use() as client:
            client.exec_inspect(self._id)
        said = self._output.stderr.decode(errors="replace")
        raise exceptions.CommandFailed(self._name, -1, said or "it ended without an answer")


@contextlib.contextmanager
def open_(
    connection: engine_client.Connection, container: str, argv: Sequence[str], user: str | None
) -> Iterator[Conversation]:
    """Start a command and lend what talks to it; its input ends with the body."""
    deadline = time.monotonic() + connection.timeout
    with contextlib.ExitStack() as undo:
        with connection.use() as client:
            created = client.exec_create(container, list(argv), stdin=True, user=user or "")
            try:
                line = engine_wire.dial(connection.url, connection.tls, deadline)
                undo.enter_context(contextlib.closing(line))
                talk = Conversation(connection, created["Id"], argv[0], line)
                talk.start()
            except engine_wire.Overran as exc:
                raise TimeoutError("the engine doesn't start the command") from exc
        yield talk
