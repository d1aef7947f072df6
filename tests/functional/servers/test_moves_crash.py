# SPDX-License-Identifier: Apache-2.0
"""A process that moves a server is killed after each of its steps, and no server is lost."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from container_stack.host import images
from container_stack.servers import assembly, model, spec

from . import mortal, moving, server_host

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="interfaces need root")

Context = multiprocessing.context.ForkServerContext


@pytest.fixture(scope="module")
def spawner() -> Context:
    """Starts processes that have imported all that they need, and have no threads."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([moving.__name__])
    return context


class World:
    """A host with one server, which is killed and looked after in turns."""

    def __init__(self, host: server_host.Host, spawner: Context) -> None:
        self.host = host
        self.plan = host.plan(wish=_wish(), files={"a": b"drive"})
        self._spawner = spawner
        self._done = host.state_dir.with_name("done")

    def service(self) -> assembly.Service:
        run = mortal.RootExecutor(state_dir=str(self.host.state_dir))
        return assembly.assemble(self.host.settings, self.host.engine, run)

    def again(self) -> assembly.Service:
        """Return a service that has just started after a crash."""
        service = self.service()
        said = service.start()
        assert not any("Could not" in words for words in said), said
        return service

    def spawn(self) -> None:
        self.service().servers.spawn(self.plan, self.host.image_id)
        self.write("kept")

    def write(self, text: str) -> None:
        line = f"echo {text} > /root.txt; echo {text} > /data/file"
        assert self._run(line) == ""

    def content(self) -> str:
        return self._run("cat /root.txt /data/file 2>/dev/null || true")

    def _run(self, line: str) -> str:
        argv = ["sh", "-c", line]
        return self.host.engine.exec(self.host.name(self.plan.id), argv).stdout.decode()

    def act(self, name: str, last: int) -> bool:
        """Let a process do something; return whether it was killed after this step."""
        values = (name, self.plan, self.host.image_id)
        return self._killed(moving.act, (self.host.settings, *values), last)

    def receive(self, settings: assembly.Settings, parcel: Path, last: int) -> bool:
        return self._killed(moving.receive, (settings, self.plan, str(parcel)), last)

    def _killed(self, action: Callable[..., None], values: tuple[object, ...], last: int) -> bool:
        self._done.unlink(missing_ok=True)
        child = self._spawner.Process(target=action, args=(*values, last, str(self._done)))
        child.start()
        child.join(300)
        if child.exitcode == 0:
            return False
        assert child.exitcode == -signal.SIGKILL
        return True

    def roles(self) -> set[str]:
        """Return the names of the server's containers, as what they stand."""
        prefix = spec.container_name(self.plan.id)
        return {each.name.removeprefix(prefix) for each in self.host.engine.list(self._own())}

    def _own(self) -> dict[str, str]:
        return spec.labels(self.host.owner, self.plan.id)

    def destroy(self) -> None:
        service = self.service()
        service.servers.destroy(self.plan.id)
        service.moves.confirm(self.plan.id)
        service.rescues.tidy(self.plan.id)

    def states(self) -> int:
        found = images.Images(self.host.engine).labelled("container_stack.state")
        return sum(each.labels["container_stack.owner"] == self.host.owner for each in found)


def _wish() -> model.Wish:
    return model.Wish(command=server_host.READY, volumes=(("", "/data", False),))


@pytest.fixture
def world(tmp_path: Path, image_id: str, spawner: Context) -> Iterator[World]:
    made = World(server_host.Host(tmp_path, image_id), spawner)
    made.spawn()
    yield made
    made.destroy()
    assert (made.states(), made.roles()) == (0, set())
    assert str(made.host.state_dir) not in Path("/proc/self/mountinfo").read_text()
    left = made.host.things()
    made.host.close()
    assert left | {"locks": 0} == server_host.nothing()


def kills(world: World, name: str) -> Iterator[int]:
    """Kill an action at its first step, then at its second, and so on to its end."""
    last = 1
    while world.act(name, last):
        yield last
        last += 1
    assert last > 1, "it has no steps; were they counted?"


def test_killed_resize_can_be_reverted(world: World) -> None:
    for step in kills(world, "resize_and_revert"):
        service = world.again()
        assert world.roles() in ({""}, {"-resized"}, {"", "-resized"}), step
        if len(world.roles()) == 2:
            service.servers.destroy(world.plan.id)
        service.moves.revert(world.plan)
        assert world.content() == "kept\nkept\n", step
        assert (world.roles(), world.states(), len(world.host.links())) == ({""}, 0, 1), step


def test_killed_confirmation_can_be_repeated(world: World) -> None:
    moving.resize(world.service(), world.plan, "")
    for step in kills(world, "confirm"):
        service = world.again()
        service.moves.confirm(world.plan.id)
        assert world.content() == "kept\nkept\n", step
        assert (world.roles(), world.states(), len(world.host.links())) == ({""}, 1, 1), step
        moving.resize(service, world.plan, "")
    assert (world.content(), world.roles(), world.states()) == ("kept\nkept\n", {""}, 1)


def test_killed_rebuild_is_finished_or_undone(world: World) -> None:
    for step in kills(world, "rebuild"):
        service = world.again()
        assert (world.roles(), world.states()) == ({""}, 0), step
        service.servers.power_on(world.plan)
        assert world.content() in ("kept\nkept\n", ""), step
        assert len(world.host.links()) == 1, step
        world.write("kept")


def test_killed_rescue_is_finished_or_undone(world: World) -> None:
    for step in kills(world, "rescue"):
        service = world.again()
        assert world.roles() in ({""}, {"", "-rescued"}), step
        service.rescues.unrescue(world.plan)
        assert (world.content(), world.roles()) == ("kept\nkept\n", {""}), step
    for _step in kills(world, "unrescue"):
        world.again().rescues.rescue(world.plan, world.host.image_id)
    assert (world.content(), world.roles()) == ("kept\nkept\n", {""})


def test_killed_arrival_leaves_nothing_or_all(world: World, tmp_path: Path, image_id: str) -> None:
    service = world.service()
    service.moves.park(world.plan)
    parcel = tmp_path / "parcel"
    with service.moves.sending(world.plan.id) as pieces, parcel.open("wb") as file:
        file.writelines(pieces)
    (tmp_path / "other").mkdir()
    there = World(server_host.Host(tmp_path / "other", image_id), world._spawner)
    there.plan = world.plan
    last = 1
    while world.receive(there.host.settings, parcel, last):
        arrived = there.again()
        if there.roles():
            assert there.content() == "kept\nkept\n", last
            there.destroy()
        assert arrived.servers.list() == []
        assert there.host.things() | {"links": 0, "locks": 0} == server_host.nothing(), last
        last += 1
    assert there.content() == "kept\nkept\n"
    there.destroy()
    there.host.close()
    service.moves.revert(world.plan)
