# SPDX-License-Identifier: Apache-2.0
"""Storlets of all kinds in one sandbox, run by storlets' real gateway."""

import os
import pathlib
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from container_stack import exceptions
from container_stack.drivers import storlet_runtime
from container_stack.host import containers, images
from container_stack.storlets.verification import scratch, trial, verify

from .storlet_host import storlet_base as storlet_base
from .storlet_host import storlet_host as storlet_host
from .storlet_verifier import OPTIONS

Run = Callable[..., verify.Answer]

STORLET = """
import time

class Storlet(object):
    def __init__(self, logger):
        self.logger = logger

    def __call__(self, in_files, out_files, params):
        source, target = in_files[0], out_files[0]
        BODY
        target.close()
"""
COPY = "target.set_metadata(source.get_metadata()); target.write(source.read())"


@pytest.fixture(scope="module")
def sandbox(engine: containers.Engine, storlet_base: str) -> Iterator[verify.Sandbox]:
    """A sandbox of the base image, with which the gateway is more impatient than usual."""
    directory = tempfile.mkdtemp(prefix="cstest-", dir="/var/tmp")
    every = images.Images(engine)
    host = scratch.Engine(engine.connection.url, engine, every)
    with scratch.lend(directory, host) as place:
        every.tag(storlet_base, place.reference)
        # The daemon of each storlet stays, and takes 10 MB.
        roomy = {"container_mem_limit": str(1024**3), "container_pids_limit": "200"}
        options = {**OPTIONS, **roomy, **place.options, "storlet_timeout": "5"}
        where = verify.Place(host.url, place.directory, place.scope, options, 20.0)
        runtime = storlet_runtime.GatewayRuntime(timeout=60.0)
        with runtime.open(where, lambda: None) as made:
            made.start()
            yield made
    shutil.rmtree(directory)


@pytest.fixture
def run(sandbox: verify.Sandbox, tmp_path: pathlib.Path) -> Run:
    """A function that runs a storlet with this body."""

    def run(
        body: str, data: bytes = b"abc", expected: bytes | None = None, **more: Any
    ) -> verify.Answer:
        name = f"storlet{secrets.token_hex(4)}"
        (tmp_path / f"{name}.py").write_text(STORLET.replace("BODY", body))
        (tmp_path / "in").write_bytes(data)
        if expected is not None:
            (tmp_path / "out").write_bytes(expected)
            more["output"] = str(tmp_path / "out")
        return sandbox.run(
            trial.Trial(
                file=str(tmp_path / f"{name}.py"),
                main=more.pop("main", f"{name}.Storlet"),
                input=str(tmp_path / "in"),
                **more,
            )
        )

    return run


def test_output_is_compared_byte_for_byte(run: Run) -> None:
    data = os.urandom(1_000_000)
    answer = run(COPY, data, data, metadata={"A": "b"})
    assert (answer.size, answer.differs, answer.metadata) == (1_000_000, None, {"A": "b"})
    other = data[:777_777] + bytes([data[777_777] ^ 1]) + data[777_778:]
    assert run(COPY, data, other).differs == 777_777


@pytest.mark.parametrize(
    ("expected", "differs"), [(b"ab", 2), (b"abcd", 3), (b"", 0), (b"abc", None)]
)
def test_output_that_is_longer_or_shorter_differs(
    run: Run, expected: bytes, differs: int | None
) -> None:
    assert run(COPY, b"abc", expected).differs == differs


def test_empty_object_stays_empty(run: Run) -> None:
    assert run(COPY, b"", b"").differs is None


def test_parameters_and_dependencies_arrive(run: Run, tmp_path: pathlib.Path) -> None:
    (tmp_path / "tool").write_text("#!/bin/sh\necho made by $1\n")
    (tmp_path / "tool").chmod(0o700)
    body = (
        "import subprocess; target.set_metadata({'Path': params['storlet_execution_path']}); "
        "target.write(subprocess.check_output([params['storlet_execution_path'] + '/tool', "
        "params['who']]))"
    )
    answer = run(
        body,
        expected=b"made by me\n",
        parameters={"who": "me"},
        dependencies=(str(tmp_path / "tool"),),
    )
    assert answer.differs is None
    assert answer.metadata["Path"].startswith("/var/lib/storlets/")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("raise KeyError('x')", "metadata"),
        ("time.sleep(60)", "no answer within 5 s"),
        ("target.set_metadata({'a': 'x' * 100000})", "metadata"),
        ("syntax error", "Daemon start failed|Failed to"),
        ("import os; os.kill(os.getppid(), 9); os._exit(1)", "metadata|execute"),
    ],
)
def test_storlet_that_fails_is_told(run: Run, body: str, said: str) -> None:
    with pytest.raises(exceptions.ProbeFailed, match=said):
        run(body)


def test_storlet_that_writes_without_end_is_cut_off(run: Run) -> None:
    body = "target.set_metadata({})\n        while True: target.write(b'x' * 65536)"
    assert run(body, expected=b"x" * 200_000).differs == 200_000


def test_storlet_that_swift_would_not_take_is_refused(run: Run) -> None:
    with pytest.raises(exceptions.ProbeFailed, match="Main class should be included"):
        run(COPY, main="other.Storlet")
    with pytest.raises(exceptions.ProbeFailed, match="Storlet name is incorrect"):
        run(COPY, language="java")


def test_sandbox_is_good_for_the_next_one(run: Run) -> None:
    assert run(COPY, b"abc", b"abc").differs is None
