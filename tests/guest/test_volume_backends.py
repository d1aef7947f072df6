# SPDX-License-Identifier: Apache-2.0
"""Open Storage's lvm backend against the public suites, thick and thin."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from container_stack import exceptions, plugins
from container_stack.testing import (
    privilege,
    volume_abilities_contract,
    volume_backend_contract,
    volume_crash_contract,
    volume_world,
)
from container_stack.volumes import backend

from . import volume_groups

pytestmark = volume_groups.needs_device_mapper

GIB = 1024**3
MIB = 1024**2


class _LVM(volume_world.VolumeFixtures):
    @pytest.fixture
    def open_backend(self) -> volume_world.Open:
        factory: volume_world.Open = plugins.load(plugins.VOLUME_BACKENDS, "lvm")
        return factory


class _Thick(_LVM):
    @pytest.fixture
    def options(self, tmp_path: Path) -> Iterator[backend.Options]:
        runner = privilege.make_executor(tmp_path / "state", drivers=["osd"])
        directory = str(tmp_path / "state" / "backends" / "lvm")
        with volume_groups.volume_group(tmp_path, 4 * GIB) as group:
            yield backend.Options("lvm", runner, directory, {"volume_group": group})
        runner.close()


class _Thin(_LVM):
    @pytest.fixture
    def options(self, tmp_path: Path) -> Iterator[backend.Options]:
        runner = privilege.make_executor(tmp_path / "state", drivers=["osd"])
        directory = str(tmp_path / "state" / "backends" / "lvm")
        with volume_groups.volume_group(tmp_path, 1600 * MIB, thin_pool=1400 * MIB) as group:
            settings = {"volume_group": group, "thin_pool": "pool"}
            yield backend.Options("lvm", runner, directory, settings)
        runner.close()


class TestThick(_Thick, volume_backend_contract.VolumeBackendContract):
    def test_missing_volume_group_is_named_with_its_cure(self, world: volume_world.World) -> None:
        options = backend.Options(
            "x",
            world.options.executor,
            world.options.directory + "2",
            {"volume_group": "cstest-none"},
        )
        with pytest.raises(exceptions.HostNotReady, match="vgcreate cstest-none"):
            world.open(options).start()


class TestThickBlocks(_Thick, volume_abilities_contract.BlockContract):
    pass


class TestThickSnapshots(_Thick, volume_abilities_contract.SnapshotContract):
    pass


class TestThin(_Thin, volume_backend_contract.VolumeBackendContract):
    pass


class TestThinBlocks(_Thin, volume_abilities_contract.BlockContract):
    pass


class TestThinSnapshots(_Thin, volume_abilities_contract.SnapshotContract):
    pass


class TestThinCrashes(_Thin, volume_crash_contract.CrashContract):
    # A step takes seconds here, and the pool's own steps have a suite of their own.
    EVERY = 9
