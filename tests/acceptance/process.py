# SPDX-License-Identifier: Apache-2.0
"""Processes that the tests start, with their logs, their user and their end."""

import contextlib
import dataclasses
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Self, TypeVar

Found = TypeVar("Found")

#: What the services say all the time, and what polling them makes them say.
_CHATTER = ("Updating share status", " INFO manila.api.openstack.wsgi ")

#: Seconds between the first two looks at something that is awaited, and between later ones at
#: most: looking costs the services time that what is awaited needs.
_FIRST, _LATER = 0.1, 0.5


@dataclasses.dataclass(frozen=True, slots=True)
class Identity:
    """Whom a process runs as.

    :param groups: supplementary groups, by number.
    """

    user: int = 0
    group: int = 0
    groups: tuple[int, ...] = ()


ROOT = Identity()


class Process:
    """One service: a process in a session of its own, whose output goes to ``<name>.log``.

    As a context manager it runs from entry to exit.

    :param directory: where the log goes; also home and working directory, so that nothing
        is written elsewhere by habit.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        directory: Path,
        *,
        environment: Mapping[str, str] | None = None,
        identity: Identity = ROOT,
    ) -> None:
        self.name = name
        self.log = directory / f"{name}.log"
        self._argv = tuple(argv)
        self._directory = directory
        self._identity = identity
        self._environment = {
            "PATH": os.environ["PATH"],
            "LC_ALL": "C.UTF-8",
            "HOME": str(directory),
            "TMPDIR": str(directory),
            **(environment or {}),
        }
        self._popen: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start it; its log is continued, not overwritten."""
        with self.log.open("ab") as log:
            self._popen = subprocess.Popen(
                self._argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._directory,
                env=self._environment,
                user=self._identity.user,
                group=self._identity.group,
                extra_groups=self._identity.groups,
                start_new_session=True,
            )

    def stop(self, grace: float = 10.0) -> None:
        """Ask it to end, and its children with it; after ``grace`` seconds kill them."""
        if self._popen is None:
            return
        self._signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(grace)
        self.kill()

    def kill(self) -> None:
        """Kill it and its children as ``kill -9`` does, and wait until they are gone."""
        if self._popen is None:
            return
        pid = self._popen.pid
        self._signal(signal.SIGKILL)
        self._popen.wait()
        self._popen = None
        wait_for(f"the end of {self.name}", lambda: not _session(pid), timeout=10)

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended by itself."""
        return self._popen is not None and self._popen.poll() is None

    def users(self) -> set[int]:
        """Return the users of the processes that run its program, by number."""
        assert self._popen is not None
        program = self._argv[0].encode()
        return {
            Path(f"/proc/{pid}").stat().st_uid
            for pid in _session(self._popen.pid)
            if program in Path(f"/proc/{pid}/cmdline").read_bytes()
        }

    def tail(self, lines: int = 25) -> str:
        """Return the last lines of its log under a heading."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        told = [line for line in text.splitlines() if not any(word in line for word in _CHATTER)]
        last = "\n".join(told[-lines:])
        return f"--- {self.name} ({self.log})\n{last}"

    def _signal(self, number: int) -> None:
        assert self._popen is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._popen.pid, number)


def wait_for(
    what: str,
    probe: Callable[[], Found | None],
    *,
    timeout: float = 60.0,
    processes: Iterable[Process] = (),
) -> Found:
    """Return the first true answer of ``probe``.

    :param what: named when it doesn't come.
    :param timeout: seconds.
    :param processes: must all keep running; their last words go into the failure.
    """
    deadline, pause = time.monotonic() + timeout, _FIRST
    while not (found := probe()):
        dead = [process.name for process in processes if not process.running]
        if dead or time.monotonic() > deadline:
            reason = f"{', '.join(dead)} ended" if dead else f"not within {timeout:g} seconds"
            logs = "\n".join(process.tail() for process in processes)
            raise AssertionError(f"Waited in vain for {what}: {reason}.\n{logs}")
        time.sleep(pause)
        pause = min(1.3 * pause, _LATER)
    return found


def listens(port: int) -> bool:
    """Whether something accepts connections at this port of the loopback address."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def free_port() -> int:
    """Return a port of the loopback address on which nobody listens."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def mentioning(word: str) -> list[str]:
    """Return the command lines of the processes that have ``word`` in them or in their environment.

    This process and its ancestors don't count.
    """
    ours, pid = set(), os.getpid()
    while pid > 0:
        ours.add(pid)
        pid = int(_stat(pid)[1])
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            line = Path(f"/proc/{name}/cmdline").read_bytes()
            words = line + Path(f"/proc/{name}/environ").read_bytes()
            if int(name) not in ours and word.encode() in words:
                found.append(f"{name}: {line.replace(bytes(1), b' ').decode()}")
    return found


def _session(leader: int) -> list[int]:
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            state, _parent, _group, session = _stat(int(name))[:4]
            if session == str(leader) and state != "Z":
                found.append(int(name))
    return found


def _stat(pid: int) -> list[str]:
    """Return the fields of a process's stat file from its state on."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
