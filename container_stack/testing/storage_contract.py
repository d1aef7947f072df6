# SPDX-License-Identifier: Apache-2.0
"""The contract suite of :class:`container_stack.host.storage.Storage`.

A backend joins with one fixture, its factory::

    class TestMine(storage_contract.StorageContract):
        @pytest.fixture
        def open_storage(self):
            return mine.MyStorage.open

and overrides the fixture ``pool`` where it needs other settings than a state directory and xfs.
What the backend doesn't claim in its capabilities is skipped. The tests mount volumes, so they
need root, or a user who may start the rootwrap daemon. :mod:`.snapshot_contract` and
:mod:`.crash_contract` are joined in the same way.
"""

import concurrent.futures
import os
import threading

import pytest

from container_stack import exceptions
from container_stack.host import storage
from container_stack.testing import storage_world
from container_stack.testing.storage_world import LARGE, MEDIUM, MIB, SMALL, World


class StorageContract(storage_world.StorageFixtures):
    """What every storage backend must do."""

    def test_new_volume_is_empty_and_can_be_written(self, world: World) -> None:
        volume = world.storage.create("one", SMALL, owner="me", labels={"colour": "deep red"})
        assert SMALL <= volume.size < SMALL + 16 * MIB
        assert (volume.id, volume.owner, volume.labels) == ("one", "me", {"colour": "deep red"})
        assert volume.filesystem == world.pool.filesystem
        with world.mounted("one") as path:
            assert [name for name in os.listdir(path) if name != "lost+found"] == []
        world.write("one", "kept")
        assert world.read("one") == "kept"

    def test_all_is_known_to_a_process_that_has_just_started(self, world: World) -> None:
        made = world.storage.create("one", SMALL, owner="me", labels={"a": "1"})
        snapshot = world.storage.snapshot("one", "then")
        other = world.again()
        other.recover()
        assert other.list() == [made] == [other.get("one")]
        assert other.list_snapshots() == [snapshot] == other.list_snapshots("one")
        assert other.list_snapshots("two") == []

    def test_volumes_are_listed_by_owner(self, world: World) -> None:
        world.storage.create("b", SMALL, owner="me")
        world.storage.create("a", SMALL, owner="you")
        assert [volume.id for volume in world.storage.list()] == ["a", "b"]
        assert [volume.id for volume in world.storage.list("me")] == ["b"]

    def test_taken_id_is_refused_and_the_volume_unchanged(self, world: World) -> None:
        made = world.storage.create("one", SMALL, owner="me", labels={"a": "1"})
        world.write("one", "kept")
        with pytest.raises(exceptions.AlreadyExists):
            world.storage.create("one", MEDIUM, owner="you")
        assert world.storage.get("one") == made
        assert world.read("one") == "kept"

    def test_unusable_ids_are_refused(self, world: World) -> None:
        for name in ("", ".", "..", "a/b", "../a", "A", "a b", "a\n", "-a", "a..b", "a.", "a" * 64):
            for action in (
                lambda: world.storage.create(name, SMALL, owner="me"),  # noqa: B023
                lambda: world.storage.get(name),  # noqa: B023
                lambda: world.storage.delete(name),  # noqa: B023
                lambda: world.storage.delete_snapshot(name),  # noqa: B023
            ):
                with pytest.raises(exceptions.InvalidRequest):
                    action()
        assert world.storage.list() == []

    def test_unusable_sizes_are_refused(self, world: World) -> None:
        for size in (0, -1, 1, MIB, 2**63, True):
            with pytest.raises(exceptions.InvalidRequest):
                world.storage.create("one", size, owner="me")
        assert world.storage.list() == []

    def test_unusable_labels_are_refused(self, world: World) -> None:
        for labels in ({"A B": "1"}, {"a": "x\ny"}, {"a": "x" * 256}):
            with pytest.raises(exceptions.InvalidRequest):
                world.storage.create("one", SMALL, owner="me", labels=labels)
        assert world.storage.list() == []

    def test_what_exceeds_the_pool_is_refused_before_anything_is_made(self, world: World) -> None:
        before = world.storage.capacity()
        with pytest.raises(exceptions.NoSpace):
            world.storage.create("one", before.total + LARGE, owner="me")
        assert world.storage.list() == []
        made = world.storage.create("one", SMALL, owner="me")
        with pytest.raises(exceptions.NoSpace):
            world.storage.grow("one", before.total + LARGE)
        assert world.storage.get("one") == made
        assert world.room("one") <= made.size

    def test_unknown_ids_are_not_found(self, world: World) -> None:
        for action in (
            lambda: world.storage.get("none"),
            lambda: world.storage.activate("none"),
            lambda: world.storage.grow("none", SMALL),
            lambda: world.storage.set_labels("none", {"a": "1"}),
            lambda: world.storage.usage("none"),
            lambda: world.storage.snapshot("none", "then"),
            lambda: world.storage.restore("none"),
            lambda: world.storage.clone("none", "one", owner="me"),
        ):
            with pytest.raises(exceptions.NotFound):
                action()
        world.storage.delete("none")
        world.storage.delete_snapshot("none")
        assert world.storage.list() == []

    def test_labels_are_added_changed_and_removed(self, world: World) -> None:
        world.storage.create("one", SMALL, owner="me", labels={"a": "1", "b": "2"})
        odd = "ünï = & + / , : # 'x' \"y\""
        changed = world.storage.set_labels("one", {"a": None, "b": "3", "c": odd, "d": ""})
        assert changed.labels == {"b": "3", "c": odd, "d": ""}
        assert world.again().get("one") == changed

    def test_no_label_is_lost_when_many_write_at_once(self, world: World) -> None:
        world.storage.create("one", SMALL, owner="me")
        backends = [world.storage, world.again()]

        def write(number: int) -> None:
            backends[number % 2].set_labels("one", {f"l{number}": str(number)})

        with concurrent.futures.ThreadPoolExecutor(16) as threads:
            list(threads.map(write, range(16)))
        assert world.storage.get("one").labels == {f"l{n}": str(n) for n in range(16)}

    def test_one_of_many_who_want_the_same_id_gets_it(self, world: World) -> None:
        def create(number: int) -> bool:
            try:
                world.storage.create("one", SMALL, owner=f"o{number}")
            except exceptions.AlreadyExists:
                return False
            return True

        with concurrent.futures.ThreadPoolExecutor(4) as threads:
            assert sorted(threads.map(create, range(4))) == [False, False, False, True]
        assert len(world.storage.list()) == 1

    def test_device_comes_and_goes_and_the_content_stays(self, world: World) -> None:
        world.storage.create("one", SMALL, owner="me")
        world.write("one", "kept")
        assert world.storage.activate("one") == world.storage.activate("one")
        world.storage.deactivate("one")
        world.storage.deactivate("one")
        assert world.read("one") == "kept"
        with world.mounted("one") as path:
            with pytest.raises(exceptions.Busy):
                world.storage.deactivate("one")
            (path / "text").write_text("still there", encoding="utf-8")
        assert world.read("one") == "still there"

    def test_volume_grows_while_it_is_written(self, world: World) -> None:
        kind = world.storage.create("one", SMALL, owner="me").filesystem
        if kind not in world.storage.capabilities.grow_online:
            pytest.skip(f"the backend doesn't claim that {kind} grows online here")
        with world.mounted("one") as path:
            stop = threading.Event()
            with concurrent.futures.ThreadPoolExecutor(1) as threads:
                written = threads.submit(_write_until, str(path / "log"), stop)
                grown = world.storage.grow("one", LARGE)
                stop.set()
                lines = written.result(30)
            assert LARGE <= grown.size < LARGE + 16 * MIB
            assert world.filesystems.usage(str(path)).total > MEDIUM
            assert (path / "log").read_text() == "".join(f"{n}\n" for n in range(lines))
        assert world.storage.get("one") == grown

    def test_mounted_volume_that_cannot_grow_is_left_as_it_is(self, world: World) -> None:
        made = world.storage.create("one", SMALL, owner="me")
        if made.filesystem in world.storage.capabilities.grow_online:
            pytest.skip(f"the backend claims that {made.filesystem} grows online here")
        with world.mounted("one"), pytest.raises(exceptions.NotSupported):
            world.storage.grow("one", LARGE)
        assert world.storage.get("one") == made

    def test_unmounted_volume_grows_and_growing_again_changes_nothing(self, world: World) -> None:
        world.storage.create("one", SMALL, owner="me")
        world.write("one", "kept")
        grown = world.storage.grow("one", MEDIUM)
        assert world.room("one") > SMALL
        assert world.read("one") == "kept"
        assert world.storage.grow("one", MEDIUM) == grown
        with pytest.raises(exceptions.InvalidRequest):
            world.storage.grow("one", SMALL)
        assert world.storage.get("one") == grown

    def test_volume_shrinks_if_what_it_holds_fits(self, world: World) -> None:
        kind = world.storage.create("one", LARGE, owner="me").filesystem
        if kind not in world.storage.capabilities.shrink:
            pytest.skip(f"the backend doesn't claim that {kind} shrinks")
        world.write("one", "kept")
        shrunk = world.storage.shrink("one", SMALL)
        assert SMALL <= shrunk.size < SMALL + 16 * MIB
        assert world.room("one") <= shrunk.size
        assert world.read("one") == "kept"
        with pytest.raises(exceptions.InvalidRequest):
            world.storage.shrink("one", LARGE)

    def test_volume_does_not_shrink_below_what_it_holds(self, world: World) -> None:
        made = world.storage.create("one", LARGE, owner="me")
        if made.filesystem not in world.storage.capabilities.shrink:
            pytest.skip(f"the backend doesn't claim that {made.filesystem} shrinks")
        with world.mounted("one") as path:
            (path / "much").write_bytes(os.urandom(340 * MIB))
        with pytest.raises(exceptions.PossibleDataLoss):
            world.storage.shrink("one", SMALL)
        assert world.storage.get("one") == made
        with world.mounted("one") as path:
            assert (path / "much").stat().st_size == 340 * MIB
            assert world.filesystems.usage(str(path)).total > MEDIUM

    def test_mounted_volume_shrinks_or_is_left_as_it_is(self, world: World) -> None:
        made = world.storage.create("one", LARGE, owner="me")
        can = world.storage.capabilities
        with world.mounted("one") as path:
            if made.filesystem in can.shrink_online:
                world.storage.shrink("one", MEDIUM)
                assert world.filesystems.usage(str(path)).total <= MEDIUM + 16 * MIB
                return
            refusal: type[Exception] = exceptions.NotSupported
            if made.filesystem in can.shrink:
                refusal = exceptions.Busy
            with pytest.raises(refusal):
                world.storage.shrink("one", MEDIUM)
        assert world.storage.get("one") == made

    def test_mounted_volume_is_not_deleted(self, world: World) -> None:
        world.storage.create("one", SMALL, owner="me")
        with world.mounted("one") as path, pytest.raises(exceptions.Busy):
            world.storage.delete("one")
        world.write("one", "kept")
        world.storage.delete("one")
        assert not os.path.exists(path)
        assert world.storage.list() == []
        world.storage.create("one", SMALL, owner="me")
        with world.mounted("one") as path:
            assert not (path / "text").exists()

    def test_capacity_counts_in_bytes_what_was_promised(self, world: World) -> None:
        before = world.storage.capacity()
        volume = world.storage.create("one", MEDIUM, owner="me")
        after = world.storage.capacity()
        assert after.provisioned - before.provisioned == volume.size
        assert 0 <= after.free < before.free <= before.total
        world.storage.delete("one")
        assert world.storage.capacity().provisioned == before.provisioned

    def test_usage_follows_what_is_written(self, world: World) -> None:
        volume = world.storage.create("one", LARGE, owner="me")
        before = world.storage.usage("one")
        with world.mounted("one") as path:
            (path / "much").write_bytes(os.urandom(96 * MIB))
        after = world.storage.usage("one")
        assert after == volume.size or after - before > 90 * MIB

    def test_many_volumes_are_made_at_once(self, world: World) -> None:
        backends = [world.storage, world.again()]

        def live(number: int) -> None:
            backend, name = backends[number % 2], f"v{number}"
            backend.create(name, SMALL, owner="me", labels={"n": str(number)})
            assert backend.get(name).labels == {"n": str(number)}
            if number % 3 == 0:
                backend.delete(name)

        with concurrent.futures.ThreadPoolExecutor(8) as threads:
            list(threads.map(live, range(8)))
        names = [volume.id for volume in world.storage.list()]
        assert names == [f"v{n}" for n in range(8) if n % 3]

    def test_settings_that_would_be_ignored_are_refused(self, world: World) -> None:
        pool = storage.Pool(world.pool.executor, options={"no-such-setting": "1"})
        with pytest.raises(exceptions.InvalidRequest):
            world.open(pool)


def _write_until(path: str, stop: threading.Event) -> int:
    """Write numbered lines, each onto the disk, and return how many."""
    lines = 0
    with open(path, "w", encoding="utf-8") as file:
        while not stop.is_set():
            file.write(f"{lines}\n")
            file.flush()
            os.fsync(file.fileno())
            lines += 1
    return lines
