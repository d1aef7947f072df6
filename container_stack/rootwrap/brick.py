# SPDX-License-Identifier: Apache-2.0
"""``container-stack-brick``: attaches iSCSI targets as root for one process of a service.

sudo or rootwrap starts it without an argument. It reads the path of a Unix socket from standard
input, connects to it, and serves the requests of :mod:`.brick_wire` that arrive there; each brings
a socket of its own for the answer, and an answer to ``connect`` brings the open device. So the
caller needs no right to any device node, and has none to a disk that no target of his exports.

- Every request is a process of its own, which a timeout kills with all that it started. One about
  an attachment begins when the one before it has ended: it had the device open, and the lock.
- When the caller goes, kill -9 included, everything that he attached is detached.
"""

import contextlib
import dataclasses
import json
import logging
import os
import select
import selectors
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable, Collection, Mapping

from container_stack import exceptions
from container_stack.rootwrap import brick_target, brick_wire, config

#: Times that a target is tried to be detached when nobody waits for it: iscsid may hang.
ATTEMPTS = 6
#: Signals that also reach who waits for uploads to end: the caller's going is what counts.
_IGNORED = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
_ACTIONS: Mapping[str, Callable[[brick_wire.Request], brick_target.Reply]] = {
    "check": brick_target.check,
    "connect": brick_target.connect,
    "resize": brick_target.resize,
    "disconnect": brick_target.disconnect,
    "abandon": brick_target.abandon,
}


def main() -> None:
    """Serve until the caller goes."""
    if len(sys.argv) != 1:
        sys.exit("Usage: container-stack-brick, by a service of container-stack.")
    for each in _IGNORED:
        signal.signal(each, signal.SIG_IGN)
    os.environ.update(PATH=config.EXEC_DIRS.replace(",", os.pathsep), LC_ALL="C")
    os.chdir("/")
    os.umask(0o077)
    logging.disable()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as control:
        control.connect(sys.stdin.readline().rstrip("\n"))
        # Nobody reads on.
        os.dup2(os.open(os.devnull, os.O_RDWR), sys.stderr.fileno())
        # Who asks is told what is missing.
        with contextlib.suppress(exceptions.HostNotReady):
            brick_target.preload()
        _Helper(control).serve()


class _Job:
    """A request in a process of its own."""

    def __init__(
        self,
        request: brick_wire.Request,
        answer: socket.socket | None,
        attempt: int,
        before: Collection[int],
    ) -> None:
        self.request = request
        self.attempt = attempt
        self._answer = answer
        self._pid = os.fork()
        if not self._pid:
            time.sleep(2.0 ** (attempt - 2) if attempt > 1 else 0)
            _work(request, answer, before)
        self.ended = os.pidfd_open(self._pid)

    def reap(self) -> bool:
        """Clean up after the process; tell whether it did what was asked."""
        os.close(self.ended)
        # The group's number is nobody else's as long as its first process isn't reaped.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._pid, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        if self._answer is not None:
            if code < 0:
                with contextlib.suppress(OSError):
                    _send(self._answer, _failure(_overran(self.request)), [])
            self._answer.close()
        return code == 0


class _Helper:
    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._jobs: dict[int, _Job] = {}
        self._attached: dict[str, brick_wire.Request] = {}
        self._selector = selectors.DefaultSelector()
        self._selector.register(control, selectors.EVENT_READ)

    def serve(self) -> None:
        while self._control.fileno() >= 0 or self._jobs:
            for key, _events in self._selector.select():
                if key.fileobj is self._control:
                    self._take()
                else:
                    self._reap(self._jobs.pop(key.fd))

    def _take(self) -> None:
        message, descriptors, _flags, _address = socket.recv_fds(
            self._control, brick_wire.LIMIT, 1, socket.MSG_CMSG_CLOEXEC
        )
        if not message:
            self._selector.unregister(self._control)
            self._await_end()
            self._control.close()
            self._detach_all()
            return
        try:
            answer = socket.socket(fileno=descriptors[0])
        except (IndexError, OSError):
            return  # who can't be answered isn't served
        try:
            request = brick_wire.decode(message)
        except exceptions.InvalidRequest as exc:
            with answer, contextlib.suppress(OSError):
                _send(answer, _failure(exc), [])
            return
        if request.action == "connect":
            self._attached[request.key] = request
        self._start(request, answer)

    def _await_end(self) -> None:
        """Wait until the caller has ended: the kernel takes his open devices one by one."""
        peer = self._control.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        with contextlib.suppress(ProcessLookupError):
            caller = os.pidfd_open(struct.unpack("3i", peer)[0])
            if self._attached:
                select.select([caller], [], [], 5.0)
            os.close(caller)

    def _start(
        self, request: brick_wire.Request, answer: socket.socket | None, attempt: int = 1
    ) -> None:
        before = [
            ended
            for ended, job in self._jobs.items()
            if request.iqn and job.request.key == request.key
        ]
        job = _Job(request, answer, attempt, before)
        self._jobs[job.ended] = job
        self._selector.register(job.ended, selectors.EVENT_READ)

    def _reap(self, job: _Job) -> None:
        self._selector.unregister(job.ended)
        good, request = job.reap(), job.request
        if request.action == "disconnect" and good:
            self._attached.pop(request.key, None)
        elif request.action == "abandon":
            if not good and job.attempt < ATTEMPTS:
                self._start(request, None, job.attempt + 1)
        elif request.key in self._attached and (
            self._control.fileno() < 0 or (request.action == "connect" and not good)
        ):
            self._detach(request.key)

    def _detach_all(self) -> None:
        busy = {job.request.key for job in self._jobs.values()}
        for key in self._attached.keys() - busy:
            self._detach(key)

    def _detach(self, key: str) -> None:
        request = self._attached.pop(key)
        self._start(dataclasses.replace(request, action="abandon"), None)


def _work(
    request: brick_wire.Request, answer: socket.socket | None, before: Collection[int]
) -> None:
    """Do what is asked when others have ended, answer, and end this process."""
    code = 1
    try:
        os.setpgid(0, 0)
        # Its default action ends the process, whatever it is at.
        signal.setitimer(signal.ITIMER_REAL, request.deadline)
        brick_target.preload()
        for ended in before:
            select.select([ended], [], [])
        values, descriptors = _ACTIONS[request.action](request)
        if answer is not None:
            _send(answer, values, descriptors)
        code = 0
    except Exception as exc:
        if answer is not None:
            _send(answer, _failure(exc), [])
    finally:
        os._exit(code)


def _send(answer: socket.socket, values: Mapping[str, object], descriptors: list[int]) -> None:
    socket.send_fds(answer, [json.dumps(values).encode()], descriptors)


def _failure(exc: Exception) -> dict[str, str]:
    known = isinstance(exc, exceptions.ContainerStackError) and not isinstance(
        exc, exceptions.CommandFailed
    )
    kind = type(exc).__name__ if known else "ContainerStackError"
    return {"error": kind, "text": str(exc) if known else f"{type(exc).__name__}: {exc}"[:2000]}


def _overran(request: brick_wire.Request) -> Exception:
    what = request.iqn or "The initiator"
    return exceptions.ArrayUnavailable(f"{what} wasn't done with within {request.deadline:g} s.")


if __name__ == "__main__":
    main()
