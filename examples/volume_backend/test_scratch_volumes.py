# SPDX-License-Identifier: Apache-2.0
"""The backend against the public suites, loaded as an operator's choice would load it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import scratch_volumes

from container_stack import plugins
from container_stack.testing import (
    privilege,
    volume_abilities_contract,
    volume_backend_contract,
    volume_crash_contract,
    volume_world,
)
from container_stack.volumes import backend


class Scratch(volume_world.VolumeFixtures):
    @pytest.fixture
    def open_backend(self) -> volume_world.Open:
        factory: volume_world.Open = plugins.load(plugins.VOLUME_BACKENDS, "scratch")
        return factory

    @pytest.fixture
    def options(self, tmp_path: Path) -> Iterator[backend.Options]:
        state_dir = tmp_path / "state"
        runner = privilege.make_executor(state_dir, more=scratch_volumes.COMMANDS, drivers=["osd"])
        yield backend.Options("scratch", runner, str(state_dir / "backends" / "scratch"))
        runner.close()


class TestScratch(Scratch, volume_backend_contract.VolumeBackendContract):
    pass


class TestScratchAbilities(Scratch, volume_abilities_contract.SnapshotContract):
    pass


class TestScratchCrashes(Scratch, volume_crash_contract.CrashContract):
    pass
