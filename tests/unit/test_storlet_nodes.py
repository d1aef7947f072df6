# SPDX-License-Identifier: Apache-2.0
"""Simulated nodes: the suite of all nodes, and the faults that they have on demand."""

import pytest

from container_stack import exceptions
from container_stack.storlets import model
from container_stack.storlets.image import archive
from container_stack.testing import engine_archives, node_contract, node_faults, nodes, tiny_images

BASE = b"the base layer" * 1000


class SimulatedWorld:
    """A simulated node."""

    def __init__(self) -> None:
        self.account = model.Account("AUTH_305f5f3d12834be187238e080b8643e4")
        self.other = model.Account("AUTH_b7238e080b8643e4305f5f3d12834be1")
        self.node = nodes.SimulatedNode("one", tiny_images.diff_ids(tiny_images.make([BASE])))

    def again(self) -> nodes.SimulatedNode:
        return self.node

    def image(self, name: str) -> archive.ImageArchive:
        return tiny_images.make([BASE, b"common", name.encode() * 100])

    def broken(self) -> archive.ImageArchive:
        return tiny_images.make([BASE, b"oh"], tiny_images.NO_PROBE)

    def serve(self, account: model.Account) -> str:
        return self.node.request(account)

    def holds(self, image_id: str) -> bool:
        return image_id in self.node.images


@pytest.fixture
def world() -> SimulatedWorld:
    made = SimulatedWorld()
    yield made
    assert made.node.requests.failed == 0
    assert made.node.leftovers == ()


class TestSimulatedNode(node_contract.NodeContract):
    @pytest.fixture
    def world(self, world):
        return world


def test_node_that_is_down_answers_nothing(world):
    world.node.faults.down = True
    for call in (
        world.node.check,
        lambda: world.node.state(world.account),
        lambda: world.node.request(world.account),
    ):
        with pytest.raises(exceptions.EngineUnavailable):
            call()


def test_full_node_takes_nothing_but_keeps_what_it_has(world):
    node_contract.stage(world, world.image("a"))
    world.node.faults.full = True
    with pytest.raises(exceptions.NoSpace):
        node_contract.stage(world, world.image("b"))
    assert node_contract.stage(world, world.image("a")) == 0


def test_node_that_loses_images_says_that_all_is_well(world):
    world.node.faults.loses = True
    assert node_contract.stage(world, world.image("a")) > 0
    assert world.node.state(world.account).kept == frozenset()


def test_deaf_node_says_that_it_has_switched(world):
    node_contract.stage(world, world.image("a"))
    world.node.faults.deaf = True
    world.node.switch(world.account, world.image("a").image_id)
    assert world.node.state(world.account).image_id is None


@pytest.mark.parametrize("step", [step for step in node_faults.STEPS if step.startswith("switch:")])
def test_switch_that_died_is_finished_or_undone_after_a_reboot(world, step):
    for name in ("a", "b"):
        node_contract.stage(world, world.image(name))
    world.node.switch(world.account, world.image("a").image_id)
    for name in ("b", "a"):
        world.node.faults.dies = step
        with pytest.raises(exceptions.EngineUnavailable, match="died"):
            world.node.switch(world.account, world.image("b").image_id)
        world.node.reboot()
        world.node.switch(world.account, world.image(name).image_id)
        assert world.serve(world.account) == world.image(name).image_id
        world.node.switch(world.account, world.image("a").image_id)


def test_step_is_told_and_may_end_everything():
    told = []

    def step(node, what):
        told.append((node, what))
        if what == "stage:half":
            raise KeyboardInterrupt

    node = nodes.SimulatedNode("n7", step=step)
    image = tiny_images.make([b"x"])
    with pytest.raises(KeyboardInterrupt):
        node.stage(
            model.Account("AUTH_a"), image.image_id, tiny_images.diff_ids(image), image.stream
        )
    assert told == [("n7", "stage"), ("n7", "stage:half")]
    assert node.images == ()


def test_registry_serves_what_it_has(world):
    image = world.image("a")
    loaded = engine_archives.load(image.stream(), [])
    node = nodes.SimulatedNode("one", registry={"r/a": loaded})
    node.stage_from(world.account, image.image_id, "r/a")
    assert node.state(world.account).kept == {image.image_id}
    with pytest.raises(exceptions.NotFound):
        node.stage_from(world.account, world.image("b").image_id, "r/b")
    with pytest.raises(exceptions.InvalidRequest):
        node.stage_from(world.account, world.image("b").image_id, "r/a")


def test_clients_that_meet_a_sick_image_are_counted():
    account = model.Account("AUTH_a")
    node = nodes.SimulatedNode("one")
    image = tiny_images.make([b"x"], tiny_images.SICK)
    node.stage(account, image.image_id, tiny_images.diff_ids(image), image.stream)
    node.switch(account, image.image_id)
    assert node.requests.failed > 0
    assert node.state(account).healthy is False
