# SPDX-License-Identifier: Apache-2.0
"""Running a command inside a container, to its end or to its deadline.

The engine can start a command in a container and can't kill one. So each command gets a random
mark in its environment, which its children inherit; when the deadline comes, a second command,
busybox's shell as the same user in the same container, kills every process that has the mark.
That needs no privilege on the engine's host, and works for an engine elsewhere. A process that
empties its environment, or changes to another user, escapes it; the log warns when the command
itself does.
"""

import contextlib
import logging
import secrets
import struct
import time
from collections.abc import Mapping, Sequence

from container_stack import exceptions
from container_stack.host import engine_client, engine_wire
from container_stack.host import engine_model as model

LOG = logging.getLogger(__name__)

#: Seconds for killing what overran.
GRACE = 5.0
MARK = "CONTAINER_STACK_EXEC"
# Again and again until nothing is found, because processes may fork meanwhile. Nothing is
# forked here: the container may be at its limit of processes.
_KILL = """
for round in 1 2 3 4 5 6 7 8 9; do
  found=
  for file in /proc/[0-9]*/environ; do
    while IFS= read -r line || [ -n "$line" ]; do
      case $line in *"$1"*)
        pid=${file#/proc/}
        kill -KILL "${pid%/environ}" && found=1
        break
      esac
    done <"$file"
  done 2>/dev/null
  [ "$found" ] || exit 0
done
"""
_STDERR = 2
_FRAME = struct.Struct(">BxxxL")


def run(
    connection: engine_client.Connection,
    container_id: str,
    argv: Sequence[str],
    *,
    stdin: bytes,
    timeout: float,
    environment: Mapping[str, str],
    user: str | None,
) -> model.ExecResult:
    """Run a command and return what came of it; see :meth:`containers.Engine.exec`."""
    mark = secrets.token_hex(16)
    command = _Command(connection, container_id, time.monotonic() + timeout)
    marked = {**environment, MARK: mark}
    try:
        return command.run(argv, stdin, marked, user)
    except engine_wire.Overran:
        stderr = command.output.stderr.decode(errors="replace")
    if not _kill(connection, command, mark, user):
        LOG.warning(
            "%(command)s overran its deadline in container %(container)s and can't be killed; "
            "restart the container",
            {"command": argv[0], "container": container_id},
        )
    raise exceptions.CommandFailed(argv[0], -9, stderr, timed_out=True)


class Output:
    """Takes the engine's frames apart, however they are cut."""

    def __init__(self) -> None:
        self.stdout = bytearray()
        self.stderr = bytearray()
        self._rest = bytearray()

    def feed(self, data: bytes) -> None:
        self._rest += data
        while len(self._rest) >= _FRAME.size:
            stream, size = _FRAME.unpack_from(self._rest)
            if len(self._rest) < _FRAME.size + size:
                return
            into = self.stderr if stream == _STDERR else self.stdout
            into += self._rest[_FRAME.size : _FRAME.size + size]
            del self._rest[: _FRAME.size + size]


class _Command:
    """One command in one container."""

    def __init__(
        self, connection: engine_client.Connection, container_id: str, deadline: float
    ) -> None:
        self._connection = connection
        self.container_id = container_id
        self._deadline = deadline
        self._id = ""
        self.output = Output()

    def run(
        self, argv: Sequence[str], stdin: bytes, environment: Mapping[str, str], user: str | None
    ) -> model.ExecResult:
        """Run to the end.

        :raises Overran: the deadline came first; the command may still run.
        """
        with self._connection.use(self._left()) as client:
            created = client.exec_create(
                self.container_id,
                list(argv),
                stdin=bool(stdin),
                environment=dict(environment),
                user=user or "",
            )
            self._id = created["Id"]
            path = f"/v{client.api_version}/exec/{self._id}/start"
            line = engine_wire.dial(self._connection.url, self._connection.tls, self._deadline)
            with contextlib.closing(line):
                self.output.feed(line.upgrade(path, {"Detach": False, "Tty": False}))
                for data in line.exchange(stdin, then_end=bool(stdin)):
                    self.output.feed(data)
        exit_code = self.wait(self._deadline, argv[0])
        return model.ExecResult(exit_code, bytes(self.output.stdout), bytes(self.output.stderr))

    def wait(self, deadline: float, name: str) -> int:
        """Return the exit code; a command can outlive its output.

        :raises Overran: it still runs at the deadline.
        :raises CommandFailed: the container went away under it.
        """
        pause = 0.001
        while True:
            try:
                with self._connection.use(max(deadline - time.monotonic(), 1.0)) as client:
                    state = client.exec_inspect(self._id)
            except exceptions.NotFound as exc:
                raise exceptions.CommandFailed(
                    name, -1, "the container or the engine was stopped while it ran"
                ) from exc
            if not state["Running"] and state["ExitCode"] is not None:
                return int(state["ExitCode"])
            if time.monotonic() + pause > deadline:
                raise engine_wire.Overran
            time.sleep(pause)
            pause = min(pause * 2, 0.1)

    def _left(self) -> float:
        return max(self._deadline - time.monotonic(), 0.001)


def _kill(
    connection: engine_client.Connection, command: _Command, mark: str, user: str | None
) -> bool:
    """Kill what bears the mark, and tell whether the command is gone."""
    deadline = time.monotonic() + GRACE
    argv = ["busybox", "sh", "-c", _KILL, "kill", f"{MARK}={mark}"]
    while time.monotonic() < deadline:
        with contextlib.suppress(exceptions.ContainerStackError, engine_wire.Overran):
            connected = _Command(connection, command.container_id, deadline)
            connected.run(argv, b"", {}, user)
        try:
            command.wait(min(time.monotonic() + 1.0, deadline), argv[0])
        except engine_wire.Overran:
            continue
        except exceptions.CommandFailed:
            return True
        except exceptions.ContainerStackError:
            return False
        return True
    return False
