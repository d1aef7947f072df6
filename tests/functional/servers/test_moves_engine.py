# SPDX-License-Identifier: Apache-2.0
"""The engine dies while a server moves and comes back, and no server is lost."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from container_stack import exceptions
from container_stack.host import containers, images
from container_stack.servers import assembly, model, spec

from .. import dockerd
from . import mortal, moving, server_host

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="starting another dockerd needs root")

#: The engine dies at the first step, and then at so many further on: its start takes seconds.
STRIDE = 3


class World:
    """A server on an engine that dies, which has no ports: that engine is in another network."""

    def __init__(self, engine: dockerd.Dockerd, host: server_host.Host) -> None:
        self.engine = engine
        self.host = host
        wish = model.Wish(command=server_host.READY, volumes=(("", "/data", False),))
        self.plan = host.plan(ports=(), wish=wish, files={"a": b"drive"})

    def again(self) -> assembly.Service:
        """Return a service that finds an engine which has just started again."""
        service = self.host.service()
        said = service.start()
        assert not any("Could not" in words for words in said), said
        return service

    def deaths(self, name: str) -> Iterator[int]:
        """Do something, and let the engine die at one step after the other until it is done."""
        action = moving.ACTIONS[name]
        return self.deaths_in(
            self.host, lambda acting: action(acting, self.plan, self.host.image_id)
        )

    def deaths_in(
        self, host: server_host.Host, act: Callable[[assembly.Service], None]
    ) -> Iterator[int]:
        """Let the engine die at one step after the other of what a service does on a host."""
        last = 1
        while True:
            fate = mortal.Fate(last, self.engine.kill)
            with contextlib.suppress(exceptions.EngineUnavailable):
                act(moving.service(host.settings, fate))
            if fate.steps < last:
                break
            # Who starts before the engine has to wait, and spoils nothing.
            with pytest.raises(exceptions.EngineUnavailable):
                host.service().start()
            self.engine.start()
            yield last
            last += STRIDE
        assert last > 1, "it has no steps; were they counted?"

    def write(self) -> None:
        assert self._run("echo kept > /root.txt; echo kept > /data/file") == ""

    def content(self) -> str:
        return self._run("cat /root.txt /data/file 2>/dev/null || true")

    def _run(self, line: str) -> str:
        argv = ["sh", "-c", line]
        return self.host.engine.exec(self.host.name(self.plan.id), argv).stdout.decode()

    def roles(self) -> set[str]:
        """Return the names of the server's containers, as what they stand."""
        prefix = spec.container_name(self.plan.id)
        found = self.host.engine.list(spec.labels(self.host.owner, self.plan.id))
        return {each.name.removeprefix(prefix) for each in found}

    def states(self) -> int:
        found = images.Images(self.host.engine).labelled("container_stack.state")
        return sum(each.labels["container_stack.owner"] == self.host.owner for each in found)


@pytest.fixture
def world(
    tmp_path: Path,
    image_id: str,
    engine: containers.Engine,
    make_dockerd: Callable[[], dockerd.Dockerd],
) -> Iterator[World]:
    own = make_dockerd()
    host = server_host.Host(tmp_path, image_id, own.url)
    images.Images(host.engine).load(images.Images(engine).save([image_id]))
    made = World(own, host)
    host.service().servers.spawn(made.plan, image_id)
    made.write()
    yield made
    service = host.service()
    service.servers.destroy(made.plan.id)
    service.moves.confirm(made.plan.id)
    service.rescues.tidy(made.plan.id)
    assert (made.states(), made.roles()) == (0, set())
    left = host.things()
    host.close()
    assert left | {"locks": 0, "links": 0} == server_host.nothing()


def test_engine_that_dies_in_a_move_leaves_the_server(world: World) -> None:
    for step in world.deaths("resize_and_revert"):
        service = world.again()
        assert world.roles() in ({""}, {"-resized"}, {"", "-resized"}), step
        if len(world.roles()) == 2:
            service.servers.destroy(world.plan.id)
        service.moves.revert(world.plan)
        assert world.content() == "kept\nkept\n", step
        assert (world.roles(), world.states()) == ({""}, 0), step
    for step in world.deaths("rebuild"):
        service = world.again()
        assert (world.roles(), world.states()) == ({""}, 0), step
        service.servers.power_on(world.plan)
        assert world.content() in ("kept\nkept\n", ""), step
        world.write()


def test_engine_that_dies_in_a_rescue_leaves_the_server(world: World) -> None:
    for step in world.deaths("rescue"):
        service = world.again()
        assert world.roles() in ({""}, {"", "-rescued"}), step
        service.rescues.unrescue(world.plan)
        assert (world.content(), world.roles()) == ("kept\nkept\n", {""}), step
    world.again().rescues.unrescue(world.plan)
    assert (world.content(), world.roles()) == ("kept\nkept\n", {""})


def test_engine_that_dies_in_a_migration_leaves_the_server(world: World, tmp_path: Path) -> None:
    service, server_id = world.host.service(), world.plan.id
    service.moves.park(world.plan)
    with service.moves.sending(server_id) as pieces:
        next(pieces)
        world.engine.kill()
        with pytest.raises(exceptions.EngineUnavailable):
            list(pieces)
    world.engine.start()
    with world.again().moves.sending(server_id) as pieces:
        parcel = b"".join(pieces)

    (tmp_path / "there").mkdir()
    there = server_host.Host(tmp_path / "there", world.host.image_id, world.engine.url)
    for step in world.deaths_in(
        there, lambda acting: acting.moves.receive(world.plan, iter([parcel]))
    ):
        arrived = there.service()
        arrived.start()
        if arrived.servers.list():
            arrived.servers.power_on(world.plan)
            assert world.content() == "kept\nkept\n", step
            arrived.servers.destroy(server_id)
            arrived.moves.confirm(server_id)
        assert there.things() | {"locks": 0, "links": 0} == server_host.nothing(), step
    assert world.content() == "kept\nkept\n"
    arrived = there.service()
    arrived.servers.destroy(server_id)
    arrived.moves.confirm(server_id)
    there.close()
    world.again().moves.revert(world.plan)
    assert (world.content(), world.roles()) == ("kept\nkept\n", {""})
