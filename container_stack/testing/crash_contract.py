# SPDX-License-Identifier: Apache-2.0
"""The contract suite of storage, third part: what kill -9 leaves, and what recovery makes of it.

Each action runs in a process of its own that is killed before its first step, then before its
second, and so on to the end. A step is a privileged command, its return, or a change to a file
below the state directory. Afterwards :meth:`Storage.recover` runs and the action must have
happened as a whole or not at all.
"""

import dataclasses
import os
import pathlib
import signal
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

from container_stack import exceptions
from container_stack.host import storage
from container_stack.testing import storage_world
from container_stack.testing.storage_world import LARGE, MIB, SMALL, World

Action = Callable[[storage.Storage], object]

#: Bytes to grow by.
STEP = 16 * MIB

_CHANGES = {"os.rename", "os.remove", "os.truncate", "fcntl.ioctl"}


class CrashContract(storage_world.StorageFixtures):
    """What every storage backend must survive."""

    def test_killed_create_leaves_a_volume_or_nothing(self, world: World) -> None:
        for _step in kills(world, lambda s: s.create("one", SMALL, owner="me")):
            if _present(world, "one"):
                assert world.room("one") > 0
                world.storage.delete("one")
            assert world.storage.capacity().provisioned == 0
            world.storage.create("one", SMALL, owner="me")
            world.storage.delete("one")

    def test_create_needs_no_recovery_after_a_killed_one(self, world: World) -> None:
        for _step in kills(world, lambda s: s.create("one", SMALL, owner="me"), recover=False):
            if not _present(world, "one"):
                world.storage.create("one", SMALL, owner="me")
            world.write("one", "kept")
            world.storage.delete("one")

    def test_killed_delete_leaves_a_volume_or_nothing(self, world: World) -> None:
        world.storage.create("one", SMALL, owner="me")
        world.write("one", "kept")
        for _step in kills(world, lambda s: s.delete("one")):
            if _present(world, "one"):
                assert world.read("one") == "kept"
            else:
                assert world.storage.capacity().provisioned == 0
                world.storage.create("one", SMALL, owner="me")
                world.write("one", "kept")

    def test_killed_grow_leaves_the_old_or_the_new_size(self, world: World) -> None:
        old = world.storage.create("one", SMALL, owner="me").size
        room = world.room("one")
        for step in kills(world, lambda s: s.grow("one", s.get("one").size + STEP)):
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
        for _step in kills(world, lambda s: s.shrink("one", SMALL)):
            assert (world.storage.get("one").size >= LARGE) == (world.room("one") > SMALL)
            world.storage.grow("one", LARGE)
            assert world.read("one") == "kept"

    def test_killed_snapshot_lets_writers_go_on(self, world: World) -> None:
        world.storage.create("one", SMALL, owner="me")
        with world.mounted("one") as path:
            (path / "text").write_text("before", encoding="utf-8")
            for step in kills(world, lambda s: s.snapshot("one", "then")):
                _write_within(path / "text", f"after {step}")
                if world.storage.list_snapshots():
                    world.storage.clone("then", "two", owner="me")
                    assert world.read("two") == "before"
                    world.storage.delete("two")
                world.storage.delete_snapshot("then")
                _write_within(path / "text", "before")

    def test_killed_clone_leaves_a_volume_or_nothing(self, world: World) -> None:
        world.storage.create("one", SMALL, owner="me")
        world.write("one", "kept")
        world.storage.snapshot("one", "then")
        for _step in kills(world, lambda s: s.clone("then", "two", size=LARGE, owner="me")):
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
        for _step in kills(world, lambda s: s.restore("then")):
            assert world.read("one") in ("before", "after")
            assert [snapshot.id for snapshot in world.storage.list_snapshots()] == ["then"]
            world.storage.restore("then")
            assert world.read("one") == "before"
            assert world.storage.get("one").labels == {"a": "1"}
            world.write("one", "after")

    def test_killed_deletion_of_a_snapshot_leaves_it_or_nothing(self, world: World) -> None:
        world.storage.create("one", SMALL, owner="me")
        world.storage.snapshot("one", "then")
        for _step in kills(world, lambda s: s.delete_snapshot("then")):
            if not world.storage.list_snapshots():
                world.storage.snapshot("one", "then")

    def test_failing_command_leaves_nothing_new(self, world: World) -> None:
        for step in range(1, 100):
            if _fails_at(world, step, lambda s: s.create("one", SMALL, owner="me")):
                assert world.storage.list() == []
                assert world.storage.capacity().provisioned == 0
            else:
                assert step > 1
                return


def kills(world: World, action: Action, *, recover: bool = True) -> "Kills":
    """Return an iterator over the kills of an action, each already recovered from."""
    return Kills(world, action, recover)


@dataclasses.dataclass(slots=True)
class Kills:
    """Kills an action at each of its steps in turn, until it survives to its end."""

    world: World
    action: Action
    recover: bool
    step: int = 0

    def __iter__(self) -> "Kills":
        return self

    def __next__(self) -> int:
        self.step += 1
        if not _killed_at(self.world, self.action, self.step):
            assert self.step > 2, "the action has no steps to be killed at"
            raise StopIteration
        if self.recover:
            self.world.again().recover()
        return self.step


def _killed_at(world: World, action: Action, step: int) -> bool:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            _count_down(world, step)
            action(world.again())
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    _pid, status = os.waitpid(pid, 0)
    assert not os.WIFEXITED(status) or os.WEXITSTATUS(status) == 0, "the action failed"
    return os.WIFSIGNALED(status)


def _count_down(world: World, steps: int) -> None:
    """Kill this process at a step to come; only for a child, since there is no way back."""
    state_dir = world.pool.executor.state_dir + "/"
    left = steps

    def step() -> None:
        nonlocal left
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(event: str, args: tuple[Any, ...]) -> None:
        changes = event in _CHANGES or (event == "open" and _writes(args, state_dir))
        if changes and not _is_lock(args[0]):
            step()

    run = world.pool.executor.run

    def run_and_count(*args: Any, **kwargs: Any) -> str:
        step()
        out = run(*args, **kwargs)
        step()
        return out

    sys.addaudithook(watch)
    world.pool.executor.run = run_and_count  # type: ignore[method-assign]


def _writes(opened: tuple[Any, ...], below: str) -> bool:
    path, _mode, flags = opened
    inside = isinstance(path, str) and path.startswith(below)
    return inside and bool(flags & (os.O_WRONLY | os.O_RDWR))


def _is_lock(path: object) -> bool:
    return isinstance(path, str) and "/locks/" in path


def _fails_at(world: World, step: int, action: Action) -> bool:
    """Return whether an action failed when its command of this number did."""
    run = world.pool.executor.run
    left = step

    def run_or_fail(*args: Any, **kwargs: Any) -> str:
        nonlocal left
        left -= 1
        if not left:
            raise exceptions.CommandFailed("test", 1, "the test wants it so")
        return run(*args, **kwargs)

    world.pool.executor.run = run_or_fail  # type: ignore[method-assign]
    try:
        action(world.storage)
    except exceptions.CommandFailed:
        return True
    finally:
        world.pool.executor.run = run  # type: ignore[method-assign]
    return False


def _present(world: World, volume_id: str) -> bool:
    return volume_id in [volume.id for volume in world.storage.list()]


def _write_within(path: pathlib.Path, text: str, seconds: float = 20.0) -> None:
    """Write a file, from a process of its own: on a frozen file system it would never return."""
    pid = os.fork()
    if pid == 0:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.write(fd, text.encode())
        os.fsync(fd)
        os._exit(0)
    end = time.monotonic() + seconds
    while os.waitpid(pid, os.WNOHANG) == (0, 0):
        if time.monotonic() > end:
            os.kill(pid, signal.SIGKILL)
            raise AssertionError(f"nobody can write {path}")
        time.sleep(0.01)
