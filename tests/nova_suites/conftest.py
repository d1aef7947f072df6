# SPDX-License-Identifier: Apache-2.0
"""What Nova's suites find: our driver's options, an image, and a promise that nothing is left."""

import dataclasses
import io
import os
import shlex
import sys
import tarfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import fixtures
import pytest
from functional import busybox
from nova.tests import fixtures as nova_fixtures

from container_stack.host import containers, images
from container_stack.servers import spec
from container_stack.testing import privilege

from . import docker_glance

#: Debian's busybox has none. It keeps what it is told.
CHPASSWD = b"#!/bin/sh\ncat >/etc/passwords\n"
#: Says so, and obeys SIGTERM at once.
COMMAND = "trap 'exit 0' TERM; echo ready; while :; do sleep 0.1; done"


@dataclasses.dataclass(frozen=True)
class World:
    """A host for Nova's compute services.

    :param archive: of an image, as `docker save` writes it.
    :param host: what CONF.host begins with, so that runs side by side don't meet.
    """

    engine: containers.Engine
    archive: bytes
    state_dir: Path
    root_helper: str
    host: str

    def everything(self) -> list[containers.Container]:
        """Return all containers that are ours."""
        found = self.engine.list({"container_stack.kind": "server"})
        mine = f"nova-{self.host}"
        return [each for each in found if each.labels["container_stack.owner"].startswith(mine)]

    def container(self, server_id: str) -> containers.Container:
        return self.engine.inspect(spec.container_name(server_id))


@pytest.fixture(autouse=True)
def own_fixtures(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Nova's fixtures use images that an engine takes, and the real host."""
    monkeypatch.setattr(nova_fixtures, "SysFsPoisonFixture", fixtures.Fixture)
    monkeypatch.setattr(docker_glance.DockerGlance, "archive", world.archive)
    monkeypatch.setattr(nova_fixtures, "GlanceFixture", docker_glance.DockerGlance)


@pytest.fixture(autouse=True)
def in_world(request: pytest.FixtureRequest, world: World) -> None:
    """Show the world to Nova's test classes, which take no fixtures."""
    if request.cls is not None:
        request.cls.world = world


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    if os.geteuid() != 0:
        pytest.skip("interfaces need root, or sudo: see the acceptance of a normal user")
    host = f"cstest-{uuid.uuid4().hex[:8]}"
    directory = tmp_path_factory.mktemp("nova") / "state"
    privilege.make_executor(directory).close()
    engine = containers.Engine(os.environ.get("DOCKER_HOST", containers.DEFAULT_URL))
    made = World(engine, _archive(engine, host), directory, _helper(directory), host)
    yield made
    left = made.everything()
    for each in left:
        engine.remove(each.id)
    for name in images.Images(engine).tagged(f"*{host}*/*:*"):
        images.Images(engine).remove(name)
    engine.close()
    assert [each.name for each in left] == []


def _archive(engine: containers.Engine, host: str) -> bytes:
    known, reference = images.Images(engine), f"{host}:1"
    changes = ("ENV PATH=/bin", f'CMD ["/bin/sh", "-c", "{COMMAND}"]')
    root = io.BytesIO(busybox.root_file_system())
    with tarfile.open(fileobj=root, mode="a") as tar:
        member = tarfile.TarInfo("bin/chpasswd")
        member.size, member.mode = len(CHPASSWD), 0o755
        tar.addfile(member, io.BytesIO(CHPASSWD))
    known.import_tar(io.BytesIO(root.getvalue()), reference, changes)
    saved = b"".join(known.save([reference]))
    known.remove(reference)
    return saved


def _helper(state_dir: Path) -> str:
    """Return what starts the rootwrap daemon with the filters of a test's own directory."""
    config = state_dir.with_name(f"{state_dir.name}.rootwrap") / "rootwrap.conf"
    return shlex.join([sys.executable, "-m", "container_stack.rootwrap.cmd", str(config)])
