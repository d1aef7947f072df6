# SPDX-License-Identifier: Apache-2.0
"""Storage in sparse files against the public suites, on two kinds of disk."""

import pathlib
import subprocess
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
    pass


class TestLoopCrashesOnSharingDisk(_OnSharingDisk, crash_contract.CrashContract):
    pass
