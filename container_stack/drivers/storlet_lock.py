# SPDX-License-Identifier: Apache-2.0
"""The right to change an account's image, given out by a back end of tooz.

``file:///var/lib/container-stack/storlets/locks`` is enough while all managers are on one host;
the kernel frees a lock with its holder. ``etcd3+http://192.0.2.7:2379`` serves managers on
several: a lock that nobody renews any more is free after 30 seconds, or after those that both
``lock_timeout`` and ``membership_timeout`` give in the URL.
"""

import contextlib
import logging
import threading
import time
import urllib.parse
import uuid
from collections.abc import Iterator
from typing import Any

from tooz import coordination

from container_stack import exceptions
from container_stack.storlets.deployment import leases

LOG = logging.getLogger(__name__)

_NEEDED = (
    coordination.Characteristics.DISTRIBUTED_ACROSS_PROCESSES,
    coordination.Characteristics.DISTRIBUTED_ACROSS_THREADS,
)


class Locks:
    """Gives out leases: :meth:`hold` is a :data:`container_stack.storlets.deployment.leases.Lock`.

    :param url: of the back end.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        parts = urllib.parse.urlsplit(url)
        self._name = f"{parts.scheme}://{parts.hostname or parts.path}"

    @contextlib.contextmanager
    def hold(self, name: str) -> Iterator[leases.Lease]:
        """Hold a name as long as the context lasts, without waiting for it.

        :raises Busy: another manager has it.
        :raises ServiceUnavailable: the back end doesn't answer.
        :raises HostNotReady: there is no such back end, or one that can't do it.
        """
        with contextlib.ExitStack() as stack:
            with self._translated():
                coordinator = self._coordinator()
                stack.callback(self._quietly, coordinator.stop, name)
                lock = coordinator.get_lock(f"storlets-{name}".encode())
                asked = _now()
                if not lock.acquire(blocking=False):
                    raise exceptions.Busy(f"Another manager is at work on {name}; see its status.")
                stack.callback(self._quietly, lock.release, name)
                lease = _Lease(coordinator, name, asked)
                lease.beat()
            stack.enter_context(lease)
            yield lease

    def _coordinator(self) -> Any:
        # A name of its own for each: files are locked by whole processes, tooz does the rest.
        try:
            coordinator = coordination.get_coordinator(
                self._url, uuid.uuid4().hex.encode(), characteristics=_NEEDED
            )
        except (coordination.ToozDriverChosenPoorly, RuntimeError, ValueError) as exc:
            raise exceptions.HostNotReady(f"tooz has no locks by {self._name}: {exc}") from exc
        coordinator.start(start_heart=False)
        return coordinator

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """Translate the errors of tooz, and those of its back ends that it lets through."""
        try:
            yield
        except exceptions.ContainerStackError:
            raise
        except Exception as exc:
            raise exceptions.ServiceUnavailable(
                f"No locks are to be had of {self._name}: {exc}"
            ) from exc

    def _quietly(self, action: Any, name: str) -> None:
        """Let go of what, if this fails, goes by itself in a while."""
        try:
            action()
        except Exception as exc:
            LOG.warning(
                "The lock of %(name)s is freed by %(where)s itself, later: %(why)s",
                {"name": name, "where": self._name, "why": exc},
            )


class _Lease:
    """A lock that is renewed in a thread; lost when that came too late once.

    tooz tells nobody that a lock of etcd's has run out, and its own heart can't be stopped while
    etcd is away. So what counts is the time since it was last renewed.
    """

    def __init__(self, coordinator: Any, name: str, asked: float) -> None:
        self._coordinator = coordinator
        self._name = name
        self._lost = False
        self._end = threading.Event()
        self._guard = threading.Lock()
        self._asked = asked
        self._lasts = float("inf")
        self._thread = threading.Thread(target=self._renew, name=f"lock {name}", daemon=True)

    def check(self) -> None:
        """Return if the lock was renewed in time, always."""
        with self._guard:
            if self._lost or _now() >= self._asked + self._lasts:
                self._lost = True
                raise leases.LeaseLost(
                    f"The lock of {self._name} couldn't be renewed in time, so another manager "
                    f"may be at work: look at the status, and resume."
                )

    def beat(self) -> None:
        """Renew the lock."""
        if not self._coordinator.requires_beating:
            return
        asked = _now()
        lasts = float(self._coordinator.heartbeat())
        with self._guard:
            if _now() >= self._asked + min(self._lasts, lasts):
                self._lost = True
            self._asked, self._lasts = asked, lasts

    def __enter__(self) -> None:
        if self._coordinator.requires_beating:
            self._thread.start()

    def __exit__(self, *_exc: object) -> None:
        self._end.set()

    def _renew(self) -> None:
        while not self._end.wait(self._lasts / 4):
            try:
                self.beat()
            except Exception as exc:
                LOG.warning(
                    "Couldn't renew the lock of %(name)s: %(why)s",
                    {"name": self._name, "why": exc},
                )


def _now() -> float:
    """Return seconds that go on while the host sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
