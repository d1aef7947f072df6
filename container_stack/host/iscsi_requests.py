# SPDX-License-Identifier: Apache-2.0
"""Commands that threads wait for, on their way to the one thread that talks to a target."""

import dataclasses
import os
import threading
from collections.abc import Sequence

from container_stack import exceptions
from container_stack.host import scsi


class Request:
    """Commands that somebody waits for.

    :param deadline: on the monotonic clock.
    :param patient: keep trying until the deadline, instead of every portal once.
    :ivar error: why there are no answers.
    """

    def __init__(
        self, lun: int, commands: Sequence[scsi.Command], deadline: float, *, patient: bool
    ) -> None:
        self.deadline = deadline
        self.patient = patient
        self.error: exceptions.ContainerStackError | None = None
        self.jobs = [Job(self, lun, command) for command in commands]
        self._open = len(self.jobs)
        self._done = threading.Event()

    def finish_one(self) -> None:
        """Count one command less that is open. For the thread that talks to the target."""
        self._open -= 1
        if not self._open:
            self._done.set()

    def wait(self, timeout: float) -> list[scsi.Answer]:
        """Return the answers, in the commands' order, or raise why there are none."""
        if not self._done.wait(timeout):
            raise exceptions.ArrayUnavailable("The thread that talks to the target hangs.")
        answers = [job.answer for job in self.jobs if job.answer is not None]
        if self.error is not None and len(answers) < len(self.jobs):
            raise self.error
        return answers


@dataclasses.dataclass(slots=True, eq=False)
class Job:
    """One command of a request.

    :ivar attempts: passing troubles that it met.
    :ivar not_before: when to try again, on the monotonic clock.
    :ivar vanished: since when the target says that it has no such volume; 0: it doesn't.
    """

    request: Request
    lun: int
    command: scsi.Command
    answer: scsi.Answer | None = None
    attempts: int = 0
    not_before: float = 0.0
    vanished: float = 0.0


class Inbox:
    """Where threads leave their jobs; closing it ends the thread that reads it.

    :ivar fd: readable when there is something new.
    """

    def __init__(self) -> None:
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._lock = threading.Lock()
        self._jobs: list[Job] = []
        self._open = True
        self._process = os.getpid()

    def __del__(self) -> None:
        os.close(self.fd)

    @property
    def open(self) -> bool:
        """Whether jobs are still taken."""
        return self._open

    @property
    def mine(self) -> bool:
        """Whether this process made the inbox, and isn't a fork of the one that did."""
        return os.getpid() == self._process

    def put(self, request: Request) -> None:
        """Leave a request's jobs.

        :raises InvalidRequest: closed; or this is a fork of the process that reads.
        """
        if not self.mine:
            raise exceptions.InvalidRequest(
                "The volume was attached by the process that forked this one; attach it here."
            )
        with self._lock:
            if not self._open:
                raise exceptions.InvalidRequest("The volume is detached.")
            self._jobs.extend(request.jobs)
            os.eventfd_write(self.fd, 1)

    def take(self) -> list[Job]:
        """Return what is new."""
        with self._lock:
            try:
                os.eventfd_read(self.fd)
            except BlockingIOError:
                return []
            jobs, self._jobs = self._jobs, []
            return jobs

    def close(self) -> None:
        """Take no more jobs; idempotent, and without effect in a fork."""
        if self.mine:
            with self._lock:
                self._open = False
                os.eventfd_write(self.fd, 1)
