# SPDX-License-Identifier: Apache-2.0
"""The daemon's side of the guard: that there is one."""

import logging
import subprocess
import sys
import threading
import time

from container_stack import exceptions
from container_stack.volumes.cluster import clock, guard

LOG = logging.getLogger(__name__)

#: Seconds that one may take to start.
PATIENCE = 20.0


class Guarding:
    """Sees to it that a guard is at work; safe under threads.

    :param directory: where the record is.
    :param argv: what the guard is told: :func:`guard.argv`.
    """

    def __init__(self, directory: str, argv: list[str]) -> None:
        self._directory = directory
        self._argv = [sys.executable, "-m", guard.__name__, *argv]
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def ensure(self) -> None:
        """Return when a guard is at work, which may be one that an earlier daemon has started.

        :raises HostNotReady: none can be started; volumes must not be used.
        """
        with self._lock:
            if self._process is not None:
                self._process.poll()  # so that an ended one is no zombie
            if not guard.is_there(self._directory):
                self._start()

    def _start(self) -> None:
        self._process = subprocess.Popen(
            self._argv, stdin=subprocess.DEVNULL, cwd="/", start_new_session=True
        )
        LOG.info("Started the guard, process %(pid)d", {"pid": self._process.pid})
        end = clock.now() + PATIENCE
        while not guard.is_there(self._directory):
            code = self._process.poll()
            if code is not None or clock.now() > end:
                self._process.kill()
                raise exceptions.HostNotReady(
                    f"The guard doesn't start (exit code {code}); without it no volume is used."
                )
            time.sleep(0.05)
