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

Reply = dict[str, Any]


class Unanswered(Exception):
    """Nobody listens at a pipe."""


class Channel:
    """A directory of pipes."""

    def __init__(self, name: str) -> None:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
        self.directory = os.open(os.path.join(PIPES, name), flags)

    @contextlib.contextmanager
    def pipe(self, name: str) -> Iterator[Any]:
        """Lend a client of storlets' own for one of the pipes.

        :raises Unanswered: there is none, or nobody listens.
        """
        client = importlib.import_module("storlets.sbus.client")
        errors = importlib.import_module("storlets.sbus.client.exceptions")
        try:
            flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
            file = os.open(name, flags, dir_fd=self.directory)
        except OSError as exc:
            raise Unanswered(str(exc)) from exc
        try:
            if not stat.S_ISSOCK(os.fstat(file).st_mode):
                raise Unanswered(f"{name} is no socket")
            yield client.SBusClient(f"/proc/self/fd/{file}")
        except errors.SBusClientSendError as exc:
            raise Unanswered(f"nobody listens at {name}") from exc
        finally:
            os.close(file)

    def inode(self, name: str) -> int:
        """Return what tells a pipe from one of the same name; 0 when there is none."""
        try:
            return os.stat(name, dir_fd=self.directory, follow_symlinks=False).st_ino
        except OSError:
            return 0


def listens(pipes: str, pipe: str = FACTORY, patience: float = 0) -> bool:
    """Tell whether a sandbox answers, once it has done what it was told before.

    :param patience: seconds to try again while nobody listens.
    """
    channel = None
    deadline = time.monotonic() + patience
    while True:
        try:
            channel = channel or Channel(pipes)
            with channel.pipe(pipe) as client:
                return bool(client.ping().status)
        except (Unanswered, OSError):
            if time.monotonic() > deadline:
                return False
        time.sleep(0.02)


class Starting:
    """Storlets that are being started in a sandbox, in their order, by a process of its own.

    Whoever asks a sandbox for something must wait for the answer, or the sandbox ends. It
    answers a second after a storlet has begun to run.
    """

    def __init__(self, channel: Channel, pipes: str, orders: list[Reply], close: int) -> None:
        self._channel = channel
        self._pipes = pipes
        # One that runs anew had answered before.
        self._waiting = {each["storlet_id"]: each["again"] for each in orders}
        self._failures: dict[str, str] = {}
        self._rest = b""
        self._told, tells = os.pipe()
        if not os.fork():
            with contextlib.suppress(OSError):
                os.close(close)
            _start(channel, orders, tells)
            os._exit(0)
        os.close(tells)

    def wait(self) -> dict[str, str]:
        """Return which ones don't start, and why, as soon as the others answer."""
        while self._waiting:
            if select.select([self._told], [], [], 0.02)[0]:
                self._hear(os.read(self._told, 65536))
            for name in [name for name, again in self._waiting.items() if not again]:
                if self._channel.inode(name) and listens(self._pipes, name):
                    del self._waiting[name]
        return self._failures

    def _hear(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        told = [json.loads(line) for line in lines]
        if not data:
            told = [(name, "the sandbox doesn't answer") for name in self._waiting]
        for name, failure in told:
            if self._waiting.pop(name, None) is not None and failure:
                self._failures[name] = failure


def _start(channel: Channel, daemons: list[Reply], tells: int) -> None:
    for each in daemons:
        name = each["storlet_id"]
        try:
            with channel.pipe(FACTORY) as factory:
                if each.pop("again"):
                    factory.stop_daemon(name)
                answer = factory.start_daemon(**each)
                failure = "" if answer.status else str(answer.message)[:200]
        except Exception as exc:
            failure = str(exc)[:200]
        os.write(tells, json.dumps([name, failure]).encode() + b"\n")


def copy(channel: Channel, main: str) -> str:
    """Have something copied, and return what is wrong with the copy."""
    data, metadata = secrets.token_bytes(SAMPLE), {"Nonce": secrets.token_hex(16)}
    with contextlib.ExitStack() as files:
        source = _Pipe(files)
        target, described = _Pipe(files), _Pipe(files)
        log = os.open(os.devnull, os.O_WRONLY)
        files.callback(os.close, log)
        with channel.pipe(main) as client:
            remote = [
                _descriptor("INPUT_OBJECT", source.out, metadata),
                _descriptor("OUTPUT_OBJECT", target.into),
                _descriptor("OUTPUT_OBJECT_METADATA", described.into),
                _descriptor("LOGGER", log),
            ]
            answer = client.execute({"storlet_execution_path": ""}, remote)
        if not answer.status:
            return f"the storlet wasn't run: {str(answer.message)[:200]}"
        for theirs in (source.close_out, target.close_into, described.close_into):
            theirs()
        writer = threading.Thread(target=source.write, args=(data,), daemon=True)
        writer.start()
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


def _descriptor(kind: str, file: int, metadata: Reply | None = None) -> Any:
    datagram = importlib.import_module("storlets.sbus.datagram")
    kinds = importlib.import_module("storlets.sbus.file_description")
    return datagram.SBusFileDescriptor(
        getattr(kinds, f"SBUS_FD_{kind}"), file, storage_metadata=metadata
    )
