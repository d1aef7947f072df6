# SPDX-License-Identifier: Apache-2.0
"""What follows a deployment: nodes that were down, rollback, and what is no longer kept."""

import pytest

from container_stack import exceptions
from container_stack.storlets.deployment import rollout, status
from container_stack.testing import nodes

from .storlet_fleet import ACCOUNT, OTHER, World, image, verified


@pytest.fixture
def world():
    return World()


A, B, C = (image(name) for name in "abc")


def test_node_that_may_be_down_is_finished_later():
    world = World(4, max_down=1)
    world.deploy(A)
    world[3].faults.down = True
    assert world.deploy(B).version.skipped == ("node3",)
    assert world.deploy(B).changed is False
    world[3].faults.down = False
    verdicts = [each.verdict for each in world.manager().status(ACCOUNT).nodes]
    assert verdicts == ["ok", "ok", status.Verdict.DIFFERENT, "ok"]
    result = world.manager().resume(ACCOUNT)
    assert (result.changed, result.unfinished) == (True, {})
    assert world.images() == {B.image_id}
    world.check(A.image_id, B.image_id)
    world[3].faults.down = world[4].faults.down = True
    with pytest.raises(exceptions.EngineUnavailable):
        world.deploy(C)


def test_new_node_gets_the_image_from_what_was_put_by(world):
    world.deploy(A)
    world.deploy(B)
    world.nodes.append(nodes.SimulatedNode("node4"))
    world[2].lose_images()
    assert world.manager().resume(ACCOUNT).unfinished == {}
    assert world.images() == {B.image_id}
    assert world.check(A.image_id, B.image_id).right


def test_repair_reports_what_it_cannot_do(world):
    world.deploy(A)
    world[1].lose_images()
    world[1].faults.full = True
    world[2].lose_images()
    result = world.manager().resume(ACCOUNT)
    assert set(result.unfinished) == {"node1"}
    assert world[2].request(ACCOUNT) == A.image_id
    assert not world.manager().resume(OTHER).changed


def test_rollback_goes_to_the_previous_version_and_to_any(world):
    for made in (A, B, C):
        world.deploy(made)
    assert world.manager().rollback(ACCOUNT).version.restores == 2
    assert world.images() == {B.image_id}
    assert world.manager(who="bob").rollback(ACCOUNT).version.restores == 1
    assert world.images() == {A.image_id}
    with pytest.raises(exceptions.NotFound):
        world.manager().rollback(ACCOUNT)
    back = world.manager().rollback(ACCOUNT, 3, note="after all").version
    assert (back.number, back.restores, back.image_id) == (6, 3, C.image_id)
    assert (back.report, back.note) == (verified(C), "after all")
    assert world.images() == {C.image_id}
    with pytest.raises(exceptions.NotFound):
        world.manager().rollback(ACCOUNT, 7)
    assert not world.manager().rollback(ACCOUNT, 3).changed
    newest = next(world.manager().history(ACCOUNT))
    assert newest.number == 6


def test_rollback_needs_no_archive_where_nodes_have_the_image(world):
    world.deploy(A)
    world.deploy(B)
    for each in list(world.store.list("storlet_images")):
        world.store.remove("storlet_images", each.name)
    world[2].calls.clear()
    world.manager().rollback(ACCOUNT)
    assert world.images() == {A.image_id}


def test_rollback_brings_the_image_to_nodes_that_lost_it(world):
    world.deploy(A)
    world.deploy(B)
    world[2].lose_images()
    world.manager().rollback(ACCOUNT)
    assert world.images() == {A.image_id}


def test_rollback_without_image_and_archive_changes_nothing(world):
    world.deploy(A)
    world.deploy(B)
    for each in list(world.store.list("storlet_images")):
        world.store.remove("storlet_images", each.name)
    world[2].forget(ACCOUNT, A.image_id)
    with pytest.raises(rollout.RolloutFailed, match="isn't kept in Swift"):
        world.manager().rollback(ACCOUNT)
    assert world.images() == {B.image_id}


def test_rollback_to_a_version_that_failed_is_refused(world):
    world.deploy(A)
    world[3].faults.probe = True
    with pytest.raises(rollout.RolloutFailed):
        world.deploy(B)
    world[3].faults.probe = False
    with pytest.raises(exceptions.InvalidRequest, match="Version 2"):
        world.manager().rollback(ACCOUNT, 2)


def test_old_versions_go_and_those_that_count_stay():
    world = World(3, keep=2)
    made = [image(name) for name in "abcd"]
    for each in made:
        world.deploy(each)
    for node in world.nodes:
        assert set(node.images) == {each.image_id for each in made[2:]}
    archives = [
        each.name for each in world.store.list("storlet_images", f"{ACCOUNT.scope}/images/")
    ]
    assert len(archives) == 2
    layers = [each.name for each in world.store.list("storlet_images", f"{ACCOUNT.scope}/layers/")]
    assert len(layers) == 4
    world.manager().rollback(ACCOUNT)
    assert world.images() == {made[2].image_id}


def test_gc_says_what_it_would_remove_and_leaves_what_is_in_use():
    world = World(3, keep=10)
    made = [image(name) for name in "abcd"]
    for each in made:
        world.deploy(each)
    world[2].switch(ACCOUNT, made[0].image_id)
    (would,) = world.manager().gc(ACCOUNT, keep=1, dry_run=True)
    assert would.images == {made[0].image_id: 2, made[1].image_id: 3}
    assert would.archives == (made[1].image_id,)
    assert [len(node.images) for node in world.nodes] == [4, 4, 4]
    (done,) = world.manager().gc(keep=1)
    assert done == would
    assert set(world[2].images) == {made[n].image_id for n in (0, 2, 3)}
    assert set(world[1].images) == {made[n].image_id for n in (2, 3)}
    assert next(iter(world.manager().gc(ACCOUNT, keep=1))).images == {}


def test_gc_leaves_archives_while_a_node_is_down():
    world = World(3, keep=10)
    for each in (A, B, C):
        world.deploy(each)
    world[2].faults.down = True
    (done,) = world.manager().gc(keep=2)
    assert (done.images, done.archives, set(done.failures)) == ({A.image_id: 2}, (), {"node2"})
    world[2].faults.down = False
    (done,) = world.manager().gc(keep=2)
    assert (done.images, done.archives) == ({A.image_id: 1}, (A.image_id,))


def test_gc_of_all_leaves_accounts_alone_that_are_being_changed(world):
    world.deploy(A)
    world.deploy(B, account=OTHER)
    with world.leases.hold(ACCOUNT.scope):
        done = {each.account: each for each in world.manager().gc()}
    assert done[ACCOUNT.name].busy
    assert not done[OTHER.name].busy
