# SPDX-License-Identifier: Apache-2.0
"""Sandboxes, from beside them: their pipes, starting storlets in them, and trying them out.

This is a part of :mod:`.agent` and runs where that does. What is in a directory of pipes is
hostile: a sandbox can write there. So its sockets are opened without following links, which could
lead to another account's.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import secrets
import select
import stat
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

PIPES = "/pipes"
FACTORY = "factory_pipe"
#: More than a pipe holds, so that both directions must work at once.
SAMPLE = 200_000
#: Bytes that a sandbox may answer with.
ANSWER = 65536

Reply = dict[str, Any]


class Unanswered(Exception):
    """Nobody listens at a pipe."""


class Channel:
    """A directory of pipes. What is asked by one of them is answered in turn."""

    def __init__(self, name: str) -> None:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
        try:
            self.directory = os.open(os.path.join(PIPES, name), flags)
        except OSError as exc:
            raise Unanswered(str(exc)) from exc

    def tell(self, pipe: str, command: str, params: Reply | None = None, files: Any = ()) -> int:
        """Tell a sandbox something and return a file with its answer, to be read to the end.

        The answer may go unread. Storlets' own client gives an end of a pipe for it, and a
        sandbox ends when that has no reader left; this one is its own reader.

        :raises Unanswered: nobody listens.
        """
        sbus = importlib.import_module("storlets.sbus")
        datagram = importlib.import_module("storlets.sbus.datagram")
        reads, writes = os.pipe()
        both = os.open(f"/proc/self/fd/{reads}", os.O_RDWR)
        os.close(writes)
        try:
            with self._socket(pipe) as path:
                sent = [descriptor("SERVICE_OUT", both), *files]
                message = datagram.build_datagram(f"SBUS_CMD_{command}", sent, params, None)
                if sbus.SBus.send(path, message) < 0:
                    raise Unanswered(f"nobody listens at {pipe}")
        except BaseException:
            os.close(reads)
            raise
        finally:
            os.close(both)
        return reads

    def ask(self, pipe: str, command: str, params: Reply | None = None, files: Any = ()) -> str:
        """Tell a sandbox something, and return what it has against that; "" is nothing."""
        return answered(self.tell(pipe, command, params, files))

    @contextlib.contextmanager
    def _socket(self, name: str) -> Iterator[str]:
        flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            file = os.open(name, flags, dir_fd=self.directory)
        except OSError as exc:
            raise Unanswered(str(exc)) from exc
        try:
            if not stat.S_ISSOCK(os.fstat(file).st_mode):
                raise Unanswered(f"{name} is no socket")
            yield f"/proc/self/fd/{file}"
        finally:
            os.close(file)

    def inode(self, name: str) -> int:
        """Return what tells a pipe from one of the same name; 0 when there is none."""
        try:
            return os.stat(name, dir_fd=self.directory, follow_symlinks=False).st_ino
        except OSError:
            return 0


def answered(file: int) -> str:
    """Read an answer to its end, and return what is said against what was asked."""
    with os.fdopen(file, "rb") as answer:
        text = answer.read(ANSWER)
    try:
        data = json.loads(text)
        return "" if data["status"] else str(data["message"])[:200] or "no reason given"
    except (ValueError, LookupError, TypeError):
        return "no answer"


def listens(pipes: str, pipe: str = FACTORY, patience: float = 0) -> bool:
    """Return whether a sandbox answers, once it has done what it was told before.

    :param patience: seconds to try again while nobody listens.
    """
    deadline = time.monotonic() + patience
    while True:
        try:
            return not Channel(pipes).ask(pipe, "PING")
        except Unanswered:
            if time.monotonic() > deadline:
                return False
        time.sleep(0.02)


class Starting:
    """Storlets that are being started in a sandbox, in their order.

    It answers a second after each has begun to run, and then starts the next.
    """

    def __init__(self, pipes: str, orders: list[Reply]) -> None:
        self._pipes = pipes
        self._channel = Channel(pipes)
        self._answers: dict[int, str] = {}
        # One that runs anew had answered before.
        self._silent: set[str] = set()
        for order in orders:
            name = order["storlet_name"]
            if order.pop("again"):
                self._channel.tell(FACTORY, "STOP_DAEMON", {"storlet_name": name})
            else:
                self._silent.add(name)
            self._answers[self._channel.tell(FACTORY, "START_DAEMON", order)] = name

    def wait(self) -> dict[str, str]:
        """Return which ones don't start, and why, as soon as the others answer."""
        failures = {}
        while self._answers:
            for file in select.select([*self._answers], [], [], 0.02)[0]:
                name = self._answers.pop(file)
                failure = answered(file)
                if failure:
                    failures[name] = failure
            for file, name in [*self._answers.items()]:
                if name in self._silent and listens(self._pipes, name):
                    del self._answers[file]
        return failures


def copy(channel: Channel, main: str) -> str:
    """Have a storlet copy something, and return what is wrong with the copy."""
    data, metadata = secrets.token_bytes(SAMPLE), {"Nonce": secrets.token_hex(16)}
    with contextlib.ExitStack() as files:
        source, target, described = (_Pipe(files) for _each in range(3))
        log = os.open(os.devnull, os.O_WRONLY)
        files.callback(os.close, log)
        remote = [
            descriptor("INPUT_OBJECT", source.out, metadata),
            descriptor("OUTPUT_OBJECT", target.into),
            descriptor("OUTPUT_OBJECT_METADATA", described.into),
            descriptor("LOGGER", log),
        ]
        failure = channel.ask(main, "EXECUTE", {"storlet_execution_path": ""}, remote)
        if failure:
            return f"the storlet wasn't run: {failure}"
        for theirs in (source.close_out, target.close_into, described.close_into):
            theirs()
        threading.Thread(target=source.write, args=(data,), daemon=True).start()
        try:
            same = json.loads(described.read(4096)) == metadata
        except ValueError:
            same = False
        if not same:
            return "a storlet's metadata came back changed"
        if target.read(SAMPLE) != data:
            return "a storlet's data came back changed"
    return ""


class _Pipe:
    def __init__(self, files: contextlib.ExitStack) -> None:
        self.out, self.into = os.pipe()
        self.close_out = self._closer(self.out, files)
        self.close_into = self._closer(self.into, files)

    def _closer(self, file: int, files: contextlib.ExitStack) -> Callable[[], None]:
        stack = contextlib.ExitStack()
        stack.callback(os.close, file)
        files.push(stack)
        return stack.close

    def write(self, data: bytes) -> None:
        with contextlib.suppress(OSError):
            view = memoryview(data)
            while view:
                view = view[os.write(self.into, view[:65536]) :]
        self.close_into()

    def read(self, limit: int) -> bytes:
        """Read to the end, or a byte more than there should be."""
        data = b""
        while len(data) <= limit:
            more = os.read(self.out, limit + 1 - len(data))
            if not more:
                break
            data += more
        return data


def descriptor(kind: str, file: int, metadata: Reply | None = None) -> Any:
    """Return a file as a sandbox is given it."""
    datagram = importlib.import_module("storlets.sbus.datagram")
    kinds = importlib.import_module("storlets.sbus.file_description")
    return datagram.SBusFileDescriptor(
        getattr(kinds, f"SBUS_FD_{kind}"), file, storage_metadata=metadata
    )
