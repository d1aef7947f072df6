# SPDX-License-Identifier: Apache-2.0
"""Claims, releases and taking over, with leases in memory and a real registry."""

import contextlib
import datetime
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from container_stack import exceptions
from container_stack.host import records
from container_stack.testing import lease_contract
from container_stack.volumes import model, registry, sql
from container_stack.volumes.cluster import clock, heart, leases, owners

MOMENT = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
LASTS = 30


class Member:
    """A membership whose epoch is the test's."""

    def __init__(self, node_id: str) -> None:
        self.node_id = node_id
        self.holder = f"secret of {node_id}"
        self.epoch: int | None = 1

    def check(self) -> int:
        if self.epoch is None:
            raise exceptions.ServiceUnavailable("fenced")
        return self.epoch


class Registry:
    """A registry with something that happens on the way: before a method is called, or after."""

    def __init__(self, real: registry.Registry) -> None:
        self._real = real
        self.before: dict[str, Callable[[], None]] = {}
        self.after: dict[str, Callable[[], None]] = {}

    def __getattr__(self, name: str) -> object:
        real = getattr(self._real, name)

        def call(*args: object, **options: object) -> object:
            self.before.pop(name, lambda: None)()
            result = real(*args, **options)
            self.after.pop(name, lambda: None)()
            return result

        return call


class World:
    def __init__(self, directory: Path) -> None:
        self.volumes = sql.open(f"sqlite:///{directory}/osd.sqlite")
        self.leases = lease_contract.MemoryLeases(leases.Times(LASTS))
        self.directory = directory
        volume = model.Volume(str(uuid.uuid4()), "shared", "data", model.Spec(), MOMENT)
        self.volumes.add(volume)
        self.id = volume.id
        self.nodes = {name: self._node(name) for name in ("a", "b", "c")}

    def _node(self, name: str) -> tuple[owners.Cluster, Member, Registry]:
        member, volumes = Member(name), Registry(self.volumes)
        beat = heart.Heart(self.volumes, lambda: model.Node(name), set, 1)
        kept = records.Records(str(self.directory / name))
        self.leases.take(name, member.holder)
        return owners.Cluster(volumes, self.leases, member, kept, beat), member, volumes  # type: ignore[arg-type]

    def die(self, name: str) -> None:
        """End a node's lease, and let it notice."""
        self.leases.drop(name, self.nodes[name][1].holder)
        self.nodes[name][1].epoch = None

    def come_back(self, name: str, epoch: int) -> None:
        """Join again as a membership does: the registry is told before anything is claimed."""
        self.leases.take(name, self.nodes[name][1].holder)
        self.volumes.release_all(name)
        self.nodes[name][1].epoch = epoch

    @property
    def owner(self) -> tuple[str, int]:
        volume = self.volumes.get(self.id)
        return volume.attached_on, volume.fence


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.volumes.close()


def gone() -> None:
    raise exceptions.ServiceUnavailable("the registry is gone")


def test_a_living_nodes_volume_is_its_own(world: World) -> None:
    a, b = (world.nodes[name][0] for name in "ab")
    assert a.claim(world.id).attached_on == "a"
    assert a.claim(world.id).fence == 1
    with pytest.raises(exceptions.Busy, match=r"Volume is attached on a\."):
        b.claim(world.id)
    a.release(world.id)
    assert b.claim(world.id).fence == 2


def test_a_dead_nodes_volume_is_taken_over_by_one(world: World) -> None:
    world.nodes["a"][0].claim(world.id)
    world.die("a")
    got = []

    def claim(name: str) -> None:
        with contextlib.suppress(exceptions.Busy):
            got.append(world.nodes[name][0].claim(world.id).attached_on)

    threads = [threading.Thread(target=claim, args=(name,)) for name in "bc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert got == [world.owner[0]]
    assert world.owner[1] == 2
    assert "a" not in world.leases.holders()
    (event,) = [each for each in world.volumes.events() if each.kind == "takeover"]
    assert (event.volume_id, event.text) == (world.id, "a is dead")


def test_who_may_use_nothing_claims_nothing(world: World) -> None:
    a, member, _volumes = world.nodes["a"]
    member.epoch = None
    with pytest.raises(exceptions.ServiceUnavailable):
        a.claim(world.id)
    assert world.owner == ("", 0)


def test_a_claim_that_a_fence_overtook_doesnt_count(world: World) -> None:
    a, member, volumes = world.nodes["a"]
    volumes.after["claim"] = lambda: setattr(member, "epoch", 2)
    with pytest.raises(exceptions.ServiceUnavailable):
        a.claim(world.id)
    a._tell()
    assert world.owner[0] == ""


def test_a_taker_who_slept_takes_nothing_from_a_node_that_came_back(world: World) -> None:
    """Asleep between looking and taking: the fence has grown."""
    a = world.nodes["a"][0]
    b, _member, volumes = world.nodes["b"]
    a.claim(world.id)
    world.die("a")

    def sleep() -> None:
        world.leases.wait(2 * LASTS)
        world.leases.take("b", world.nodes["b"][1].holder)
        world.come_back("a", 2)
        assert a.claim(world.id).fence == 2

    volumes.before["update"] = sleep
    with pytest.raises(exceptions.Busy):
        b.claim(world.id)
    assert world.owner == ("a", 2)


def test_a_taker_who_slept_before_looking_takes_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What he sees then may be a claim of the node that came back: he looks at the clock."""
    a = world.nodes["a"][0]
    b, _member, volumes = world.nodes["b"]
    a.claim(world.id)
    world.die("a")
    now = clock.now()

    def sleep() -> None:
        monkeypatch.setattr(clock, "now", lambda: now + 2 * LASTS)
        world.leases.wait(2 * LASTS)
        world.come_back("a", 2)
        a.claim(world.id)

    # The first look is for whose it is, the second for who is dead.
    looks = iter((lambda: None, lambda: None, sleep))

    def look() -> None:
        next(looks)()
        volumes.before["get"] = look

    volumes.before["get"] = look
    with pytest.raises(exceptions.ServiceUnavailable):
        b.claim(world.id)
    assert world.owner == ("a", 2)


def test_a_release_that_the_registry_missed_is_told_later(world: World) -> None:
    a, _member, volumes = world.nodes["a"]
    a.claim(world.id)
    volumes.before["release"] = gone
    a.release(world.id)
    assert world.owner[0] == "a"
    a._tell()
    assert world.owner[0] == ""
    a._tell()


def test_a_volume_claimed_again_isnt_released_later(world: World) -> None:
    a, _member, volumes = world.nodes["a"]
    a.claim(world.id)
    volumes.before["release"] = gone
    a.release(world.id)
    a.claim(world.id)
    a._tell()
    assert world.owner == ("a", 1)


def test_a_claim_whose_answer_was_lost_is_given_back(world: World) -> None:
    a, _member, volumes = world.nodes["a"]
    volumes.after["claim"] = gone
    with pytest.raises(exceptions.ServiceUnavailable):
        a.claim(world.id)
    assert world.owner[0] == "a"
    a._tell()
    assert world.owner[0] == ""


def test_a_failed_second_claim_doesnt_give_up_what_is_in_use(world: World) -> None:
    a, _member, volumes = world.nodes["a"]
    a.claim(world.id)
    volumes.before["claim"] = gone
    with pytest.raises(exceptions.ServiceUnavailable):
        a.claim(world.id)
    a._tell()
    assert world.owner == ("a", 1)
