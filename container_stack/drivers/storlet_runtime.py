# SPDX-License-Identifier: Apache-2.0
"""Runs images in sandboxes by storlets' own gateway, which is in a process of its own.

That process (:mod:`container_stack.drivers.storlet_gateway`) has a session of its own, little
memory, a deadline for each answer and none of this process's environment; in the end it is killed
with all it started. Its sandboxes belong to the engine: who opened the runtime removes them.
"""

import contextlib
import dataclasses
import json
import os
import pwd
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any

from container_stack import exceptions
from container_stack.storlets.verification import trial as trials
from container_stack.storlets.verification import verify

#: Seconds in which Python and the gateway's modules load, and between two looks at the watch.
LOADING, TICK = 60.0, 0.1
#: Seconds that a sandbox's start may take beyond the gateway's own patience with it.
SLACK = 5.0
#: Bytes of an answer; the gateway itself reads no more than 4 KiB of metadata.
_LINE = 256 * 1024
_MODULE = "container_stack.drivers.storlet_gateway"
#: Of the environment, what a Python needs; credentials of who verifies are none of its business.
_KEPT = ("PATH", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "LANG", "LC_ALL", "TMPDIR")


@dataclasses.dataclass(frozen=True, slots=True)
class _User:
    uid: int
    gid: int
    groups: tuple[int, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class GatewayRuntime:
    """The real gateway.

    :param timeout: seconds for one run of a storlet, the start of its daemon included.
    :param user: whom sandboxes run as, as name or UID[:GID]: Swift's user. Heeded only by root;
        anybody else's sandboxes run as themselves.
    :param python: an interpreter that has container-stack and storlets.
    """

    timeout: float = 60.0
    user: str | None = None
    python: str = sys.executable

    @contextlib.contextmanager
    def open(self, place: verify.Place, watch: Callable[[], None]) -> Iterator[verify.Sandbox]:
        """Lend a sandbox that isn't started yet; see :class:`verify.Runtime`."""
        user = self._user(place.engine_url)
        if user is not None:
            os.chown(place.directory, user.uid, user.gid)
        with tempfile.TemporaryFile() as words, self._process(place, words) as process:
            yield _Sandbox(process, place, self.timeout, watch, words, user)

    @contextlib.contextmanager
    def _process(
        self, place: verify.Place, words: IO[bytes]
    ) -> Iterator["subprocess.Popen[bytes]"]:
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        process = subprocess.Popen(
            [self.python, "-m", _MODULE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=words,
            cwd=place.directory,
            # Nothing is imported from where the sandbox's own directories are.
            env={**kept, "PYTHONSAFEPATH": "1", "DOCKER_HOST": place.engine_url},
            start_new_session=True,
        )
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            for pipe in (process.stdin, process.stdout):
                # What couldn't be written to it is of no interest any more.
                with contextlib.suppress(OSError):
                    if pipe is not None:
                        pipe.close()

    def _user(self, engine_url: str) -> _User | None:
        if self.user is None or os.geteuid() != 0:
            return None
        name, _, group = self.user.partition(":")
        try:
            entry = pwd.getpwuid(int(name)) if name.isdigit() else pwd.getpwnam(name)
        except KeyError as exc:
            if not name.isdigit():
                raise exceptions.HostNotReady(
                    f"This host has no user {name}, whom sandboxes run as; give its UID."
                ) from exc
            uid, gid, groups = int(name), int(group or name), []
        else:
            uid, gid = entry.pw_uid, int(group or entry.pw_gid)
            groups = os.getgrouplist(entry.pw_name, entry.pw_gid)
        # On a node Swift's user is in the group that may use the engine; not everywhere here.
        with contextlib.suppress(OSError):
            groups.append(os.stat(urllib.parse.urlsplit(engine_url).path).st_gid)
        return _User(uid, gid, tuple(groups))


class _Sandbox:
    """Tells the gateway's process what to do, and waits no longer than it may.

    :param user: whom the process becomes; it may not read our files then, and gets copies.
    """

    def __init__(
        self,
        process: "subprocess.Popen[bytes]",
        place: verify.Place,
        timeout: float,
        watch: Callable[[], None],
        words: IO[bytes],
        user: _User | None,
    ) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._in, self._out = process.stdin, process.stdout
        self._place = place
        self._timeout = timeout
        self._watch = watch
        self._words = words
        self._copies = user is not None
        self._read = b""
        conf = dict(place.options)
        rights = dataclasses.asdict(user) if user else None
        self._send({"conf": conf, "scope": place.scope, "user": rights})

    def start(self) -> float:
        """Start it, and return the seconds that it took to answer a ping."""
        try:
            self._answer(LOADING)
        except exceptions.ProbeFailed as exc:
            raise exceptions.HostNotReady(
                f"Storlets' gateway doesn't run here: {_last(self._words) or exc}"
            ) from exc
        self._send({"do": "start"})
        return float(self._answer(self._place.start_timeout + SLACK)["seconds"])

    def run(self, trial: trials.Trial) -> verify.Answer:
        """Run a storlet in it, and return what came out."""
        order = dataclasses.asdict(trial) | {
            "do": "run",
            "file": self._lent(trial.file),
            "input": self._lent(trial.input),
            "output": self._lent(trial.output) if trial.output is not None else None,
            "dependencies": [self._lent(each) for each in trial.dependencies],
        }
        self._send(order)
        answer = self._answer(self._timeout)
        metadata = answer["metadata"]
        return verify.Answer(
            size=answer["size"],
            sha256=answer["sha256"],
            differs=answer["differs"],
            metadata=metadata if isinstance(metadata, dict) else {},
            seconds=float(answer["seconds"]),
        )

    def _lent(self, path: str) -> str:
        """Return a path of a file that the gateway's process may read."""
        if not self._copies:
            return os.path.abspath(path)
        directory = tempfile.mkdtemp(dir=self._place.directory)
        os.chmod(directory, 0o711)  # noqa: S103 - what is above lets nobody else in
        copy = shutil.copy(path, os.path.join(directory, os.path.basename(path)))
        os.chmod(copy, os.stat(copy).st_mode | 0o444)
        return copy

    def _send(self, order: Mapping[str, Any]) -> None:
        # Who is gone gives no answer; that is where it is noticed.
        with contextlib.suppress(OSError):
            self._in.write(json.dumps(order).encode() + b"\n")
            self._in.flush()

    def _answer(self, timeout: float) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self._line(timeout))
        if "error" in answer:
            raise exceptions.ProbeFailed(_reason(answer))
        return answer

    def _line(self, timeout: float) -> bytes:
        deadline = time.monotonic() + timeout
        while b"\n" not in self._read:
            self._watch()
            if time.monotonic() > deadline:
                raise exceptions.ProbeFailed(f"It gave no answer within {timeout:g} s.")
            if not select.select([self._out], [], [], TICK)[0]:
                continue
            more = os.read(self._out.fileno(), _LINE)
            self._read += more
            if not more or len(self._read) > _LINE:
                raise exceptions.ProbeFailed("What it answered took the gateway down.")
        line, _, self._read = self._read.partition(b"\n")
        return line


def _reason(answer: Mapping[str, Any]) -> str:
    """Return what went wrong first, and how that ended."""
    said, error = list(answer.get("said", ())), str(answer["error"]).rstrip(".")
    first = str(said[0]).rstrip(".") if said else ""
    return f"{first}. {error}." if first and first != error else f"{error}."


def _last(words: IO[bytes]) -> str:
    words.seek(0, os.SEEK_END)
    words.seek(max(words.tell() - 4096, 0))
    lines = words.read().decode(errors="replace").strip().splitlines()
    return lines[-1][:300] if lines else ""
