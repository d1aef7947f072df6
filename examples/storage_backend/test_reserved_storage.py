# SPDX-License-Identifier: Apache-2.0
"""The backend against the public suites, loaded as an operator's choice would load it."""

import os

import pytest

from container_stack import plugins
from container_stack.testing import (
    crash_contract,
    snapshot_contract,
    storage_contract,
    storage_world,
)


class Reserved:
    @pytest.fixture
    def open_storage(self) -> storage_world.Open:
        factory: storage_world.Open = plugins.load(plugins.STORAGE, "reserved")
        return factory


class TestReserved(Reserved, storage_contract.StorageContract):
    def test_every_block_is_allocated_before_anything_is_written(
        self, world: storage_world.World
    ) -> None:
        volume = world.storage.create("one", storage_world.SMALL, owner="me")
        image = os.path.join(world.pool.executor.state_dir, "volumes", "one.img")
        assert os.stat(image).st_blocks * 512 >= volume.size


class TestReservedSnapshots(Reserved, snapshot_contract.SnapshotContract):
    pass


class TestReservedCrashes(Reserved, crash_contract.CrashContract):
    pass
