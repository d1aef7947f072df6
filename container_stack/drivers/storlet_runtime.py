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
import signal
import subprocess
import sys
import tempfile
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any

from container_stack import exceptions
from container_stack.storlets import trial as trials
from container_stack.storlets import verify

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
        identity = self._identity()
        if "user" in identity:
            os.chown(place.directory, identity["user"], identity["group"])
        with tempfile.TemporaryFile() as words, self._process(place, words, identity) as process:
            sandbox = _Sandbox(process, place, self.timeout, watch)
            try:
                sandbox.load()
            except exceptions.ProbeFailed as exc:
                raise exceptions.HostNotReady(
                    f"Storlets' gateway doesn't run here: {_last(words) or exc}"
                ) from exc
            yield sandbox

    @contextlib.contextmanager
    def _process(
        self, place: verify.Place, words: IO[bytes], identity: Mapping[str, Any]
    ) -> Iterator["subprocess.Popen[bytes]"]:
        if identity and urllib.parse.urlsplit(place.engine_url).scheme == "unix":
            # Swift's user is in the group that may use the engine; not everywhere where we run.
            group = os.stat(urllib.parse.urlsplit(place.engine_url).path).st_gid
            identity = {**identity, "extra_groups": [*identity["extra_groups"], group]}
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        process = subprocess.Popen(
            [self.python, "-m", _MODULE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=words,
            cwd=place.directory,
            env={**kept, "DOCKER_HOST": place.engine_url},
            start_new_session=True,
            **identity,
        )
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            # Its pipes are closed without a last write to who isn't there any more.
            for pipe in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):
                    pipe and pipe.close()
            process.wait()

    def _identity(self) -> dict[str, Any]:
        if self.user is None or os.geteuid() != 0:
            return {}
        name, _, group = self.user.partition(":")
        try:
            entry = pwd.getpwuid(int(name)) if name.isdigit() else pwd.getpwnam(name)
        except KeyError as exc:
            if not name.isdigit():
                raise exceptions.HostNotReady(
                    f"This host has no user {name}, whom sandboxes run as; give its UID."
                ) from exc
            return {"user": int(name), "group": int(group or name), "extra_groups": []}
        return {
            "user": entry.pw_uid,
            "group": int(group or entry.pw_gid),
            "extra_groups": os.getgrouplist(entry.pw_name, entry.pw_gid),
        }


class _Sandbox:
    """Tells the gateway's process what to do, and waits no longer than it may."""

    def __init__(
        self,
        process: "subprocess.Popen[bytes]",
        place: verify.Place,
        timeout: float,
        watch: Callable[[], None],
    ) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._in, self._out = process.stdin, process.stdout
        self._place = place
        self._timeout = timeout
        self._watch = watch
        self._read = b""

    def load(self) -> None:
        """Have the gateway's modules loaded."""
        conf = dict(self._place.options)
        self._ask({"conf": conf, "scope": self._place.scope}, LOADING)

    def start(self) -> float:
        """Start it, and return the seconds that it took to answer a ping."""
        answer = self._ask({"do": "start"}, self._place.start_timeout + SLACK)
        return float(answer["seconds"])

    def run(self, trial: trials.Trial) -> verify.Answer:
        """Run a storlet in it, and return what came out."""
        order = dataclasses.asdict(trial) | {
            "do": "run",
            "file": os.path.abspath(trial.file),
            "input": os.path.abspath(trial.input),
            "output": trial.output and os.path.abspath(trial.output),
            "dependencies": [os.path.abspath(each) for each in trial.dependencies],
        }
        answer = self._ask(order, self._timeout)
        metadata = answer["metadata"]
        return verify.Answer(
            size=answer["size"],
            sha256=answer["sha256"],
            differs=answer["differs"],
            metadata=metadata if isinstance(metadata, dict) else {},
            seconds=float(answer["seconds"]),
        )

    def _ask(self, order: Mapping[str, Any], timeout: float) -> dict[str, Any]:
        with contextlib.suppress(OSError):
            self._in.write(json.dumps(order).encode() + b"\n")
            self._in.flush()
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
