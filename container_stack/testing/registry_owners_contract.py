# SPDX-License-Identifier: Apache-2.0
"""The part of the registry's contract suite about nodes, and which of them owns what."""

import concurrent.futures
import dataclasses
import datetime

import pytest

from container_stack import exceptions
from container_stack.testing import registry_world
from container_stack.testing.registry_world import MOMENT, Open, later, volume
from container_stack.volumes import model, registry


class OwnersContract(registry_world.RegistryFixtures):
    """What every registry must know of nodes and owners."""

    def test_owner_is_one_and_the_fence_grows_with_each_new_one(
        self, here: registry.Registry, there: registry.Registry
    ) -> None:
        made = volume()
        here.add(made)
        owned = here.claim(made.id, "n1")
        assert (owned.attached_on, owned.fence) == ("n1", 1)
        assert here.claim(made.id, "n1") == owned
        with pytest.raises(exceptions.Busy, match="n1"):
            there.claim(made.id, "n2")
        there.release(made.id, "n2")
        assert here.get(made.id) == owned
        here.release(made.id, "n1")
        here.release(made.id, "n1")
        assert there.claim(made.id, "n2").fence == 2
        there.release(made.id, "n2")
        assert here.claim(made.id, "n2").fence == 3

    def test_who_lost_a_volume_changes_and_removes_it_no_more(
        self, here: registry.Registry, there: registry.Registry
    ) -> None:
        made = volume()
        here.add(made)
        fence = here.claim(made.id, "n1").fence
        assert here.update(made.id, fence=fence, usage=1).usage == 1
        assert there.release_all("n1") == [made.id]
        now = there.claim(made.id, "n2")
        for late in (
            lambda: here.update(made.id, fence=fence, usage=2),
            lambda: here.update(made.id, fence=fence),
            lambda: here.remove(made.id, fence=fence),
        ):
            with pytest.raises(exceptions.Busy):
                late()
        assert here.get(made.id) == now
        here.remove(made.id, fence=now.fence)
        here.remove(made.id, fence=now.fence)
        assert here.list("loop") == []

    def test_all_that_a_node_owned_is_free_and_no_other_is(
        self, here: registry.Registry, there: registry.Registry
    ) -> None:
        volumes = [volume(str(index)) for index in range(6)]
        for index, each in enumerate(volumes):
            here.add(each)
            here.claim(each.id, f"n{index % 2}")
            here.update(each.id, device_path="/dev/x", mount_paths=("/m",))
        freed = there.release_all("n0")
        assert sorted(freed) == sorted(each.id for each in volumes[::2])
        assert there.release_all("n0") == []
        for each in here.list("loop"):
            if each.id in freed:
                assert (each.attached_on, each.device_path, each.mount_paths) == ("", "", ())
            else:
                assert (each.attached_on, each.device_path, each.mount_paths) == (
                    "n1",
                    "/dev/x",
                    ("/m",),
                )

    def test_of_many_who_claim_at_once_one_gets_it(self, open_registry: Open) -> None:
        hosts = [open_registry() for _ in range(4)]
        made = volume()
        hosts[0].add(made)

        def claim(number: int) -> str:
            try:
                return hosts[number % 4].claim(made.id, f"n{number}").attached_on
            except exceptions.Busy:
                return ""

        for turn in range(1, 6):
            with concurrent.futures.ThreadPoolExecutor(12) as pool:
                owners = [each for each in pool.map(claim, range(12)) if each]
            now = hosts[1].get(made.id)
            assert (owners, now.fence) == ([now.attached_on], turn)
            hosts[2].release_all(owners[0])
        for host in hosts:
            host.close()

    def test_of_many_who_add_a_name_at_once_one_does(self, open_registry: Open) -> None:
        hosts = [open_registry() for _ in range(3)]

        def add(number: int) -> int:
            try:
                hosts[number % 3].add(volume())
            except exceptions.AlreadyExists:
                return 0
            return 1

        with concurrent.futures.ThreadPoolExecutor(12) as pool:
            assert sum(pool.map(add, range(12))) == 1
        assert len(hosts[0].list("loop")) == 1
        for host in hosts:
            host.close()

    def test_nothing_is_lost_when_all_is_changed_at_once(self, open_registry: Open) -> None:
        hosts = [open_registry() for _ in range(3)]
        volumes = [volume(str(index)) for index in range(4)]
        for each in volumes:
            hosts[0].add(each)

        def work(number: int) -> None:
            host = hosts[number % 3]
            for turn in range(5):
                mine = volume(f"mine-{number}-{turn}")
                host.add(mine)
                host.update(volumes[number % 4].id, usage=turn)
                host.add_samples(
                    [model.Sample(each.id, later(number * 5 + turn), turn) for each in volumes]
                )
                host.raise_alert(volumes[0].id, model.Severity.WARNING, "the same")
                host.add_event("turn", volume_id=mine.id)
                host.release_all(f"n{number}")

        with concurrent.futures.ThreadPoolExecutor(9) as pool:
            list(pool.map(work, range(9)))
        assert len(hosts[1].list("loop")) == 4 + 45
        assert [len(hosts[1].samples(each.id)) for each in volumes] == [45] * 4
        assert len(hosts[1].alerts()) == 1
        assert registry_world.soon(lambda: len(hosts[1].events(limit=1000)) == 45)
        for host in hosts:
            host.close()

    def test_node_is_as_it_was_last_put(
        self, here: registry.Registry, there: registry.Registry
    ) -> None:
        node = model.Node(
            id="b",
            hostname="ß.example.org",
            management_ip="10.0.0.1",
            data_ip="fe80::1",
            generation=2**33,
            status=model.Status.DEGRADED,
            cpu=12.5,
            memory_total=2**41,
            memory_used=7,
            load=0.25,
        )
        first = here.put_node(node)
        assert dataclasses.replace(first, timestamp=None) == node
        here.put_node(model.Node(id="a"))
        second = there.put_node(dataclasses.replace(node, cpu=99.5, timestamp=MOMENT))
        assert second.cpu == 99.5
        assert first.timestamp is not None
        assert second.timestamp is not None
        assert second.timestamp > first.timestamp
        assert [each.id for each in here.nodes()] == ["a", "b"]
        assert here.nodes()[1] == second

    def test_time_is_the_same_for_all_and_goes_on(self, here: registry.Registry) -> None:
        now = datetime.datetime.now(datetime.UTC)
        stamps = [here.put_node(model.Node(id=f"n{index}")).timestamp for index in range(5)]
        assert all(stamps)
        assert stamps == sorted(stamps)  # type: ignore[type-var]
        # Its clock is that of this machine, or nearly so; a wrong zone is an hour off.
        assert abs(stamps[0] - now) < datetime.timedelta(minutes=10)  # type: ignore[operator]

    def test_node_that_owns_volumes_stays(self, here: registry.Registry) -> None:
        made = volume()
        here.add(made)
        for name in ("n1", "n2"):
            here.put_node(model.Node(id=name))
        here.claim(made.id, "n1")
        with pytest.raises(exceptions.Busy, match="n1"):
            here.remove_node("n1")
        here.remove_node("n2")
        here.remove_node("n2")
        assert [each.id for each in here.nodes()] == ["n1"]
        here.release_all("n1")
        here.remove_node("n1")
        assert here.nodes() == []

    def test_nodes_that_come_at_once_are_all_there(self, open_registry: Open) -> None:
        hosts = [open_registry() for _ in range(3)]
        with concurrent.futures.ThreadPoolExecutor(12) as pool:
            put = lambda number: hosts[number % 3].put_node(model.Node(id=f"n{number % 4}"))  # noqa: E731
            list(pool.map(put, range(24)))
        assert [each.id for each in hosts[0].nodes()] == ["n0", "n1", "n2", "n3"]
        for host in hosts:
            host.close()
