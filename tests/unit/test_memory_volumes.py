# SPDX-License-Identifier: Apache-2.0
"""The backend of plain directories against the public suite."""

import contextlib
import pathlib
from collections.abc import Iterator

import pytest

from container_stack.rootwrap import executor
from container_stack.testing import (
    memory_volumes,
    volume_abilities_contract,
    volume_backend_contract,
    volume_world,
)
from container_stack.volumes import backend


class _World(volume_world.World):
    @contextlib.contextmanager
    def used(self, path: str) -> Iterator[None]:
        assert isinstance(self.backend, memory_volumes.MemoryVolumes)
        self.backend.busy.add(path)
        yield
        self.backend.busy.remove(path)


class _Memory(volume_world.VolumeFixtures):
    @pytest.fixture(params=[memory_volumes.MemoryVolumes, memory_volumes.MemoryBlocks])
    def open_backend(self, request: pytest.FixtureRequest) -> volume_world.Open:
        return request.param

    @pytest.fixture
    def options(self, tmp_path: pathlib.Path) -> backend.Options:
        runner = executor.Executor(["false"], state_dir=str(tmp_path))
        return backend.Options("memory", runner, str(tmp_path / "backends" / "memory"))

    def make_world(self, options, open_backend, made) -> volume_world.World:
        return _World(options, open_backend, made)


class TestMemory(_Memory, volume_backend_contract.VolumeBackendContract):
    pass


class TestMemoryBlocks(_Memory, volume_abilities_contract.BlockContract):
    pass


class TestMemorySnapshots(_Memory, volume_abilities_contract.SnapshotContract):
    pass
