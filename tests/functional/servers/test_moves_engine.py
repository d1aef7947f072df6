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
        last = 1
        while True:
            fate = mortal.Fate(last, self.engine.kill)
            with contextlib.suppress(exceptions.EngineUnavailable):
                acting = moving.service(self.host.settings, fate)
                moving.ACTIONS[name](acting, self.plan, self.host.image_id)
            if fate.steps < last:
                break
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
