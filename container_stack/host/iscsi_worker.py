# SPDX-License-Identifier: Apache-2.0
"""The thread that talks to a target, by way of whichever portal works.

libiscsi isn't made for threads, so there is one for each attached volume. When a portal is lost,
what it left unanswered is sent again through the next. That is safe: a command here reads, or
writes the same bytes to the same place; and the session's number stays the same, so that the
target drops what the lost connection still holds.
"""

import collections
import functools
import logging
import select
import time

from container_stack import exceptions
from container_stack.host import iscsi_requests, libiscsi, scsi

LOG = logging.getLogger(__name__)

#: Commands under way at once.
DEPTH = 8
#: Seconds before the portals are tried again after all of them failed.
PAUSE = 0.5
#: Seconds that a volume may vanish for: some arrays exchange it for a larger one.
VANISHING = 3.0
#: Seconds that a logout may take.
FAREWELL = 2.0

_Error = exceptions.ContainerStackError


class Worker:
    """Sends what is in an inbox, until that is closed.

    :param stall: seconds without a sign of life after which a portal counts as lost.
    """

    def __init__(
        self,
        portals: tuple[str, ...],
        login: libiscsi.Login,
        inbox: iscsi_requests.Inbox,
        stall: float,
    ) -> None:
        self._portals = portals
        self._login = login
        self._inbox = inbox
        self._stall = stall
        self._queue: collections.deque[iscsi_requests.Job] = collections.deque()
        self._flying: set[iscsi_requests.Job] = set()
        self._connection: libiscsi.Connection | None = None
        self._turn = 0  # of the portals
        self._detour = ""
        self._failures: list[_Error] = []
        self._why: _Error | None = None
        self._alive = 0.0
        self._paused_until = 0.0

    def run(self) -> None:
        """Work; returns when the inbox is closed."""
        try:
            while self._inbox.open:
                self._step()
            self._say_goodbye()
        except Exception:
            LOG.exception("The session with %(target)s broke", {"target": self._login.iqn})
        finally:
            self._inbox.close()
            self._hang_up()
            self._queue.extend(self._inbox.take())
            self._fail(list(self._queue), exceptions.InvalidRequest("The volume is detached."))

    def _step(self) -> None:
        self._queue.extend(self._inbox.take())
        now = time.monotonic()
        self._expire(now)
        if self._connection is None and self._queue and now >= self._paused_until:
            self._connect(now)
        self._feed(now)
        self._poll(self._patience(now))
        self._watch(time.monotonic())

    def _expire(self, now: float) -> None:
        late = [job for job in (*self._flying, *self._queue) if job.request.deadline <= now]
        if not late:
            return
        error = self._why or exceptions.ArrayUnavailable(
            f"{self._login.iqn} doesn't answer in time."
        )
        for job in late:
            job.request.error = job.request.error or error
        if not self._flying.isdisjoint(late):
            self._lose(error, now)
        self._fail(late, error)

    def _connect(self, now: float) -> None:
        portal = self._detour or self._portals[self._turn]
        self._alive = now
        self._connection = libiscsi.Connection(portal, self._login)

    def _feed(self, now: float) -> None:
        connection = self._connection
        if connection is None or not connection.ready:
            return
        for _ in range(len(self._queue)):
            if len(self._flying) >= DEPTH or connection.congested or connection.failure:
                return
            job = self._queue.popleft()
            if job.not_before > now:
                self._queue.append(job)
                continue
            if not self._flying:
                self._alive = now
            self._flying.add(job)
            connection.send(job.lun, job.command, functools.partial(self._answered, job))

    def _answered(self, job: iscsi_requests.Job, answer: scsi.Answer | None) -> None:
        self._flying.discard(job)
        if answer is None:
            self._try_again(job)
            return
        self._failures.clear()
        now = time.monotonic()
        job.vanished = (job.vanished or now) if answer.vanished else 0.0
        if answer.passing or (answer.vanished and now < job.vanished + VANISHING):
            self._why = answer.error(self._login.iqn)
            self._try_again(job)
        else:
            self._why = None
            job.answer = answer
            job.request.finish_one()

    def _try_again(self, job: iscsi_requests.Job) -> None:
        # At first without delay: a target tells each new session that it is new.
        job.not_before = time.monotonic() + min(0.02 * job.attempts, 0.5)
        job.attempts += 1
        self._queue.appendleft(job)

    def _poll(self, seconds: float | None) -> None:
        poll = select.poll()
        poll.register(self._inbox.fd, select.POLLIN)
        connection = self._connection
        fd = connection.fileno() if connection else -1
        if connection and fd >= 0:
            poll.register(fd, connection.events)
        for ready, events in poll.poll(None if seconds is None else seconds * 1000):
            if connection and ready == fd:
                self._alive = time.monotonic()
                connection.service(events)

    def _patience(self, now: float) -> float | None:
        """Return how many seconds may pass without anything happening."""
        times = [job.request.deadline for job in (*self._flying, *self._queue)]
        connection = self._connection
        if connection is None:
            times += [self._paused_until] if self._queue else []
        elif connection.failure is not None:
            return 0
        elif not connection.ready or self._flying:
            times.append(self._alive + self._stall)
        if connection is not None and connection.ready and len(self._flying) < DEPTH:
            times += [job.not_before for job in self._queue if job.not_before]
        return max(0.0, min(times) - now) + 0.001 if times else None

    def _watch(self, now: float) -> None:
        """See whether the connection is one still."""
        connection = self._connection
        if connection is None:
            return
        if connection.failure is not None:
            self._lose(connection.failure, now)
        elif (not connection.ready or self._flying) and now >= self._alive + self._stall:
            self._lose(
                exceptions.ArrayUnavailable(
                    f"{connection.portal} gives no sign of life for {self._stall:.0f} s."
                ),
                now,
            )

    def _lose(self, error: _Error, now: float) -> None:
        """Give the portal up, and turn to the next."""
        connection = self._connection
        if connection is None:
            return
        level = logging.WARNING if connection.was_ready else logging.DEBUG
        LOG.log(level, "Lost %(target)s: %(why)s", {"target": self._login.iqn, "why": error})
        on_detour, self._detour = self._detour, "" if self._detour else connection.moved_to
        self._hang_up()
        self._drop_failed()
        if self._detour and not on_detour:
            return
        self._why = error
        self._turn = (self._turn + 1) % len(self._portals)
        self._failures.append(error)
        if len(self._failures) >= len(self._portals):
            self._end_round(now)

    def _end_round(self, now: float) -> None:
        """All portals failed: tell who doesn't want to wait, and pause for the others."""
        self._why = _worst(self._failures)
        self._failures = []
        self._paused_until = now + PAUSE
        self._fail([job for job in self._queue if not job.request.patient], self._why)

    def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _drop_failed(self) -> None:
        self._fail([job for job in self._queue if job.request.error], None)

    def _fail(self, jobs: list[iscsi_requests.Job], error: _Error | None) -> None:
        """Give jobs up that are in the queue."""
        for job in jobs:
            if job in self._queue:
                self._queue.remove(job)
                job.request.error = job.request.error or error
                job.request.finish_one()

    def _say_goodbye(self) -> None:
        connection = self._connection
        if connection is None or not connection.ready or self._flying:
            return
        end = time.monotonic() + FAREWELL
        connection.log_out()
        while not connection.left and not connection.failure and time.monotonic() < end:
            self._poll(end - time.monotonic())


def _worst(errors: list[_Error]) -> _Error:
    """Return what says most: a refusal before an absence before silence."""
    for kind in (exceptions.AccessDenied, exceptions.NotFound):
        for error in errors:
            if isinstance(error, kind):
                return error
    return errors[-1]
