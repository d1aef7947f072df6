# SPDX-License-Identifier: Apache-2.0
"""Snapshots of servers in a real engine, and servers made from them."""

import contextlib
import hashlib
import io
import itertools
import json
import multiprocessing
import os
import pathlib
import signal
import tarfile
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from container_stack import exceptions
from container_stack.host import containers, images, locks
from container_stack.servers import images as server_images
from container_stack.servers import model, snapshots, spec

from .. import busybox, dockerd

MakeSpec = Callable[..., containers.ContainerSpec]


class World:
    """Servers of one owner, and what takes snapshots of them."""

    def __init__(self, engine: containers.Engine, state: pathlib.Path, make: MakeSpec) -> None:
        self.engine = engine
        self.images = images.Images(engine)
        self.owner = f"cstest-{uuid.uuid4().hex[:8]}"
        self.locks = locks.ObjectLocks(str(state / "locks"))
        self.kept = server_images.ServerImages(
            self.images, self.locks, owner=self.owner, state_dir=str(state)
        )
        self.snapshots = self.again()
        self._make = make

    def again(self, owner: str = "", directory: str | None = None) -> snapshots.Snapshots:
        return snapshots.Snapshots(
            self.engine, self.images, self.locks, owner=owner or self.owner, directory=directory
        )

    @contextlib.contextmanager
    def server(self, script: str, **more: object) -> Iterator[str]:
        """Give the id of a running server, after its script has said that it is ready."""
        server_id = str(uuid.uuid4())
        labels = spec.labels(self.owner, server_id)
        labels |= {model.ROLE: model.Role.MAIN, "metadata": "a tenant's"}
        values = {
            "name": spec.container_name(server_id),
            "labels": labels,
            "environment": {"PASSWORD": "secret"},
            "command": ["sh", "-c", f"{script}; touch /ready; exec sleep 3600"],
            "hostname": "host-of-a-tenant",
        }
        with self.engine.creating(self._make(**{**values, **more})) as container_id:
            self.engine.start(container_id)
            ready = ["sh", "-c", "until [ -e /ready ]; do sleep 0.1; done"]
            assert self.engine.exec(container_id, ready, timeout=60).exit_code == 0
            yield server_id
            self.engine.remove(container_id)

    def commits(self) -> list[images.Image]:
        return [
            each
            for each in self.images.labelled(snapshots.SNAPSHOT)
            if each.labels.get("container_stack.owner") == self.owner
        ]

    def booted(self, data: bytes) -> images.Image:
        """Return what the engine makes of a snapshot that came back from an image service."""
        digest = hashlib.sha512(data).hexdigest()
        image = model.Image(str(uuid.uuid4()), digest, "sha512", len(data))
        found = self.images.find(self.kept.ensure(image, lambda: iter([data])))
        assert found is not None
        return found


@pytest.fixture
def world(
    engine: containers.Engine, tmp_path: pathlib.Path, make_spec: MakeSpec
) -> Iterator[World]:
    made = World(engine, tmp_path, make_spec)
    yield made
    made.kept.prune([], older_than=0)
    left = made.commits()
    made.snapshots.prune()
    assert (left, made.kept.cached()) == ([], {})


def taken(world: World, server_id: str, **more: str) -> bytes:
    with world.again(**more).taking(server_id) as archive:
        return b"".join(archive)


@pytest.mark.parametrize("spooled", [False, True])
def test_snapshot_boots_as_the_image_with_what_was_written(
    world: World, busybox_image: str, tmp_path: pathlib.Path, spooled: bool
) -> None:
    base = world.images.find(busybox_image)
    assert base is not None
    directory = tmp_path / "spool" if spooled else None
    more = {"directory": str(directory)} if spooled else {}
    with world.server("echo kept >/root-was-here; rm /etc/passwd") as server_id:
        data = taken(world, server_id, **more)
        assert world.commits() == []
        (found,) = world.engine.list(spec.labels(world.owner, server_id))
        assert found.state == "running"
    made = world.booted(data)
    assert made.layers[: len(base.layers)] == base.layers
    assert len(made.layers) == len(base.layers) + 1
    assert {**made.config, "Labels": None} == {**base.config, "Labels": None}
    # Nothing of how the server ran is in it, in no part.
    for secret in (b"secret", b"root-was-here;", b"host-of-a-tenant", b"container_stack"):
        assert secret not in b"".join(described(data))
    with world.server("cat /root-was-here; ls /etc/passwd || echo gone", image=made.id) as other:
        said = world.engine.logs(spec.container_name(other)).split(b"\n")
        assert {b"kept", b"gone"} <= set(said)
    if directory:
        assert list(directory.iterdir()) == []


def described(data: bytes) -> Iterator[bytes]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for member in tar:
            file = tar.extractfile(member)
            assert file is not None
            if member.name.endswith(".json"):
                yield file.read()


def test_archive_can_be_read_again_and_is_the_same(world: World) -> None:
    with world.server("echo 1 >/one") as server_id, world.snapshots.taking(server_id) as archive:
        half = list(itertools.islice(archive, 2))
        assert half
        first, second = b"".join(archive), b"".join(archive)
        assert sorted(described(first)) == sorted(described(second))
        (told,) = json.loads(next(iter(reversed(list(described(first))))))
        assert told["RepoTags"] is None


def test_server_that_is_paused_or_stopped_stays_so(world: World) -> None:
    with world.server("echo 1 >/one") as server_id:
        name = spec.container_name(server_id)
        world.engine.pause(name)
        assert taken(world, server_id)
        assert world.engine.inspect(name).state == "paused"
        world.engine.unpause(name)
        world.engine.stop(name, 0)
        assert taken(world, server_id)
        assert world.engine.inspect(name).state == "exited"


def test_server_that_is_not_there_or_of_another_can_not_be_taken(world: World) -> None:
    missing = str(uuid.uuid4())
    with pytest.raises(model.ServerNotFound, match=missing):
        taken(world, missing)
    with pytest.raises(exceptions.InvalidRequest):
        taken(world, "../x")
    with world.server("true") as server_id, pytest.raises(model.ServerNotFound):
        taken(world, server_id, owner=f"{world.owner}-2")


def test_snapshot_that_is_given_up_leaves_nothing(world: World) -> None:
    def give_up(server_id: str) -> None:
        with world.snapshots.taking(server_id) as archive:
            assert next(iter(archive))
            raise exceptions.ServiceUnavailable("Glance is gone")

    with world.server("true") as server_id:
        with pytest.raises(exceptions.ServiceUnavailable):
            give_up(server_id)
        assert world.commits() == []


def test_snapshot_of_who_is_killed_goes_at_the_next_start(world: World) -> None:
    def killed(server_id: str) -> None:
        with world.snapshots.taking(server_id) as archive:
            assert next(iter(archive))
            os.kill(os.getpid(), signal.SIGKILL)

    with world.server("true") as server_id:
        process = multiprocessing.get_context("fork").Process(target=killed, args=(server_id,))
        process.start()
        process.join(120)
        assert process.exitcode == -signal.SIGKILL
        (left,) = world.commits()
        assert world.again(owner=f"{world.owner}-2").start() == []
        with world.snapshots.taking(server_id) as archive:
            # What is being read stays.
            (told,) = world.again().start()
            assert left.id in told
            assert b"".join(archive)
        assert world.commits() == []
        assert world.again().start() == []


def test_engine_that_dies_while_a_snapshot_is_read_forgets_it_later(
    make_dockerd: Callable[..., dockerd.Dockerd], tmp_path: pathlib.Path
) -> None:
    daemon = make_dockerd()
    engine = containers.Engine(daemon.url)
    image = busybox.import_image(images.Images(engine), "cstest-busybox:1")

    def make(**values: Any) -> containers.ContainerSpec:
        return containers.ContainerSpec(**{"image": image.id, "init": True, **values})

    world = World(engine, tmp_path, make)

    def read(server_id: str) -> None:
        with world.snapshots.taking(server_id) as archive:
            pieces = iter(archive)
            assert next(pieces)
            daemon.kill()
            assert list(pieces)

    with world.server("head -c 30000000 /dev/urandom >/blob") as server_id:
        with pytest.raises(exceptions.EngineUnavailable):
            read(server_id)
        daemon.start()
        assert len(world.again().start()) == 1
        assert (world.commits(), world.again().start()) == ([], [])
        assert taken(world, server_id)
    engine.close()
