# SPDX-License-Identifier: Apache-2.0
"""Deployments over simulated nodes: all of them get the image, or none does."""

import threading

import pytest

from container_stack import exceptions
from container_stack.storlets import model
from container_stack.storlets.deployment import events, leases, rollout, versions
from container_stack.storlets.verification import report
from container_stack.testing import engine_archives, node_faults, nodes, tiny_images

from .storlet_fleet import ACCOUNT, MANAGER, OTHER, World, image, verified


@pytest.fixture
def world():
    return World()


A, B, C = (image(name) for name in "abc")


def test_image_is_on_all_nodes_and_in_the_history(world):
    source = versions.Source("docker_images", "a.tar", "0" * 32)
    result = world.deploy(A, source=source, note="first")
    assert result.changed
    assert world.images() == {A.image_id}
    assert world.check(A.image_id).current.number == 1
    (version,) = world.manager().history(ACCOUNT)
    assert version == result.version
    assert (version.number, version.image_id, version.who) == (1, A.image_id, "ann")
    assert (version.source, version.note, version.report) == (source, "first", verified(A))
    assert [layer.size for layer in version.layers] == [layer.size for layer in A.layers]


def test_only_layers_that_a_node_lacks_are_sent(world):
    first = world.deploy(A).plan
    assert [each.shared for each in first.nodes] == [1, 1, 1]
    second = world.deploy(B).plan
    assert [each.shared for each in second.nodes] == [2, 2, 2]
    assert [each.send for each in second.nodes] == [B.layers[2].size] * 3
    staged = [each for each in world.events if each.step is events.Step.STAGE]
    assert staged[-1].sent == 3 * sum(map(len, B.stream(2)))


def test_same_image_again_changes_nothing_and_asks_only_for_the_state(world):
    world.deploy(A)
    for node in world.nodes:
        node.calls.clear()
    result = world.deploy(A)
    assert not result.changed
    assert result.version.number == 1
    assert [dict(node.calls) for node in world.nodes] == [{"state": 1}] * 3
    assert len(list(world.manager().history(ACCOUNT))) == 1


def test_dry_run_plans_and_changes_nothing(world):
    world.deploy(A)
    before = [(each.name, each.etag) for each in world.store.list("storlet_deployments")]
    result = world.deploy(B, dry_run=True)
    assert (result.changed, result.plan.send) == (False, 3 * B.layers[2].size)
    assert [len(wave) for wave in result.plan.waves] == [1, 2]
    assert world.images() == {A.image_id}
    assert [node.state(ACCOUNT).kept for node in world.nodes] == [{A.image_id}] * 3
    assert before == [(each.name, each.etag) for each in world.store.list("storlet_deployments")]


def test_canaries_go_first_and_waves_follow():
    world = World(8, canaries=2, wave=4)
    world.deploy(A)
    told = [each for each in world.events if each.step in (events.Step.CANARY, events.Step.WAVE)]
    waves = {each.wave: (each.step, each.nodes) for each in told}
    assert waves == {1: ("canary", 1), 2: ("canary", 1), 3: ("wave", 4), 4: ("wave", 2)}
    assert [each.node for each in told if each.node][:2] == ["node1", "node2"]
    assert [each.done for each in told if each.wave == 3] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    "wrong",
    [
        verified(A, state=report.State.FAILED),
        verified(B),
        verified(A, OTHER),
        report.Report(ACCOUNT.name, A.image_id, 1, 1.0, 1.0, []),
    ],
    ids=["failed", "of another image", "of another account", "of nothing"],
)
def test_unverified_image_is_refused(world, wrong):
    with pytest.raises(exceptions.InvalidRequest):
        world.manager().deploy(ACCOUNT, A, wrong)
    assert all(not node.calls for node in world.nodes)


def test_account_with_the_scope_of_another_is_refused(world):
    world.deploy(A)
    twin = model.Account(ACCOUNT.name[:18] + "0" * 10)
    assert twin.scope == ACCOUNT.scope
    for action in (
        lambda: world.deploy(B, account=twin),
        lambda: world.deploy(B, account=twin, dry_run=True),
        lambda: world.manager().status(twin),
        lambda: world.manager().history(twin),
        lambda: world.manager().rollback(twin),
        lambda: world.manager().resume(twin),
        lambda: list(world.manager().gc(twin)),
    ):
        with pytest.raises(exceptions.InvalidRequest, match="scope"):
            action()
    assert world.images() == {A.image_id}


def test_managers_own_account_has_no_image(world):
    with pytest.raises(exceptions.InvalidRequest, match="own account"):
        world.deploy(A, account=model.Account(MANAGER))


def fail(world, fault):
    node = world[3]
    setattr(node.faults, fault, "switch:swapped" if fault == "dies" else True)


@pytest.mark.parametrize("fault", ["full", "probe", "loses", "deaf"])
def test_failure_on_one_node_puts_all_back(world, fault):
    world.deploy(A)
    fail(world, fault)
    with pytest.raises(rollout.RolloutFailed) as caught:
        world.deploy(B)
    assert set(caught.value.failures) == {"node3"}
    assert caught.value.unfinished == {}
    assert world.images() == {A.image_id}
    for node in world.nodes:
        assert node.images == (A.image_id,)
        assert node.state(ACCOUNT).kept == {A.image_id}
    assert world.check(A.image_id, B.image_id).current.number == 1
    failed, first = world.manager().history(ACCOUNT)
    assert (failed.number, failed.outcome, first.outcome) == (2, "failed", "deployed")
    assert "node3" in failed.error


@pytest.mark.parametrize("fault", ["full", "probe", "loses", "deaf"])
def test_failed_first_image_leaves_the_default_one(world, fault):
    fail(world, fault)
    with pytest.raises(rollout.RolloutFailed):
        world.deploy(A)
    assert world.images() == {nodes.DEFAULT}
    assert [node.images for node in world.nodes] == [()] * 3
    assert world.check(A.image_id).current is None


def test_bad_image_stops_at_the_canary():
    world = World(5)
    world.deploy(A)
    for fault in (tiny_images.NO_PROBE, tiny_images.SICK):
        bad = image("bad", fault)
        with pytest.raises(rollout.RolloutFailed):
            world.deploy(bad)
        assert world.images() == {A.image_id}
        assert all(bad.image_id not in node.requests.served for node in world.nodes)
    assert [node.requests.failed for node in world.nodes[1:]] == [0] * 4


def test_every_node_goes_back_to_its_own_image(world):
    world.deploy(A)
    node_contract_stage(world[2], C)
    world[2].switch(ACCOUNT, C.image_id)
    world[1].clear(ACCOUNT)
    world[3].faults.probe = True
    with pytest.raises(rollout.RolloutFailed):
        world.deploy(B)
    assert [node.state(ACCOUNT).image_id for node in world.nodes] == [None, C.image_id, A.image_id]


def node_contract_stage(node, made):
    node.stage(ACCOUNT, made.image_id, tiny_images.diff_ids(made), made.stream)


@pytest.mark.parametrize(
    "step", [each for each in node_faults.STEPS if each.split(":")[0] in ("stage", "switch")]
)
def test_node_that_dies_is_put_back_when_it_is_up_again(world, step):
    world.deploy(A)
    world[2].faults.dies = step
    with pytest.raises(rollout.RolloutFailed) as caught:
        world.deploy(B)
    assert set(caught.value.unfinished) == {"node2"}
    assert {world[1].request(ACCOUNT), world[3].request(ACCOUNT)} == {A.image_id}
    found = world.manager().status(ACCOUNT)
    assert found.deployment.unfinished == ("node2",)
    assert [each.verdict for each in found.nodes] == ["ok", "down", "ok"]
    with pytest.raises(exceptions.Busy, match="resume"):
        world.deploy(C)
    still = world.manager().resume(ACCOUNT)
    assert (still.undone, set(still.unfinished)) == (True, {"node2"})
    world[2].reboot()
    assert world.manager().resume(ACCOUNT).unfinished == {}
    assert world.images() == {A.image_id}
    assert B.image_id not in world[2].images
    world.check(A.image_id, B.image_id)
    world.deploy(C)


def test_dead_node_is_given_up_by_the_inventory(world):
    world.deploy(A)
    world[2].faults.dies = "switch:tagged"
    with pytest.raises(rollout.RolloutFailed):
        world.deploy(B)
    del world.nodes[1]
    assert world.manager().resume(ACCOUNT).unfinished == {}
    world.deploy(C)
    assert world.images() == {C.image_id}


def test_node_that_is_down_stops_a_deployment_before_it_begins(world):
    world[2].faults.down = True
    with pytest.raises(exceptions.EngineUnavailable, match="node2"):
        world.deploy(A)
    assert world.manager().status(ACCOUNT).deployment is None
    assert world[1].images == ()


def test_node_that_was_down_is_not_touched_when_the_others_go_back():
    world = World(4, max_down=1)
    world.deploy(A)
    world[3].faults.down = True
    world[4].faults.probe = True
    with pytest.raises(rollout.RolloutFailed) as caught:
        world.deploy(B)
    assert caught.value.unfinished == {}
    assert world.manager().status(ACCOUNT).deployment is None


def test_node_that_cannot_take_the_image_stops_a_deployment_before_it_begins(world):
    world[2].faults.unready = "there is no /dev/log"
    with pytest.raises(exceptions.HostNotReady, match="node2: there is no /dev/log"):
        world.deploy(A)
    assert world.deploy(A, dry_run=True).plan.unready == {"node2": "there is no /dev/log"}


def test_second_deployment_of_an_account_waits_for_nobody(world):
    inside, go = threading.Event(), threading.Event()

    def watcher(event):
        if event.step is events.Step.STAGE:
            inside.set()
            assert go.wait(10)

    first = threading.Thread(target=world.deploy, args=(A,), kwargs={"watcher": watcher})
    first.start()
    assert inside.wait(10)
    try:
        with pytest.raises(exceptions.Busy):
            world.deploy(B)
        world.deploy(B, account=OTHER)
    finally:
        go.set()
        first.join()
    assert world.images() == {A.image_id}


@pytest.mark.parametrize(
    "where", [("node2", "stage:half"), ("node1", "switch:swapped"), ("node3", "switch")]
)
def test_deployment_stops_when_its_lease_is_lost(world, where):
    world.deploy(A)
    calls = []

    def step(*what):
        if what == where:
            world.leases.lose()
            world.nodes[0].calls.clear()
            calls.append(what)

    world.step = step
    with pytest.raises(leases.LeaseLost):
        world.deploy(B)
    world.step = lambda *_what: None
    assert calls
    found = world.manager().status(ACCOUNT)
    assert found.deployment is not None
    world.manager().resume(ACCOUNT)
    assert world.images() in ({A.image_id}, {B.image_id})
    world.check(A.image_id, B.image_id)


def test_manager_that_was_taken_over_writes_nothing_more(world):
    """Locks in files of two hosts don't know of each other; the record does."""
    world.deploy(A)

    def step(*what):
        if what == ("store", "read") and B.image_id in world[1].requests.served:
            world.step = lambda *_what: None
            world.manager().resume(ACCOUNT)

    world.step = step
    manager = world.manager(lock=lambda _name: _Careless())
    with pytest.raises(leases.LeaseLost, match="taken over"):
        world.deploy(B, manager=manager)
    assert world.images() == {B.image_id}
    assert world.check(A.image_id, B.image_id).current.number == 2


class _Careless:
    """A lease that never notices anything."""

    def __enter__(self):
        return self

    def __exit__(self, *_exc):
        return None

    def check(self):
        return None


@pytest.mark.parametrize(
    "where", [("node1", "stage:half"), ("node1", "switch:swapped"), ("node3", "switch:tagged")]
)
def test_interrupted_deployment_is_undone(world, where):
    world.deploy(A)

    def step(*what):
        if what == where:
            world.step = lambda *_what: None
            raise KeyboardInterrupt

    world.step = step
    with pytest.raises(KeyboardInterrupt):
        world.deploy(B)
    assert world.images() == {A.image_id}
    assert all(node.state(ACCOUNT).kept == {A.image_id} for node in world.nodes)
    world[1].sweep(ACCOUNT)
    world.check(A.image_id, B.image_id)


def test_store_that_fails_puts_nodes_back(world):
    world.deploy(A)
    for failing in range(1, 60):
        manager = world.manager()
        counter = [0]

        def step(*what, counter=counter, failing=failing):
            if what[0] == "store":
                counter[0] += 1
                if counter[0] == failing:
                    raise exceptions.ServiceUnavailable("Swift is tired.")

        world.step = step
        try:
            world.deploy(B, manager=manager)
        except exceptions.ContainerStackError:
            world.step = lambda *_what: None
            world.manager().resume(ACCOUNT)
        else:
            world.step = lambda *_what: None
            if counter[0] < failing:
                break
        assert world.images() in ({A.image_id}, {B.image_id})
        world.check(A.image_id, B.image_id)
        world.manager().rollback(ACCOUNT, 1)
    else:
        raise AssertionError("the store was asked more often than was thought")
    assert failing > 10


def test_registry_is_pushed_to_once_and_nodes_pull():
    world = World(5)
    pushed = []

    def push(account, made):
        pushed.append(made.image_id)
        reference = f"registry/{account.scope}@{made.image_id}"
        loaded = engine_archives.load(made.stream(), [])
        for node in world.nodes:
            node._registry[reference] = loaded
        return reference

    manager = world.manager(push=push)
    world.deploy(A, manager=manager)
    assert pushed == [A.image_id]
    assert [node.calls["stage_from"] for node in world.nodes] == [1] * 5
    assert [node.calls["stage"] for node in world.nodes] == [0] * 5
    assert world.images() == {A.image_id}


def test_events_tell_of_bytes_nodes_and_failures(world):
    world[2].faults.probe = True
    with pytest.raises(rollout.RolloutFailed):
        world.deploy(A)
    steps = list(dict.fromkeys(each.step for each in world.events))
    assert steps == ["survey", "archive", "stage", "canary", "wave", "undo"]
    staged = [each for each in world.events if each.step == "stage"]
    assert staged[0].size == 3 * sum(layer.size for layer in A.layers[1:])
    assert staged[-1].done == staged[-1].nodes == 3
    assert [each.error for each in world.events if each.error] == [
        f"No storlet runs in {A.image_id} on node2."
    ]


def test_two_nodes_of_one_name_are_refused(world):
    with pytest.raises(exceptions.InvalidRequest):
        world.manager(nodes=[world[1], world[1]])
    with pytest.raises(exceptions.InvalidRequest):
        world.manager(nodes=[])


def test_nothing_that_a_customer_writes_is_state(world):
    """The same names in the customer's own account are of no interest."""
    customer = world.store.to(ACCOUNT.name, f"{ACCOUNT.name.removeprefix('AUTH_')}:manager")
    for container in ("storlet_deployments", "storlet_images"):
        customer.set_container(container, {})
        customer.write(container, f"{ACCOUNT.scope}/current", b'{"number": 7}')
    assert world.manager().status(ACCOUNT).current is None
