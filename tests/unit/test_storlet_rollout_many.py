# SPDX-License-Identifier: Apache-2.0
"""A thousand nodes: no thread for each, a record that stays small, and memory that does too."""

import signal
import threading
import tracemalloc

import pytest

from container_stack.storlets.deployment import events, parallel

from .storlet_fleet import ACCOUNT, World, image

A, B = image("a"), image("b")
COUNT = 1000
#: Bytes, of which the simulated nodes keep half for the images that they get.
MEMORY = 3_000_000
#: Bytes of the record of a deployment that is under way.
RECORD = 8192


@pytest.fixture(scope="module")
def world():
    world = World(COUNT, wave=200, concurrency=8)
    world.deploy(A, watcher=events.unwatched)
    return world


class Watch:
    """Looks at threads and records while something goes on."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.threads = 0
        self.records: list[int] = []

    def __call__(self, node: str, what: str) -> None:
        if what in ("stage", "switch"):
            self.threads = max(self.threads, threading.active_count())
        elif (node, what) == ("store", "write"):
            listed = self._world.store.list("storlet_deployments")
            self.records += [each.size for each in listed if each.name.endswith("/deployment")]


def test_thousand_nodes_are_planned_deployed_and_tracked_with_flat_memory(world):
    before = threading.active_count()
    watch = world.step = Watch(world)
    tracemalloc.start()
    try:
        base, _peak = tracemalloc.get_traced_memory()
        plan = world.deploy(B, watcher=events.unwatched, dry_run=True).plan
        assert (len(plan.nodes), plan.send) == (COUNT, COUNT * B.layers[2].size)
        assert [len(wave) for wave in plan.waves] == [1, 200, 200, 200, 200, 199]
        assert world.deploy(B, watcher=events.unwatched).changed
        assert not world.deploy(B, watcher=events.unwatched).changed
        assert world.manager().status(ACCOUNT).right
        _now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        world.step = lambda *_what: None
    assert peak - base < MEMORY
    assert watch.threads <= before + world.policy.concurrency
    assert len(watch.records) >= 6
    assert max(watch.records) < RECORD
    assert world.images() == {B.image_id}


def test_thousand_nodes_are_resumed_by_another_manager(world):
    assert world.dies(COUNT * 9, lambda: world.manager().rollback(ACCOUNT))
    mixed = world.images()
    assert mixed == {A.image_id, B.image_id}
    world.manager().resume(ACCOUNT)
    assert world.images() == {A.image_id}
    world.check(A.image_id, B.image_id)


def test_nodes_are_looked_at_only_as_threads_get_free():
    taken, begun = [], threading.Semaphore(0)

    def items():
        for number in range(1000):
            taken.append(number)
            yield number

    results = parallel.each(items(), lambda number: begun.release() or number * 2, 4)
    first = next(results)
    assert first.value == first.item * 2
    assert len(taken) <= 8
    results.close()
    assert len(taken) <= 8


def test_error_of_one_is_told_and_the_others_go_on():
    def work(number):
        if number == 3:
            raise ValueError("three")
        return -number

    done = {each.item: each for each in parallel.each(range(6), work, 2)}
    assert {item: each.value for item, each in done.items() if each.error is None} == {
        0: 0,
        1: -1,
        2: -2,
        4: -4,
        5: -5,
    }
    assert str(done[3].error) == "three"


def test_control_c_puts_all_back():
    world = World(12, wave=4, concurrency=4)
    world.deploy(A)

    def step(*what):
        if what == ("node7", "switch:swapped"):
            world.step = lambda *_what: None
            signal.raise_signal(signal.SIGINT)

    world.step = step
    # A shell starts what is in its background with this signal ignored.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            world.deploy(B)
    finally:
        signal.signal(signal.SIGINT, handler)
    assert world.images() == {A.image_id}
    assert [node.state(ACCOUNT).kept for node in world.nodes] == [{A.image_id}] * 12
    assert next(iter(world.manager().history(ACCOUNT))).error == "It was interrupted."
    world.check(A.image_id, B.image_id)
