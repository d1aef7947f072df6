# SPDX-License-Identifier: Apache-2.0
"""Storage in sparse files against the public suites, on two kinds of disk."""

import os
import pathlib
import subprocess
import time
from collections.abc import Iterator

import pytest

from container_stack.host import loop, storage
from container_stack.testing import (
    crash_contract,
    privilege,
    snapshot_contract,
    storage_contract,
    storage_world,
)


class _Loop:
    @pytest.fixture
    def open_storage(self) -> storage_world.Open:
        return loop.LoopStorage.open


class _OnPlainDisk(_Loop):
    @pytest.fixture(params=["xfs", "ext4", "btrfs"])
    def pool(
        self, tmp_path: pathlib.Path, request: pytest.FixtureRequest
    ) -> Iterator[storage.Pool]:
        runner = privilege.make_executor(tmp_path / "state")
        yield storage.Pool(runner, filesystem=request.param)
        runner.close()


class _OnSharingDisk(_Loop):
    @pytest.fixture
    def pool(self, sharing_disk: pathlib.Path) -> Iterator[storage.Pool]:
        runner = privilege.make_executor(sharing_disk / "state")
        pool = storage.Pool(runner)
        assert loop.LoopStorage.open(pool).capabilities.cheap_snapshots
        yield pool
        runner.close()

    @pytest.fixture
    def sharing_disk(self, tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
        image, disk = tmp_path / "disk.img", tmp_path / "disk"
        disk.mkdir()
        with image.open("wb") as file:
            file.truncate(8 * 1024**3)
        subprocess.run(["mkfs.xfs", "-q", image], check=True)
        subprocess.run(["mount", "-o", "loop", image, disk], check=True)
        yield disk
        subprocess.run(["umount", disk], check=True)


class TestLoop(_OnPlainDisk, storage_contract.StorageContract):
    pass


class TestLoopSnapshots(_OnPlainDisk, snapshot_contract.SnapshotContract):
    pass


class TestLoopOnSharingDisk(_OnSharingDisk, storage_contract.StorageContract):
    pass


class TestLoopSnapshotsOnSharingDisk(_OnSharingDisk, snapshot_contract.SnapshotContract):
    pass


class TestLoopCrashes(_OnPlainDisk, crash_contract.CrashContract):
    EVERY = 3


class TestLoopCrashesOnSharingDisk(_OnSharingDisk, crash_contract.CrashContract):
    pass


MIB = 1024**2
#: What a file system notes of its files, and what rounding makes of it.
_ODDS = 16 * MIB


class TestSpaceOnSharingDisk(_OnSharingDisk, storage_world.StorageFixtures):
    """Blocks that volumes and snapshots share are there once, until one of them is rewritten."""

    def test_promises_can_be_kept_when_all_is_written(self, world: storage_world.World) -> None:
        _write(world, "one")
        world.storage.snapshot("one", "then")
        world.storage.clone("then", "two", owner="me")
        world.storage.delete_snapshot("then")
        room = world.storage.capacity().free - _ODDS
        world.storage.create("rest", room // 4096 * 4096, owner="me")

        volumes = pathlib.Path(world.pool.executor.state_dir, "volumes")
        with (volumes / "rest.img").open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, room // 4096 * 4096)
        for name in ("one", "two"):
            with (volumes / f"{name}.img").open("r+b") as file:
                for _ in range(storage_world.SMALL // MIB):
                    file.write(bytes(MIB))
                os.fsync(file.fileno())

    def test_rewritten_volume_and_its_snapshot_take_what_was_promised(
        self, world: storage_world.World
    ) -> None:
        before = world.storage.capacity().free
        _write(world, "one")
        world.storage.snapshot("one", "then")
        promised = world.storage.capacity()
        assert abs(before - promised.free - promised.provisioned) < _ODDS
        with world.mounted("one") as path, (path / "much").open("r+b") as file:
            file.write(os.urandom(96 * MIB))
        os.sync()
        assert abs(world.storage.capacity().free - promised.free) < _ODDS

    def test_space_of_a_clone_that_outlives_its_original_counts_once(
        self, world: storage_world.World
    ) -> None:
        before = world.storage.capacity().free
        _write(world, "one")
        world.storage.snapshot("one", "then")
        world.storage.clone("then", "two", owner="me")
        world.storage.delete_snapshot("then")
        world.storage.delete("one")
        # A removed file's blocks are taken back a moment later: until then they count as shared.
        end = time.monotonic() + 30
        while abs(before - world.storage.capacity().free - storage_world.SMALL) >= _ODDS:
            assert time.monotonic() < end, world.storage.capacity()
            time.sleep(0.2)


def _write(world: storage_world.World, name: str) -> None:
    world.storage.create(name, storage_world.SMALL, owner="me")
    with world.mounted(name) as path:
        (path / "much").write_bytes(os.urandom(96 * MIB))
    os.sync()
