# SPDX-License-Identifier: Apache-2.0
"""The contract suite of storage, second part: snapshots, clones and restoring."""

import pytest

from container_stack import exceptions
from container_stack.testing import storage_world
from container_stack.testing.storage_world import LARGE, MEDIUM, MIB, SMALL, World


class SnapshotContract(storage_world.StorageFixtures):
    """What every storage backend must do with snapshots."""

    def test_snapshot_keeps_what_was_written_until_then(self, world: World) -> None:
        world.storage.create("one", SMALL, owner="me")
        with world.mounted("one") as path:
            (path / "text").write_text("before", encoding="utf-8")
            snapshot = world.storage.snapshot("one", "then")
            (path / "text").write_text("after", encoding="utf-8")
            world.storage.clone("then", "two", owner="you", labels={"a": "1"})
            assert world.read("two") == "before"
            assert (path / "text").read_text() == "after"
        volume = world.storage.get("one")
        assert (snapshot.id, snapshot.volume_id, snapshot.size) == ("then", "one", volume.size)
        assert world.storage.get("two").labels == {"a": "1"}

    def test_clone_lives_on_without_its_snapshot_and_volume(self, world: World) -> None:
        world.storage.create("one", SMALL, owner="me")
        world.write("one", "first")
        world.storage.snapshot("one", "then")
        world.storage.clone("then", "two", owner="me")
        world.write("two", "changed")
        assert world.read("one") == "first"
        world.storage.delete_snapshot("then")
        world.storage.delete("one")
        assert world.read("two") == "changed"
        assert [volume.id for volume in world.storage.list()] == ["two"]

    def test_clone_may_be_larger_but_not_smaller(self, world: World) -> None:
        world.storage.create("one", MEDIUM, owner="me")
        world.write("one", "kept")
        world.storage.snapshot("one", "then")
        clone = world.storage.clone("then", "two", size=LARGE, owner="me")
        assert LARGE <= clone.size < LARGE + 16 * MIB
        assert world.read("two") == "kept"
        assert world.room("two") > MEDIUM
        with pytest.raises(exceptions.InvalidRequest):
            world.storage.clone("then", "three", size=SMALL, owner="me")
        assert [volume.id for volume in world.storage.list()] == ["one", "two"]

    def test_clone_does_not_take_the_place_of_a_volume(self, world: World) -> None:
        world.storage.create("one", SMALL, owner="me")
        world.storage.snapshot("one", "then")
        world.write("one", "kept")
        with pytest.raises(exceptions.AlreadyExists):
            world.storage.clone("then", "one", owner="me")
        assert world.read("one") == "kept"

    def test_restore_brings_the_content_back_again_and_again(self, world: World) -> None:
        world.storage.create("one", SMALL, owner="me", labels={"a": "1"})
        world.write("one", "before")
        snapshot = world.storage.snapshot("one", "then")
        for text in ("after", "later"):
            world.write("one", text)
            volume = world.storage.restore("then")
            assert volume == world.storage.get("one")
            assert volume.labels == {"a": "1"}
            assert world.read("one") == "before"
        assert world.storage.list_snapshots("one") == [snapshot]

    def test_restore_brings_the_size_back(self, world: World) -> None:
        made = world.storage.create("one", SMALL, owner="me")
        if not world.storage.capabilities.grow_with_snapshots:
            pytest.skip("the backend doesn't claim that volumes with snapshots grow")
        world.storage.snapshot("one", "then")
        world.storage.grow("one", MEDIUM)
        assert world.storage.restore("then").size == made.size
        assert world.room("one") <= made.size
        world.storage.grow("one", LARGE)
        assert world.room("one") > MEDIUM

    def test_volume_with_snapshots_that_cannot_grow_is_left_as_it_is(self, world: World) -> None:
        made = world.storage.create("one", SMALL, owner="me")
        if world.storage.capabilities.grow_with_snapshots:
            pytest.skip("the backend claims that volumes with snapshots grow")
        world.storage.snapshot("one", "then")
        with pytest.raises(exceptions.NotSupported, match="then"):
            world.storage.grow("one", MEDIUM)
        assert world.storage.get("one") == made

    def test_mounted_volume_is_not_restored(self, world: World) -> None:
        world.storage.create("one", SMALL, owner="me")
        world.storage.snapshot("one", "then")
        with world.mounted("one") as path:
            (path / "text").write_text("kept", encoding="utf-8")
            with pytest.raises(exceptions.Busy):
                world.storage.restore("then")
        assert world.read("one") == "kept"

    def test_volume_is_not_deleted_before_its_snapshots(self, world: World) -> None:
        world.storage.create("one", SMALL, owner="me")
        world.storage.snapshot("one", "then")
        with pytest.raises(exceptions.Busy, match="then"):
            world.storage.delete("one")
        world.storage.delete_snapshot("then")
        world.storage.delete_snapshot("then")
        world.storage.delete("one")
        assert world.storage.list() == []

    def test_taken_snapshot_id_is_refused_and_the_snapshot_unchanged(self, world: World) -> None:
        world.storage.create("one", SMALL, owner="me")
        world.write("one", "before")
        snapshot = world.storage.snapshot("one", "then")
        world.write("one", "after")
        with pytest.raises(exceptions.AlreadyExists):
            world.storage.snapshot("one", "then")
        assert world.storage.list_snapshots() == [snapshot]
        world.storage.restore("then")
        assert world.read("one") == "before"

    def test_snapshots_are_listed_oldest_first(self, world: World) -> None:
        world.storage.create("one", SMALL, owner="me")
        names = ["c", "a", "b"]
        for name in names:
            world.storage.snapshot("one", name)
        assert [snapshot.id for snapshot in world.storage.list_snapshots()] == names

    def test_snapshot_and_volume_may_have_the_same_id(self, world: World) -> None:
        world.storage.create("one", SMALL, owner="me")
        world.storage.snapshot("one", "one")
        world.storage.delete_snapshot("one")
        assert [volume.id for volume in world.storage.list()] == ["one"]
