# SPDX-License-Identifier: Apache-2.0
"""The contract suite of backends of volumes, third part: what kill -9 leaves.

Each action runs in a process of its own that is killed before its first step, then before its
second, and so on to the end. Afterwards a backend is started anew, and the action must have
happened as a whole or not at all.
"""

import uuid
from collections.abc import Callable, Iterator

from container_stack.testing import kill_steps, volume_world
from container_stack.testing.volume_world import MIB, SMALL, World
from container_stack.volumes import backend, model

Action = Callable[[backend.Backend], object]

SPEC = model.Spec(size=SMALL)
#: Bytes to grow by.
STEP = 16 * MIB


class CrashContract(volume_world.VolumeFixtures):
    """What every backend must survive. It has privileged commands, or changes files."""

    #: Each how many-th step is the one to be killed at; more where steps take long.
    EVERY = 1

    def kills(self, world: World, action: Action, *, start: bool = True) -> Iterator[int]:
        """Yield the kills of an action; after each a backend has been started anew."""
        runner = world.options.executor
        for step in kill_steps.kills(runner, lambda: action(world.again()), every=self.EVERY):
            if start:
                world.again()
            yield step

    def test_killed_create_leaves_a_volume_or_nothing(self, world: World) -> None:
        one = str(uuid.uuid4())
        for step in self.kills(world, lambda made: made.create(one, SPEC)):
            if world.backend.list():
                world.write(one, f"{step}")
                assert world.read(one) == f"{step}"
            world.backend.delete(one)
            assert world.backend.list() == []

    def test_create_needs_no_start_after_a_killed_one(self, world: World) -> None:
        one = str(uuid.uuid4())
        for _step in self.kills(world, lambda made: made.create(one, SPEC), start=False):
            world.backend.create(one, SPEC)
            world.write(one, "kept")
            world.backend.delete(one)

    def test_killed_delete_leaves_a_volume_or_nothing(self, world: World) -> None:
        one = world.create()
        world.write(one, "kept")
        for _step in self.kills(world, lambda made: made.delete(one)):
            if world.backend.list():
                assert world.read(one) == "kept"
            else:
                world.backend.create(one, SPEC)
                world.write(one, "kept")

    def test_killed_mount_and_unmount_are_repeated(self, world: World) -> None:
        one, path = world.create(), world.place()
        world.write(one, "kept")
        for _step in self.kills(world, lambda made: _use(made, one, path)):
            world.mount(one, path)
            world.unmount(one, path)
            assert world.read(one) == "kept"

    def test_killed_snapshot_lets_writers_go_on(self, world: World) -> None:
        snapshots, one, then = world.snapshots(), world.create(), str(uuid.uuid4())
        with world.mounted(one) as path:
            (path / "text").write_text("before", encoding="utf-8")
            for step in self.kills(world, lambda made: _snapshot(made, one, then)):
                kill_steps.write_within(path / "text", f"after {step}")
                if then in world.backend.list():
                    assert world.read(then) == "before"
                world.backend.delete(then)
                kill_steps.write_within(path / "text", "before")
                snapshots.snapshot(one, then, read_only=True)
                world.backend.delete(then)

    def test_killed_growth_leaves_the_old_or_the_new_size(self, world: World) -> None:
        growing, one, size = world.growing(), world.create(), SMALL
        world.write(one, "kept")
        for _step in self.kills(world, lambda made: _grow(made, one, size + STEP)):  # noqa: B023
            size += STEP
            growing.grow(one, size)
            assert world.read(one) == "kept"

    def test_killed_restore_leaves_the_old_or_the_new_content(self, world: World) -> None:
        restoring, one, then = world.restoring(), world.create(), str(uuid.uuid4())
        world.write(one, "before")
        world.snapshots().snapshot(one, then, read_only=True)
        world.write(one, "after")
        for _step in self.kills(world, lambda made: _restore(made, one, then)):
            assert world.read(one) in ("before", "after")
            assert world.backend.list() == sorted([one, then])
            restoring.restore(one, then)
            assert world.read(one) == "before"
            world.write(one, "after")

    def test_failing_command_leaves_nothing_new(self, world: World) -> None:
        step, one = 1, str(uuid.uuid4())
        runner = world.options.executor
        while kill_steps.fails_at(runner, step, lambda: world.backend.create(one, SPEC)):
            assert world.backend.list() == []
            step += 1
        then = str(uuid.uuid4())
        step = 1
        while kill_steps.fails_at(runner, step, lambda: _snapshot(world.backend, one, then)):
            assert world.backend.list() == [one]
            step += 1


def _use(made: backend.Backend, volume_id: str, path: str) -> None:
    if isinstance(made, backend.BlockBackend):
        made.attach(volume_id)
        made.format(volume_id, "")
    made.mount(volume_id, path)
    made.unmount(volume_id, path)
    if isinstance(made, backend.BlockBackend):
        made.detach(volume_id)


def _snapshot(made: backend.Backend, volume_id: str, snapshot_id: str) -> None:
    if isinstance(made, backend.Snapshots):
        made.snapshot(volume_id, snapshot_id, read_only=True)


def _grow(made: backend.Backend, volume_id: str, size: int) -> None:
    if isinstance(made, backend.Growing):
        made.grow(volume_id, size)


def _restore(made: backend.Backend, volume_id: str, snapshot_id: str) -> None:
    if isinstance(made, backend.Restoring):
        made.restore(volume_id, snapshot_id)
