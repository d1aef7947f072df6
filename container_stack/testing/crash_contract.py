# SPDX-License-Identifier: Apache-2.0
"""The contract suite of storage, third part: what kill -9 leaves, and what recovery makes of it.

Each action runs in a process of its own that is killed before its first step, then before its
second, and so on to the end. Afterwards :meth:`Storage.recover` runs and the action must have
happened as a whole or not at all.
"""

from collections.abc import Callable, Iterator

from container_stack.host import storage
from container_stack.testing import kill_steps, storage_world
from container_stack.testing.storage_world import LARGE, MIB, SMALL, World

Action = Callable[[storage.Storage], object]

#: Bytes to grow by.
STEP = 16 * MIB


class CrashContract(storage_world.StorageFixtures):
    """What every storage backend must survive."""

    #: Each how many-th step is the one to be killed at; more where steps take long.
    EVERY = 1

    def kills(self, world: World, action: Action, *, recover: bool = True) -> Iterator[int]:
        """Yield the kills of an action, each already recovered from."""
        runner = world.pool.executor
        for step in kill_steps.kills(runner, lambda: action(world.again()), every=self.EVERY):
            if recover:
                world.again().recover()
            yield step

    def test_killed_create_leaves_a_volume_or_nothing(self, world: World) -> None:
        for _step in self.kills(world, lambda s: s.create("one", SMALL, owner="me")):
            if _present(world, "one"):
                assert world.room("one") > 0
                world.storage.delete("one")
            assert world.storage.capacity().provisioned == 0
            world.storage.create("one", SMALL, owner="me")
            world.storage.delete("one")

    def test_create_needs_no_recovery_after_a_killed_one(self, world: World) -> None:
        for _step in self.kills(world, lambda s: s.create("one", SMALL, owner="me"), recover=False):
            if not _present(world, "one"):
                world.storage.create("one", SMALL, owner="me")
            world.write("one", "kept")
            world.storage.delete("one")

    def test_killed_delete_leaves_a_volume_or_nothing(self, world: World) -> None:
        world.storage.create("one", SMALL, owner="me")
        world.write("one", "kept")
        for _step in self.kills(world, lambda s: s.delete("one")):
            if _present(world, "one"):
                assert world.read("one") == "kept"
            else:
                assert world.storage.capacity().provisioned == 0
                world.storage.create("one", SMALL, owner="me")
                world.write("one", "kept")

    def test_killed_grow_leaves_the_old_or_the_new_size(self, world: World) -> None:
        old = world.storage.create("one", SMALL, owner="me").size
        room = world.room("one")
        for step in self.kills(world, lambda s: s.grow("one", s.get("one").size + STEP)):
            world.write("one", f"{step}")
            assert world.storage.get("one").size in (old, old + STEP)
            assert (world.storage.get("one").size > old) == (world.room("one") > room)
            old = world.storage.grow("one", old + STEP).size
            assert world.room("one") > room
            assert world.read("one") == f"{step}"
            room = world.room("one")

    def test_killed_shrink_leaves_the_old_or_the_new_size(self, world: World) -> None:
        kind = world.storage.create("one", LARGE, owner="me").filesystem
        if kind not in world.storage.capabilities.shrink:
            return
        world.write("one", "kept")
        for _step in self.kills(world, lambda s: s.shrink("one", SMALL)):
            assert (world.storage.get("one").size >= LARGE) == (world.room("one") > SMALL)
            world.storage.grow("one", LARGE)
            assert world.read("one") == "kept"

    def test_killed_snapshot_lets_writers_go_on(self, world: World) -> None:
        world.storage.create("one", SMALL, owner="me")
        with world.mounted("one") as path:
            (path / "text").write_text("before", encoding="utf-8")
            for step in self.kills(world, lambda s: s.snapshot("one", "then")):
                kill_steps.write_within(path / "text", f"after {step}")
                if world.storage.list_snapshots():
                    world.storage.clone("then", "two", owner="me")
                    assert world.read("two") == "before"
                    world.storage.delete("two")
                world.storage.delete_snapshot("then")
                kill_steps.write_within(path / "text", "before")

    def test_killed_clone_leaves_a_volume_or_nothing(self, world: World) -> None:
        world.storage.create("one", SMALL, owner="me")
        world.write("one", "kept")
        world.storage.snapshot("one", "then")
        for _step in self.kills(world, lambda s: s.clone("then", "two", size=LARGE, owner="me")):
            if _present(world, "two"):
                assert world.read("two") == "kept"
                assert world.room("two") > SMALL
            world.storage.delete("two")
        assert world.read("one") == "kept"

    def test_killed_restore_leaves_the_old_or_the_new_content(self, world: World) -> None:
        world.storage.create("one", SMALL, owner="me", labels={"a": "1"})
        world.write("one", "before")
        world.storage.snapshot("one", "then")
        world.write("one", "after")
        for _step in self.kills(world, lambda s: s.restore("then")):
            assert world.read("one") in ("before", "after")
            assert [snapshot.id for snapshot in world.storage.list_snapshots()] == ["then"]
            world.storage.restore("then")
            assert world.read("one") == "before"
            assert world.storage.get("one").labels == {"a": "1"}
            world.write("one", "after")

    def test_killed_deletion_of_a_snapshot_leaves_it_or_nothing(self, world: World) -> None:
        world.storage.create("one", SMALL, owner="me")
        world.storage.snapshot("one", "then")
        for _step in self.kills(world, lambda s: s.delete_snapshot("then")):
            if not world.storage.list_snapshots():
                world.storage.snapshot("one", "then")

    def test_failing_command_leaves_nothing_new(self, world: World) -> None:
        for step in range(1, 100):
            if kill_steps.fails_at(
                world.pool.executor,
                step,
                lambda: world.storage.create("one", SMALL, owner="me"),
            ):
                assert world.storage.list() == []
                assert world.storage.capacity().provisioned == 0
            else:
                assert step > 1
                return


def _present(world: World, volume_id: str) -> bool:
    return volume_id in [volume.id for volume in world.storage.list()]
