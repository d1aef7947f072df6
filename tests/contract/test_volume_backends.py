# SPDX-License-Identifier: Apache-2.0
"""Open Storage's own backends against the public suite, as they are found by their names."""

import pathlib
from collections.abc import Iterator

import pytest

from container_stack import plugins
from container_stack.testing import (
    btrfs_disk,
    privilege,
    volume_abilities_contract,
    volume_backend_contract,
    volume_crash_contract,
    volume_world,
)
from container_stack.volumes import backend


class _Loop(volume_world.VolumeFixtures):
    @pytest.fixture
    def open_backend(self) -> volume_world.Open:
        factory: volume_world.Open = plugins.load(plugins.VOLUME_BACKENDS, "loop")
        return factory

    @pytest.fixture(params=["xfs", "ext4"])
    def options(
        self, tmp_path: pathlib.Path, request: pytest.FixtureRequest
    ) -> Iterator[backend.Options]:
        runner = privilege.make_executor(tmp_path / "state", drivers=["osd"])
        directory = str(tmp_path / "state" / "backends" / "loop")
        yield backend.Options("loop", runner, directory, {"filesystem": request.param})
        runner.close()


class TestLoop(_Loop, volume_backend_contract.VolumeBackendContract):
    pass


class TestLoopBlocks(_Loop, volume_abilities_contract.BlockContract):
    pass


class TestLoopSnapshots(_Loop, volume_abilities_contract.SnapshotContract):
    pass


class TestLoopCrashes(_Loop, volume_crash_contract.CrashContract):
    # Every single step of the pool's own is tried by its own suite, where files share blocks.
    EVERY = 5


class _Btrfs(volume_world.VolumeFixtures):
    @pytest.fixture
    def open_backend(self) -> volume_world.Open:
        factory: volume_world.Open = plugins.load(plugins.VOLUME_BACKENDS, "btrfs")
        return factory

    @pytest.fixture
    def options(self, tmp_path: pathlib.Path) -> Iterator[backend.Options]:
        runner = privilege.make_executor(tmp_path / "state", drivers=["osd"])
        with btrfs_disk.mounted(tmp_path / "state" / "backends" / "btrfs") as directory:
            yield backend.Options("btrfs", runner, str(directory))
        runner.close()


class TestBtrfs(_Btrfs, volume_backend_contract.VolumeBackendContract):
    pass


class TestBtrfsSnapshots(_Btrfs, volume_abilities_contract.SnapshotContract):
    pass


class TestBtrfsCrashes(_Btrfs, volume_crash_contract.CrashContract):
    pass
