# SPDX-License-Identifier: Apache-2.0
"""What is special about storage in sparse files; the rest is in the contract."""

import contextlib
import json
import os
import subprocess
import time
import traceback
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path

import pytest

from container_stack import exceptions
from container_stack.host import filesystem, loop, loop_devices, storage
from container_stack.testing import privilege, storage_world

MIB = 1024**2


@pytest.fixture
def world(tmp_path: Path) -> Iterator[storage_world.World]:
    pool = storage.Pool(privilege.make_executor(tmp_path / "state"), limit=1000 * MIB)
    backend = loop.LoopStorage.open(pool)
    filesystems = filesystem.Filesystems(pool.executor)
    world = storage_world.World(pool, loop.LoopStorage.open, backend, filesystems)
    yield world
    world.clean()
    pool.executor.close()
    assert storage_world.leftovers(pool.executor.state_dir) == []


@pytest.fixture
def state(world: storage_world.World) -> Path:
    return Path(world.pool.executor.state_dir)


def test_volume_comes_back_after_a_reboot(world: storage_world.World) -> None:
    world.storage.create("one", 300 * MIB, owner="me")
    world.write("one", "kept")
    subprocess.run(["losetup", "--detach", world.storage.activate("one")], check=True)
    again = world.again()
    again.recover()
    assert world.read("one") == "kept"


def test_others_of_the_host_can_not_read_volumes(world: storage_world.World, state: Path) -> None:
    world.storage.create("one", 300 * MIB, owner="me")
    world.storage.snapshot("one", "then")
    for name in ("volumes", "snapshots"):
        assert (state / name).stat().st_mode & 0o777 == 0o700
        assert {path.stat().st_mode & 0o777 for path in (state / name).iterdir()} == {0o600}


def test_volume_occupies_what_was_written(world: storage_world.World) -> None:
    world.storage.create("one", 900 * MIB, owner="me")
    assert world.storage.usage("one") < 100 * MIB


def test_restored_volume_shares_what_its_copy_did(world: storage_world.World, state: Path) -> None:
    world.storage.create("one", 300 * MIB, owner="me")
    world.storage.snapshot("one", "then")
    world.storage.restore("then")
    shared = json.loads((state / "volumes" / "one.json").read_text())["shared"]
    assert bool(shared) is world.storage.capabilities.cheap_snapshots


def test_restore_that_was_killed_while_it_copied_shares_nothing(
    world: storage_world.World, state: Path
) -> None:
    world.storage.create("one", 300 * MIB, owner="me")
    file = state / "volumes" / "one.json"
    made = json.loads(file.read_text())
    file.write_text(json.dumps({**made, "state": "restoring"}))
    (state / "volumes" / "one.img.new").write_bytes(b"begun")
    world.again().recover()
    assert json.loads(file.read_text()) == made
    assert not (state / "volumes" / "one.img.new").exists()


def test_limit_holds_when_many_create_at_once(world: storage_world.World) -> None:
    backends = [world.storage, world.again()]

    def create(number: int) -> bool:
        try:
            backends[number % 2].create(f"v{number}", 300 * MIB, owner="me")
        except exceptions.NoSpace:
            return False
        return True

    with futures.ThreadPoolExecutor(8) as threads:
        assert sorted(threads.map(create, range(8))) == [False] * 5 + [True] * 3
    capacity = world.storage.capacity()
    assert (capacity.total, capacity.free, capacity.provisioned) == (
        1000 * MIB,
        100 * MIB,
        900 * MIB,
    )
    assert len(world.storage.list()) == 3


def test_snapshot_that_may_not_fit_is_refused_and_writers_go_on(
    world: storage_world.World, state: Path
) -> None:
    world.storage.create("one", 900 * MIB, owner="me")
    with world.mounted("one") as path:
        (path / "much").write_bytes(os.urandom(150 * MIB))
        os.sync()
        with pytest.raises(exceptions.NoSpace):
            world.storage.snapshot("one", "then")
        (path / "more").write_text("x")
    assert world.storage.list_snapshots() == []
    assert not list((state / "snapshots").glob("*"))


def test_device_that_somebody_holds_open_is_busy(world: storage_world.World) -> None:
    world.storage.create("one", 300 * MIB, owner="me")
    world.write("one", "kept")
    with open(world.storage.activate("one"), "rb"):
        with pytest.raises(exceptions.Busy, match="/dev/loop"):
            world.storage.delete("one")
        assert [volume.id for volume in world.storage.list()] == ["one"]
    assert world.read("one") == "kept"


def test_two_processes_with_eight_threads_each_leave_what_they_mean_to(
    world: storage_world.World,
) -> None:
    world = storage_world.World(
        storage.Pool(world.pool.executor), world.open, world.storage, world.filesystems
    )

    def live(number: int) -> None:
        backend, name = world.again(), f"v{number}"
        backend.create(name, 300 * MIB, owner=f"o{number % 2}")
        backend.set_labels(name, {"n": str(number)})
        backend.grow(name, 310 * MIB)
        backend.set_labels("common", {f"l{number}": "x"})
        if number % 4:
            backend.delete(name)

    def process(numbers: range) -> int:
        pid = os.fork()
        if pid:
            return pid
        code = 1
        try:
            with futures.ThreadPoolExecutor(8) as threads:
                list(threads.map(live, numbers))
            code = 0
        except BaseException:
            traceback.print_exc()
        os._exit(code)

    world.storage.create("common", 300 * MIB, owner="me")
    children = [process(range(0, 16, 2)), process(range(1, 16, 2))]
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0]
    names = ["common", "v0", "v12", "v4", "v8"]
    assert [volume.id for volume in world.storage.list()] == names
    assert world.storage.get("v12").labels == {"n": "12"}
    assert len(world.storage.get("common").labels) == 16


def test_device_without_its_file_is_detached_at_the_next_start(
    world: storage_world.World, state: Path
) -> None:
    world.storage.create("one", 300 * MIB, owner="me")
    name = Path("/sys/block", Path(world.storage.activate("one")).name, "loop", "backing_file")
    for path in (state / "volumes").iterdir():
        path.unlink()
    assert name.read_text().endswith("one.img (deleted)\n")
    world.again().recover()
    # Whoever just looks at all devices holds it for a moment; then it may be another's.
    deadline = time.monotonic() + 10
    with contextlib.suppress(FileNotFoundError):
        while name.read_text().endswith("one.img (deleted)\n"):
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_attachments_are_known_without_a_process(world: storage_world.World, state: Path) -> None:
    world.storage.create("one", 300 * MIB, owner="me")
    devices = loop_devices.LoopDevices(world.pool.executor)
    image = str(state / "volumes" / "one.img")
    assert devices.find(image) == world.storage.activate("one")
    world.storage.deactivate("one")
    assert devices.find(image) is None
