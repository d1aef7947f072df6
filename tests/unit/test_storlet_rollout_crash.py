# SPDX-License-Identifier: Apache-2.0
"""Managers that die at each step of what they do, and others that go on with it."""

import pytest

from container_stack import exceptions
from container_stack.storlets.deployment import leases, rollout
from container_stack.testing import nodes

from .storlet_fleet import ACCOUNT, World, image

A, B, C = (image(name) for name in "abc")

#: More calls of nodes and store than anything here makes.
ENOUGH = 2000


def deployed(*made) -> World:
    """Return three nodes and what has been deployed on them."""
    world = World(wave=1, concurrency=2)
    for each in made:
        world.deploy(each)
    return world


def settled(world: World, *allowed: str) -> str:
    """See that all nodes have one of these images, and only what they should; return which."""
    (found,) = world.images()
    assert found in allowed
    status = world.check(*allowed)
    current = status.current.image_id if status.current else nodes.DEFAULT
    assert current == found
    versions = list(world.manager().history(ACCOUNT))
    wanted = {each.image_id for each in versions if each.outcome == "deployed"}
    for node in world.nodes:
        assert node.state(ACCOUNT).kept == wanted
        assert set(node.images) == wanted
    numbers = [each.number for each in versions]
    assert numbers == sorted(set(numbers), reverse=True)
    return found


def resumed(world: World, **kwargs) -> None:
    result = world.manager().resume(ACCOUNT, **kwargs)
    assert result.unfinished == {}


@pytest.mark.parametrize("undo", [False, True], ids=["go on", "undo"])
@pytest.mark.parametrize("before", [(), (A,)], ids=["first", "update"])
def test_killed_deployment_is_finished_or_undone(before, undo):
    ends = set()
    for calls in range(1, ENOUGH):
        world = deployed(*before)
        old = before[0].image_id if before else nodes.DEFAULT
        if not world.dies(calls, lambda: world.deploy(B)):  # noqa: B023
            break
        resumed(world, undo=undo)
        ends.add(settled(world, old, B.image_id))
        world.deploy(C)
        settled(world, C.image_id, old, B.image_id)
    else:
        raise AssertionError("it takes more calls than was thought")
    assert calls > 50
    assert ends == {old, B.image_id}


def test_killed_rollback_is_finished_or_undone():
    ends = set()
    for calls in range(1, ENOUGH):
        world = deployed(A, B)
        world[2].lose_images()
        world.manager().resume(ACCOUNT)
        if not world.dies(calls, lambda: world.manager().rollback(ACCOUNT)):  # noqa: B023
            break
        resumed(world)
        (found,) = world.images()
        ends.add(found)
        assert world.check(A.image_id, B.image_id).current.image_id == found
    assert calls > 50
    assert ends == {A.image_id, B.image_id}


def test_killed_undoing_goes_on():
    for calls in range(1, ENOUGH):
        world = deployed(A)
        world[3].faults.probe = True

        def deploy(world=world):
            with pytest.raises(rollout.RolloutFailed):
                world.deploy(B)

        if not world.dies(calls, deploy):
            break
        world[3].faults.probe = False
        resumed(world)
        settled(world, A.image_id, B.image_id)
    assert calls > 50


def test_killed_resumption_is_resumed():
    """The second manager dies at each of its steps too, whatever the first one had left."""
    for first in (12, 25, 40, 55, 70):
        for calls in range(1, ENOUGH):
            world = deployed(A)
            assert world.dies(first, lambda: world.deploy(B))  # noqa: B023
            if not world.dies(calls, lambda: world.manager().resume(ACCOUNT)):  # noqa: B023
                break
            resumed(world)
            settled(world, A.image_id, B.image_id)


def test_killed_collection_removes_nothing_that_is_wanted():
    for calls in range(1, ENOUGH):
        world = World(keep=10)
        for made in (A, B, C):
            world.deploy(made)
        if not world.dies(calls, lambda: list(world.manager().gc(keep=2))):  # noqa: B023
            break
        assert not next(iter(world.manager().gc(keep=2))).failures
        assert all(set(node.images) == {B.image_id, C.image_id} for node in world.nodes)
        world[1].lose_images()
        world.manager().rollback(ACCOUNT)
        assert world.images() == {B.image_id}
    assert calls > 10


def test_lease_lost_at_any_step_stops_the_deployment_there():
    """Nothing is changed on nodes or in the store after the step that was under way."""
    for calls in range(1, ENOUGH):
        world = deployed(A)
        left = [calls]
        after = []

        def step(*what, world=world, left=left, after=after):
            left[0] -= 1
            if left[0] == 0:
                world.leases.lose()
            elif left[0] < 0:
                after.append(what)

        world.step = step
        try:
            world.deploy(B)
        except leases.LeaseLost:
            begun = [what for what in after if what[1] in ("stage", "switch", "clear", "forget")]
            assert len(begun) <= world.policy.concurrency
        else:
            world.step = lambda *_what: None
            if left[0] > 0:
                break
        world.step = lambda *_what: None
        resumed(world)
        settled(world, A.image_id, B.image_id)
    assert calls > 50


def test_node_and_manager_die_together():
    world = deployed(A)
    world[2].faults.dies = "switch:swapped"
    for calls in range(1, ENOUGH):
        world = deployed(A)
        world[2].faults.dies = "switch:swapped"

        def deploy(world=world):
            with pytest.raises(rollout.RolloutFailed):
                world.deploy(B)

        if not world.dies(calls, deploy):
            break
        if world[2].faults.down:
            try:
                world.manager().resume(ACCOUNT)
            except exceptions.EngineUnavailable:
                assert world.manager().status(ACCOUNT).deployment is not None
            world[2].reboot()
        world[2].faults.dies = ""
        resumed(world)
        settled(world, A.image_id, B.image_id)
    assert calls > 50
