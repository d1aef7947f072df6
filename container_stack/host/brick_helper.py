# SPDX-License-Identifier: Apache-2.0
"""The service's side of ``container-stack-brick``: starts it once and asks it."""

import contextlib
import json
import os
import select
import shlex
import shutil
import socket
import struct
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from typing import IO, Any

from container_stack import exceptions
from container_stack.rootwrap import brick_wire

#: Seconds in which the helper starts, and in which it answers after a request's own time.
START, SLACK = 30.0, 5.0
_CREDENTIALS = struct.Struct("3i")

_shared: dict[tuple[str, ...], "Helper"] = {}


def shared(command: Sequence[str]) -> "Helper":
    """Return this process's one helper of a command: all back ends share it."""
    return _shared.setdefault(tuple(command), Helper(command))


class Helper:
    """The helper's process, started when needed; safe under threads, and in forked children.

    :param command: what starts it as root.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._command = tuple(command)
        # By process: a child must not wait for a lock that one of its parent's threads held.
        self._locks: dict[int, threading.Lock] = {}
        self._pid = 0
        self._control: socket.socket | None = None
        self._process: subprocess.Popen[str] | None = None

    def ask(self, request: brick_wire.Request) -> tuple[Mapping[str, Any], list[int]]:
        """Return the answer to a request, and the descriptors that came with it.

        :raises RootHelperUnavailable: the helper doesn't start, or went.
        :raises ContainerStackError: as the helper says.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours:
            with theirs:
                self._send(request, theirs)
            ours.settimeout(request.deadline + SLACK)
            message: bytes = b""
            descriptors: list[int] = []
            with contextlib.suppress(OSError):
                message, descriptors, _flags, _address = socket.recv_fds(
                    ours, brick_wire.LIMIT, 2, socket.MSG_CMSG_CLOEXEC
                )
        if not message:
            self.close()
            raise exceptions.RootHelperUnavailable("container-stack-brick went without an answer.")
        answer = json.loads(message)
        if "error" in answer:
            raise getattr(exceptions, answer["error"])(answer["text"])
        return answer, descriptors

    def close(self) -> None:
        """Let the helper detach what is attached, and go. It starts again when needed."""
        with self._lock():
            self._drop()

    def _lock(self) -> threading.Lock:
        return self._locks.setdefault(os.getpid(), threading.Lock())

    def _send(self, request: brick_wire.Request, answer: socket.socket) -> None:
        with self._lock():
            if self._pid != os.getpid():
                # A child has a helper of its own; the parent's detaches when the parent goes.
                if self._control is not None:
                    self._control.close()
                self._control = self._process = None
            for attempt in (1, 2):
                if self._control is None:
                    self._start()
                try:
                    assert self._control is not None
                    socket.send_fds(self._control, [request.encode()], [answer.fileno()])
                except OSError as exc:
                    self._drop()
                    if attempt == 2:
                        text = "container-stack-brick went."
                        raise exceptions.RootHelperUnavailable(text) from exc
                else:
                    return

    def _start(self) -> None:
        directory = tempfile.mkdtemp(prefix="cs-brick-")
        try:
            path = os.path.join(directory, "socket")
            with (
                tempfile.TemporaryFile() as words,
                socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener,
            ):
                listener.bind(path)
                listener.listen(1)
                self._process = self._spawn(path, words)
                self._control = _accept(listener, self._process)
                self._pid = os.getpid()
                if self._control is None:
                    raise exceptions.RootHelperUnavailable(
                        f"The root helper {shlex.join(self._command)!r} doesn't start: "
                        f"{self._last(words)}. Check its options, and sudo by `sudo -nl`."
                    )
        finally:
            shutil.rmtree(directory)

    def _spawn(self, path: str, words: IO[bytes]) -> "subprocess.Popen[str]":
        try:
            process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=words,
                text=True,
                start_new_session=True,
            )
        except OSError as exc:
            raise exceptions.RootHelperUnavailable(f"{self._command[0]} isn't there.") from exc
        with (
            contextlib.suppress(BrokenPipeError),
            process.stdin or contextlib.nullcontext() as pipe,
        ):
            if pipe is not None:
                pipe.write(f"{path}\n")
        return process

    def _last(self, words: IO[bytes]) -> str:
        words.seek(0)
        lines = words.read().decode(errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else "it ended without a word"

    def _drop(self) -> None:
        control, process = self._control, self._process
        self._control = self._process = None
        if control is not None and self._pid == os.getpid():
            control.close()
        if process is not None and self._pid == os.getpid():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(START)


def _accept(listener: socket.socket, process: "subprocess.Popen[str]") -> socket.socket | None:
    """Return the connection of the process, which must be root's, or None if none comes."""
    pidfd = os.pidfd_open(process.pid)
    try:
        ready, _, _ = select.select([listener.fileno(), pidfd], [], [], START)
    finally:
        os.close(pidfd)
    if listener.fileno() not in ready:
        return None
    control, _address = listener.accept()
    size = _CREDENTIALS.size
    peer = control.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    if _CREDENTIALS.unpack(peer)[1] != 0:
        control.close()
        return None
    return control
