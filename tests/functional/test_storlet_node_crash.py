# SPDX-License-Identifier: Apache-2.0
"""Whoever switches an image dies at each step, and so does the node's engine."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from container_stack import exceptions
from container_stack.testing import node_contract

from . import dockerd, storlet_client, storlet_host, storlet_kill, storlet_node


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dockerd.Dockerd]:
    """The engine of a Swift node, with the base image; its containers outlive it."""
    with storlet_node.running(tmp_path_factory.mktemp("node"), "--live-restore") as running:
        yield running


@pytest.fixture
def world(daemon: dockerd.Dockerd) -> Iterator[storlet_node.NodeWorld]:
    with storlet_node.world(daemon.url) as made:
        yield made


def test_switch_that_is_killed_at_any_step_can_be_repeated(
    world: storlet_node.NodeWorld,
) -> None:
    images = storlet_node.ready(world, "one", "two")
    current = images[0]
    world.node.switch(world.account, current)
    world.serve(world.account)
    for number, step in enumerate(storlet_kill.STEPS):
        wanted = images[1] if current == images[0] else images[0]
        kill(world, wanted, step)
        assert_served(world, step)
        if number % 2:
            world.again().sweep(world.account)
            assert_served(world, f"{step}, swept")
            assert_nothing_beside(world, step)
        world.again().switch(world.account, wanted)
        assert_nothing_beside(world, step)
        assert world.serve(world.account) == wanted, step
        state = world.node.state(world.account)
        assert (state.image_id, state.running, state.healthy) == (wanted, wanted, True), step
        current = wanted


def test_switch_that_is_killed_can_be_taken_back(world: storlet_node.NodeWorld) -> None:
    one, two = storlet_node.ready(world, "one", "two")
    world.node.switch(world.account, one)
    for step in ("probe", "tag", "exchange", "rename-new"):
        kill(world, two, step)
        world.again().switch(world.account, one)
        assert world.serve(world.account) == one
        assert world.node.state(world.account).image_id == one
        assert_nothing_beside(world, step)


def kill(world: storlet_node.NodeWorld, image_id: str, step: str) -> None:
    order = {
        "url": world.url,
        "options": world.options,
        "base": storlet_host.BASE,
        "account": world.account.name,
        "tag": world.account.image,
        "image": image_id,
    }
    argv = [sys.executable, storlet_kill.__file__, step]
    result = subprocess.run(
        argv, input=json.dumps(order).encode(), capture_output=True, check=False
    )
    assert result.returncode == -signal.SIGKILL, (step, result.stderr.decode()[-2000:])


def assert_served(world: storlet_node.NodeWorld, step: str) -> None:
    answer = storlet_client.ask(world.url, world.order())
    assert answer["error"] is None, (step, answer)


def assert_nothing_beside(world: storlet_node.NodeWorld, step: str) -> None:
    names = [each.name for each in world.engine.list()]
    assert names == [world.account.sandbox], step
    assert [path.name for path in Path(world.gateway.pipes).iterdir()] == [world.account.scope]


def test_engine_that_dies_while_an_image_comes_gets_it_again(
    daemon: dockerd.Dockerd, world: storlet_node.NodeWorld
) -> None:
    big = world.image("big", {f"blob-{n}": f"{n}" * 1_000_000 for n in range(10, 40)})

    def dying(skip: int) -> Iterator[bytes]:
        for number, piece in enumerate(big.stream(skip)):
            yield piece[: len(piece) // 2]
            if number == 2:
                daemon.kill()
            yield piece[len(piece) // 2 :]

    layers = node_contract.diff_ids(big)
    world.serve(world.account)
    with pytest.raises(exceptions.EngineUnavailable):
        world.node.stage(world.account, big.image_id, layers, dying)
    with pytest.raises(exceptions.EngineUnavailable):
        world.node.state(world.account)
    daemon.start()
    assert world.node.state(world.account).kept == frozenset()
    assert node_contract.stage(world, big) > 10_000_000
    world.node.switch(world.account, big.image_id)
    assert world.serve(world.account) == big.image_id


def test_engine_that_dies_while_images_are_switched_ends_well(
    daemon: dockerd.Dockerd, world: storlet_node.NodeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = storlet_node.ready(world, "one", "two")
    world.node.switch(world.account, one)
    for step in ("probe", "exchange"):
        with monkeypatch.context() as patched:
            storlet_kill.after(step, daemon.kill, patched.setattr)
            with pytest.raises(exceptions.EngineUnavailable):
                world.node.switch(world.account, two)
        daemon.start()
        assert_served(world, step)
        world.again().switch(world.account, two)
        assert world.serve(world.account) == two
        assert [each.name for each in world.engine.list()] == [world.account.sandbox]
        # A directory may be left where its sandbox is gone; the next switch has use for it.
        world.node.switch(world.account, one)
        assert_nothing_beside(world, step)
        world.node.switch(world.account, two)
        one, two = two, one
