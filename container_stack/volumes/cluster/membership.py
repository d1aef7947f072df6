# SPDX-License-Identifier: Apache-2.0
"""This node's lease: taken, renewed, and what happens when it can't be.

Two threads: one renews, and may hang in a request; the other looks at the clock, asks nobody and
ends all use in time. When both fail, there is the guard.
"""

import enum
import logging
import os
import threading
import uuid
from collections.abc import Callable

from container_stack import exceptions
from container_stack.host import abilities
from container_stack.volumes.cluster import clock, ending, guarding, leases, record

LOG = logging.getLogger(__name__)

#: Seconds between two looks at the clock.
PAUSE = 0.1
#: Seconds between two looks at the guard.
STEP = 0.5


class _State(enum.Enum):
    #: Volumes may be used.
    IN = enum.auto()
    #: All use is being ended.
    FENCING = enum.auto()
    #: Nothing is used.
    OUT = enum.auto()


class Membership:
    """This node's part in the cluster; safe under threads.

    :param joined: called when a lease has been got anew, before anything is used: the registry is
        told that this node owns nothing.
    """

    def __init__(
        self,
        node_id: str,
        held: leases.Leases,
        file: record.File,
        guard: guarding.Guarding,
        end: ending.Ending,
        joined: Callable[[], None],
    ) -> None:
        self.node_id = node_id
        self._leases = held
        self._times = held.times
        self._file = file
        self._seat = record.Seat(file.directory)
        self._guard = guard
        self._ending = end
        self._joined = joined
        self._fence: Callable[[], None] = lambda: None
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._first = threading.Event()
        self._state = _State.FENCING
        self._lost = False
        self._asked = 0.0
        self._epoch = 0
        self._holder = ""
        self._why = "it hasn't joined yet."
        self._threads: list[threading.Thread] = []

    @property
    def holder(self) -> str:
        """The secret by which this node's lease is known to be its own."""
        return self._holder

    def check(self) -> int:
        """Return a number that changes whenever all use has been ended in between.

        :raises ServiceUnavailable: volumes can't be used now; the text says why.
        """
        with self._lock:
            if self._is_in() and not self._ended.is_set():
                return self._epoch
            raise exceptions.ServiceUnavailable(
                f"Node {self.node_id} may not use volumes now: {self._why}"
            )

    def start(self, fence: Callable[[], None]) -> None:
        """Go on with the lease of a daemon that ran until now, or end all use and get one.

        Returns after a while even if there is none to be had: :meth:`check` says so.

        :raises HostNotReady: another daemon serves here, or there is no guard.
        """
        try:
            self._seat.take()
        except exceptions.Busy as exc:
            raise exceptions.HostNotReady(str(exc)) from exc
        self._fence = fence
        found = self._file.read()
        self._holder = (found.boot == abilities.boot_id() and found.holder) or uuid.uuid4().hex
        if found.live:
            self._asked, self._state = found.asked, _State.IN
            self._write(record.Standing.HELD)
            LOG.info("Going on with the lease of node %(node)s", {"node": self.node_id})
            self._resume()
        else:
            # Else a guard would find nothing to guard, and end as it begins; or it would find a
            # daemon that is late, whose number may be ours by now: in a container it mostly is.
            self._write(record.Standing.OUT)
        self._guard.ensure()
        for task in (self._watch, self._live):
            thread = threading.Thread(target=task, name=f"node {task.__name__[1:]}", daemon=True)
            self._threads.append(thread)
            thread.start()
        self._first.wait(self._times.renew)

    def _resume(self) -> None:
        """Renew a lease that its guard still lets be, though it may be late for a daemon."""
        asked = clock.now()
        try:
            self._leases.renew(self.node_id, self._holder)
        except exceptions.ContainerStackError as exc:
            self._note(exc)
            return
        if self._file.read().live:
            self._enter(asked)

    def stop(self, *, idle: bool) -> None:
        """Leave the cluster.

        While something is used the lease is left as it is: the next daemon goes on with it, and
        if none comes in time, the guard ends all use.

        :param idle: nothing is owned here.
        """
        self._ended.set()
        for thread in self._threads:
            thread.join(self._times.lasts)
        with self._lock:
            unused = idle and self._state is not _State.FENCING and not self._ending.used()
            if unused:
                self._state, self._why = _State.OUT, "it has left the cluster."
                self._write(record.Standing.LEFT)
        if unused:
            self._quietly_drop()
        self._ending.close()
        self._seat.leave()

    # The first thread ----------------------------------------------------------------------

    def _live(self) -> None:
        due = 0.0
        while not self._ended.wait(STEP):
            if clock.now() < due:
                self._keep_guard()
                continue
            done = self._beat()
            joined = self._state is _State.IN
            pause = self._times.renew if done and joined else self._times.request / 2
            due = clock.now() + pause

    def _beat(self) -> bool:
        """Renew the lease, or get one, and tell whether that was possible."""
        try:
            if self._state is _State.IN:
                self._renew()
            elif self._state is _State.OUT:
                self._join()
            return True
        except leases.LeaseLost as exc:
            self._lost = True
            self._note(exc)
        except exceptions.ContainerStackError as exc:
            self._note(exc)
        except Exception as exc:  # this thread must not end
            LOG.exception("The lease of node %(node)s", {"node": self.node_id})
            self._note(exc)
        return False

    def _keep_guard(self) -> None:
        try:
            self._guard.ensure()
        except (exceptions.ContainerStackError, OSError) as exc:
            # Then the lease isn't renewed either.
            self._note(exc)

    def _note(self, exc: Exception) -> None:
        if str(exc) != self._why:
            LOG.warning("No lease for node %(node)s: %(why)s", {"node": self.node_id, "why": exc})
        self._why = str(exc)

    def _renew(self) -> None:
        asked = clock.now()
        self._leases.renew(self.node_id, self._holder)
        self._guard.ensure()
        with self._lock:
            # An answer that comes too late changes nothing: use is being ended already.
            if self._is_in():
                self._enter(asked)

    def _join(self) -> None:
        asked = clock.now()
        try:
            self._leases.take(self.node_id, self._holder)
        except exceptions.Busy as exc:
            raise exceptions.Busy(
                f"another host is node {self.node_id}, or takes its volumes over: {exc}"
            ) from exc
        try:
            self._joined()
            self._guard.ensure()
        except exceptions.ContainerStackError:
            self._quietly_drop()  # so that others can have what was ours
            raise
        with self._lock:
            if self._state is _State.OUT and clock.now() < asked + self._times.fence:
                self._lost = False
                self._enter(asked)
                LOG.info("Node %(node)s has joined the cluster", {"node": self.node_id})

    def _enter(self, asked: float) -> None:
        before, self._asked = self._asked, asked
        try:
            # The guard knows first.
            self._write(record.Standing.HELD)
        except OSError:
            self._asked = before
            raise
        self._state, self._why = _State.IN, "its lease wasn't renewed in time."
        self._first.set()

    def _write(self, standing: record.Standing) -> None:
        until = self._asked + self._times.guard
        self._file.write(
            record.Record(
                standing, abilities.boot_id(), self._holder, self._asked, until, os.getpid()
            )
        )

    def _quietly_drop(self) -> None:
        try:
            self._leases.drop(self.node_id, self._holder)
        except exceptions.ContainerStackError as exc:
            LOG.info("The lease of node %(node)s ends by itself: %(why)s", self._words(exc))

    def _words(self, why: object) -> dict[str, object]:
        return {"node": self.node_id, "why": why}

    # The other -----------------------------------------------------------------------------

    def _watch(self) -> None:
        while not self._ended.wait(PAUSE):
            with self._lock:
                if self._state is _State.IN and not self._is_in():
                    self._state = _State.FENCING
                    self._epoch += 1
            if self._state is _State.FENCING and not self._end_use():
                self._ended.wait(self._times.request)

    def _is_in(self) -> bool:
        on_time = not self._lost and clock.now() < self._asked + self._times.fence
        return self._state is _State.IN and on_time

    def _end_use(self) -> bool:
        """End all use, and tell whether that is done."""
        try:
            self._ending.end()
            self._fence()
            with self._lock:
                self._write(record.Standing.OUT)
                self._state = _State.OUT
        except Exception as exc:  # whatever it is, this is tried again, or the guard does it
            LOG.error("Node %(node)s can't end its use of volumes: %(why)s", self._words(exc))
            return False
        LOG.warning("Node %(node)s uses no volumes: %(why)s", self._words(self._why))
        return True
