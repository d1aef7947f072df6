# SPDX-License-Identifier: Apache-2.0
"""What the daemon does again and again, whether or not anybody asks."""

import datetime
import logging
import threading
import time
from collections.abc import Callable, Mapping

from container_stack import exceptions
from container_stack.conf import osd as conf
from container_stack.volumes import backend, registry, service

LOG = logging.getLogger(__name__)

#: Seconds between two times at which the past is forgotten.
DAY = 86400.0
#: Seconds that the last round may take when the daemon ends.
PATIENCE = 20.0
#: Seconds between two looks of who must look all the time.
WATCH = 1.0


class Housekeeping:
    """A thread that keeps schedules, figures and alerts, and tries again what wasn't ready.

    :param services: those that are served; there may come to be more.
    :param retry: tries the others.
    """

    def __init__(
        self,
        settings: conf.Settings,
        remembered: registry.Registry,
        services: Mapping[str, service.VolumeService],
        retry: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._registry = remembered
        self._services = services
        self._retry = retry
        self._stopping = threading.Event()
        self._trimmed = float("-inf")
        self._threads = [
            threading.Thread(target=self._work, name="housekeeping", daemon=True),
            threading.Thread(target=self._watch, name="watch", daemon=True),
        ]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End after the round that is being made; idempotent."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(PATIENCE)

    def round(self) -> None:
        """Do it all once; what fails is logged, and hinders nothing else."""
        _quietly("a driver that wasn't ready", self._retry)
        for name, each in list(self._services.items()):
            _quietly(f"driver {name}", each.tick)
        if time.monotonic() - self._trimmed > DAY:
            _quietly("the past", self._trim)

    def _trim(self) -> None:
        now = datetime.datetime.now(datetime.UTC)
        self._registry.trim(now - datetime.timedelta(days=self._settings.history_days))
        self._trimmed = time.monotonic()

    def _work(self) -> None:
        while not self._stopping.wait(self._settings.interval):
            self.round()

    def _watch(self) -> None:
        pause = WATCH
        while not self._stopping.wait(pause):
            done = [
                _quietly(f"limits of driver {name}", each.backend.watch)
                for name, each in list(self._services.items())
                if isinstance(each.backend, backend.Watching)
            ]
            pause = WATCH if all(done) else self._settings.interval


def _quietly(what: str, function: Callable[[], object]) -> bool:
    try:
        function()
        return True
    except exceptions.ContainerStackError as exc:
        LOG.warning("Looking after %(what)s failed: %(why)s", {"what": what, "why": exc})
    except Exception:
        # The thread must outlive whatever a backend comes up with.
        LOG.exception("Looking after %(what)s failed", {"what": what})
    return False
