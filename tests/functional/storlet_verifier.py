# SPDX-License-Identifier: Apache-2.0
"""Verifiers for tests, on the engine of this machine, and what they must leave: nothing."""

import os
import pathlib
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping

import pytest

from container_stack.drivers import storlet_runtime
from container_stack.host import containers, images
from container_stack.storlets import gateway, model
from container_stack.storlets.verification import base, report, verify

from . import storlet_candidates

ACCOUNT = model.Account("AUTH_305f5f3d12834be187238e080b8643e4")
OPTIONS = {
    "container_mem_limit": str(128 * 1024**2),
    "container_cpu_quota": "90000",
    "container_cpu_period": "100000",
    "container_pids_limit": "32",
    "restart_linux_container_timeout": "20",
}
GROWTH = 200 * 1024**2

#: The tag and the sandbox of one; other tests of a run have names that begin alike.
_OF_A_VERIFICATION = re.compile(r"cs-[0-9a-f]{12}(:|_|$)")

Build = Callable[..., pathlib.Path]
Make = Callable[..., verify.Verifier]


@pytest.fixture
def directory() -> Iterator[str]:
    """For verifications, where names of sockets are short enough; in the end nothing is in it."""
    path = tempfile.mkdtemp(prefix="cstest-", dir="/var/tmp")
    os.chmod(path, 0o711)
    yield path
    left = set(os.listdir(path)) - {"lock"}
    shutil.rmtree(path)
    assert not left


@pytest.fixture
def verifier(
    engine: containers.Engine, storlet_base: str, directory: str
) -> Callable[..., verify.Verifier]:
    """A function that makes a verifier; keywords change it."""

    def make(
        options: Mapping[str, str] = OPTIONS,
        *,
        where: containers.Engine = engine,
        runtime: verify.Runtime | None = None,
        known: base.Base | None = None,
    ) -> verify.Verifier:
        image = images.Images(engine).find(storlet_base)
        assert image is not None
        return verify.Verifier(
            images.Images(where),
            where,
            runtime or storlet_runtime.GatewayRuntime(timeout=40.0),
            gateway.Gateway.of(dict(options)),
            known or base.Base.of(image),
            directory=directory,
            growth=GROWTH,
        )

    return make


@pytest.fixture
def build(tmp_path: pathlib.Path) -> Iterator[Build]:
    """A function that makes an archive, as :func:`storlet_candidates.build`."""
    path = tmp_path / "image.tar"
    yield lambda *args, **more: storlet_candidates.build(path, *args, **more)
    path.unlink(missing_ok=True)


@pytest.fixture(autouse=True)
def nothing_of_it_stays(engine: containers.Engine) -> Iterator[None]:
    """Neither images nor containers of a verification are left, whatever came out."""
    yield
    # Another run on this machine may be at it.
    deadline = time.monotonic() + 60
    while left := leftovers(engine):
        assert time.monotonic() < deadline, left
        time.sleep(0.5)


def leftovers(engine: containers.Engine) -> list[str]:
    """Return what verifications have in an engine."""
    with engine.connection.use() as client:
        tags = [tag for each in client.images() for tag in each["RepoTags"] or ()]
    names = [each.name for each in engine.list()]
    return [each for each in (*tags, *names) if _OF_A_VERIFICATION.match(each)]


def states(found: report.Report) -> dict[int, report.State]:
    return {each.number: each.state for each in found.findings}


def finding(found: report.Report, number: int) -> report.Finding:
    return next(each for each in found.findings if each.number == number)
