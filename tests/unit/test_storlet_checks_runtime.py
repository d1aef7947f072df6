# SPDX-License-Identifier: Apache-2.0
"""The gateway's process: what it is given, how long it may take, and that nothing of it is left."""

import contextlib
import json
import os
import pathlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from container_stack import exceptions
from container_stack.drivers import storlet_gateway, storlet_runtime
from container_stack.storlets.verification import runtime, trial

Open = Callable[..., Any]

#: Answers as a gateway would, but for what a test puts in its place.
GATEWAY = """
import json, os, signal, subprocess, sys, time
def answer(**values):
    print(json.dumps(values), flush=True)
sys.stdin.readline()
answer(ready=True)
for line in sys.stdin:
    order = json.loads(line)
    if order["do"] == "start":
        open("environment", "w").write(json.dumps(dict(os.environ)))
        answer(seconds=0.5)
    else:
        ACTION
"""
ANSWER = "answer(size=3, sha256='ab', differs=None, metadata={'a': 'b'}, seconds=1.5)"


@pytest.fixture
def opened(tmp_path: pathlib.Path) -> Iterator[Open]:
    """A function that opens a runtime whose gateway does something odd."""

    def make(
        action: str,
        *,
        source: str = GATEWAY,
        timeout: float = 1.0,
        watch: Callable[[], None] = lambda: None,
    ) -> Any:
        program = tmp_path / "python"
        program.write_text(f"#!{sys.executable}\n" + source.replace("ACTION", action))
        program.chmod(0o755)
        place = runtime.Place("unix:///nowhere", str(tmp_path), "cs-0", {"a": "b"}, 0.5)
        return storlet_runtime.GatewayRuntime(timeout, python=str(program)).open(place, watch)

    yield make
    deadline = time.monotonic() + 5
    while _lives_in(tmp_path):
        assert time.monotonic() < deadline, "a process of the gateway's lives"
        time.sleep(0.02)


def _lives_in(directory: pathlib.Path) -> bool:
    """Tell whether a process has this working directory; who is about to end has none."""
    for path in pathlib.Path("/proc").glob("[0-9]*/cwd"):
        with contextlib.suppress(OSError):
            if os.readlink(path) == str(directory):
                return True
    return False


@pytest.fixture
def storlet(tmp_path: pathlib.Path) -> trial.Trial:
    (tmp_path / "a.py").touch()
    return trial.Trial(str(tmp_path / "a.py"), "a.A", str(tmp_path / "a.py"))


def test_answers_come_back(opened: Open, storlet: trial.Trial) -> None:
    with opened(ANSWER) as sandbox:
        assert sandbox.start() == 0.5
        for _ in range(2):
            assert sandbox.run(storlet) == runtime.Answer(3, "ab", None, {"a": "b"}, 1.5)


def test_gateway_learns_no_secrets(
    opened: Open, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    monkeypatch.setenv("OS_PASSWORD", "secret")
    monkeypatch.setenv("DOCKER_HOST", "tcp://elsewhere:1")
    with opened(ANSWER) as sandbox:
        sandbox.start()
    environment = json.loads((tmp_path / "environment").read_text())
    assert environment["DOCKER_HOST"] == "unix:///nowhere"
    assert "secret" not in environment.values()


@pytest.mark.parametrize(
    ("action", "said"),
    [
        ("time.sleep(100)", "within 1 s"),
        ("signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(100)", "within 1 s"),
        ("subprocess.Popen(['sleep', '100']); time.sleep(100)", "within 1 s"),
        ("sys.exit()", "took the gateway down"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "took the gateway down"),
        ("[sys.stdout.write('x' * 4096) for _ in range(10**6)]", "took the gateway down"),
        ("answer(error='no daemon.', said=[])", "no daemon."),
        ("answer(error='no daemon', said=['no python3', 'else'])", "no python3. no daemon."),
    ],
)
def test_gateway_that_fails_is_a_probe_that_failed(
    opened: Open, storlet: trial.Trial, action: str, said: str
) -> None:
    begin = time.monotonic()
    with opened(action) as sandbox:
        sandbox.start()
        with pytest.raises(exceptions.ProbeFailed, match=said):
            sandbox.run(storlet)
    assert time.monotonic() - begin < 5


def test_metadata_that_is_none_is_empty(opened: Open, storlet: trial.Trial) -> None:
    with opened(ANSWER.replace("{'a': 'b'}", "['a']")) as sandbox:
        sandbox.start()
        assert sandbox.run(storlet).metadata == {}


def test_gateway_that_does_not_load_is_the_hosts_fault(opened: Open) -> None:
    broken = "import sys\nsys.exit('No module named storlets')"
    with (
        pytest.raises(exceptions.HostNotReady, match="No module named storlets"),
        opened("", source=broken) as sandbox,
    ):
        sandbox.start()


def test_watch_ends_what_runs(opened: Open, storlet: trial.Trial) -> None:
    full = []

    def watch() -> None:
        if full:
            raise exceptions.ProbeFailed("The disk is full.")

    begin = time.monotonic()
    with opened("time.sleep(100)", timeout=60.0, watch=watch) as sandbox:
        sandbox.start()
        full.append(True)
        with pytest.raises(exceptions.ProbeFailed, match="disk"):
            sandbox.run(storlet)
    assert time.monotonic() - begin < 5


def test_error_in_the_body_ends_the_gateway(opened: Open) -> None:
    def body() -> None:
        with opened("time.sleep(100)") as sandbox:
            sandbox.start()
            raise KeyError

    with pytest.raises(KeyError):
        body()


@pytest.mark.parametrize(
    ("output", "expected", "differs"),
    [
        ([b""], b"", None),
        ([b"ab", b"c"], b"abc", None),
        ([b"abc"], None, None),
        ([b"ab", b"d"], b"abc", 2),
        ([b"ab"], b"abc", 2),
        ([b"abc", b"d"], b"abc", 3),
        ([], b"a", 0),
        ([b"xbc"], b"abc", 0),
    ],
)
def test_first_byte_that_differs_is_found(
    output: list[bytes], expected: bytes | None, differs: int | None, tmp_path: pathlib.Path
) -> None:
    path = None
    if expected is not None:
        (tmp_path / "expected").write_bytes(expected)
        path = str(tmp_path / "expected")
    found = storlet_gateway.compared(iter(output), path)
    assert found["differs"] == differs
    assert found["size"] == sum(map(len, output))


def test_no_more_is_read_than_tells_the_difference(tmp_path: pathlib.Path) -> None:
    (tmp_path / "expected").write_bytes(b"abc")

    def endless() -> Iterator[bytes]:
        while True:
            yield b"ab"

    found = storlet_gateway.compared(endless(), str(tmp_path / "expected"))
    assert (found["size"], found["differs"]) == (4, 2)
