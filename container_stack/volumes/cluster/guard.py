# SPDX-License-Identifier: Apache-2.0
"""The guard: ``python -m container_stack.volumes.cluster.guard``.

A process of its own, which the daemon starts and which outlives it. When the record says that the
lease wasn't renewed in time, the daemon has failed: it was killed, is stopped, or hangs. The guard
then kills it, so that it can't come to itself later and mount something, and ends all use of all
volumes. It goes on seeing to it that nothing is mounted for as long as the record doesn't allow
it; when the daemon is gone and nothing is left to do, it ends.
"""

import argparse
import contextlib
import dataclasses
import logging
import logging.handlers
import os
import queue
import shlex
import signal
import time

from container_stack import exceptions
from container_stack.host import locks
from container_stack.rootwrap import executor
from container_stack.volumes.cluster import clock, ending, record

LOG = logging.getLogger(__name__)

#: Seconds between two looks.
PAUSE = 0.25
#: Seconds until a killed daemon is gone.
_DYING = 2.0


class Guard:
    """Looks at a record, and acts."""

    def __init__(self, file: record.File, seat: record.Seat, end: ending.Ending) -> None:
        self._file = file
        self._seat = seat
        self._ending = end

    def watch(self) -> None:
        """Watch until there is nothing to guard."""
        while not self.look():
            time.sleep(PAUSE)

    def look(self) -> bool:
        """Do what has to be done now, and return whether that was all there ever is to do."""
        found = self._file.read()
        if found.live:
            return False
        if found.held:
            LOG.error("The lease wasn't renewed in time; ending all use of volumes")
            self._end_daemon(found)
        elif not self._ending.used():
            return found.standing is record.Standing.LEFT or not self._seat.process()
        return self._end(found)

    def _end(self, found: record.Record) -> bool:
        try:
            self._ending.end()
        except exceptions.ContainerStackError as exc:
            LOG.error("Volumes are still in use: %(why)s", {"why": exc})
            return False
        LOG.warning("Nothing uses volumes any more on this host")
        if found.held and self._file.read() == found:
            self._file.write(dataclasses.replace(found, standing=record.Standing.OUT))
        return False

    def _end_daemon(self, found: record.Record) -> None:
        """Kill the daemon that wrote the record, if it lives."""
        process = found.process
        with contextlib.suppress(ProcessLookupError):
            if not process or self._seat.process() != process:
                return
            # Its number could become another's between the look and the kill, but not so: who
            # takes the seat writes a record of his own.
            handle = os.pidfd_open(process)
            try:
                if self._seat.process() == process and self._file.read() == found:
                    LOG.error("Killing the daemon, process %(pid)d", {"pid": process})
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
            finally:
                os.close(handle)
            end = clock.now() + _DYING
            while self._seat.process() == process and clock.now() < end:
                time.sleep(0.01)


def main() -> None:
    """Watch over a state directory."""
    parser = argparse.ArgumentParser(prog="container-stack-osd-guard")
    parser.add_argument("directory", help="where the record is")
    parser.add_argument("--state-dir", required=True)
    parser.add_argument("--helper", required=True, help="the root helper's command")
    parser.add_argument("--engine", default="", help="URL of the Docker Engine")
    told = parser.parse_args()
    for each in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    _spare_from_oom()
    with contextlib.ExitStack() as stack:
        stack.callback(_log().stop)
        lock = take(told.directory)
        if lock is None:
            return
        stack.callback(os.close, lock)
        run = executor.Executor(told.helper, state_dir=told.state_dir, short=1, long=1)
        stack.callback(run.close)
        end = ending.Ending(run, told.state_dir, told.engine)
        Guard(record.File(told.directory), record.Seat(told.directory), end).watch()


def take(directory: str, patience: float = 2.0) -> int | None:
    """Return a descriptor that holds the guard's lock, or None if there is a guard."""
    end = clock.now() + patience
    while True:
        try:
            return locks.lock(os.path.join(directory, "guard"), wait=False)
        except exceptions.Busy:
            # The daemon may only be looking whether there is one.
            if clock.now() > end:
                return None
            time.sleep(0.05)


def is_there(directory: str) -> bool:
    """Tell whether a guard is at work."""
    lock = take(directory, patience=0)
    if lock is not None:
        os.close(lock)
    return lock is None


def argv(directory: str, state_dir: str, helper: tuple[str, ...], engine_url: str) -> list[str]:
    """Return the arguments that :func:`main` takes."""
    told = [directory, "--state-dir", state_dir, "--helper", shlex.join(helper)]
    return [*told, *(["--engine", engine_url] if engine_url else [])]


def _log() -> logging.handlers.QueueListener:
    """Log to standard error, from a thread: whoever reads there may be stuck."""
    logging.raiseExceptions = False
    lines: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    output = logging.StreamHandler()
    output.setFormatter(logging.Formatter("osd guard: %(levelname)s %(message)s"))
    into = logging.handlers.QueueHandler(lines)
    into.setFormatter(logging.Formatter())
    logging.basicConfig(level=logging.INFO, handlers=[into])
    listener = logging.handlers.QueueListener(lines, output)
    listener.start()
    return listener


def _spare_from_oom() -> None:
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("-1000")


if __name__ == "__main__":
    main()
