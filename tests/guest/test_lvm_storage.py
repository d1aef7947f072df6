# SPDX-License-Identifier: Apache-2.0
"""Storage in a volume group against the public suites, thick and thin."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from container_stack import exceptions
from container_stack.host import lvm, storage
from container_stack.testing import (
    crash_contract,
    privilege,
    snapshot_contract,
    storage_contract,
    storage_world,
)

from . import volume_groups

pytestmark = volume_groups.needs_device_mapper

GIB = 1024**3
MIB = 1024**2


class _LVM:
    @pytest.fixture
    def open_storage(self) -> storage_world.Open:
        return lvm.LVMStorage.open

    @pytest.fixture
    def kind(self) -> str:
        return "xfs"


class _Thick(_LVM):
    @pytest.fixture
    def pool(self, tmp_path: Path, kind: str) -> Iterator[storage.Pool]:
        runner = privilege.make_executor(tmp_path / "state")
        with volume_groups.volume_group(tmp_path, 4 * GIB) as group:
            yield storage.Pool(runner, filesystem=kind, volume_group=group)
        runner.close()


class _Thin(_LVM):
    @pytest.fixture
    def pool(self, tmp_path: Path, kind: str) -> Iterator[storage.Pool]:
        runner = privilege.make_executor(tmp_path / "state")
        with volume_groups.volume_group(tmp_path, 1200 * MIB, thin_pool=GIB) as group:
            yield storage.Pool(runner, filesystem=kind, volume_group=group, thin_pool="pool")
        runner.close()


class TestThick(_Thick, storage_contract.StorageContract):
    @pytest.fixture(params=["xfs", "ext4"])
    def kind(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    def test_capacity_is_a_number_where_text_would_sort_otherwise(
        self, world: storage_world.World
    ) -> None:
        world.storage.create("one", 1000 * MIB, owner="me")
        capacity = world.storage.capacity()
        assert capacity.total == 4 * GIB - 4 * MIB
        assert capacity.free == capacity.total - 1000 * MIB

    def test_volumes_of_others_are_not_touched(self, world: storage_world.World) -> None:
        group = world.pool.volume_group or ""
        volume_groups.lvm("lvcreate", "--yes", "--size=8m", "--name=cs-theirs", group)
        assert world.storage.list() == []
        world.storage.delete("theirs")
        world.storage.recover()
        with pytest.raises(exceptions.NotFound):
            world.storage.get("theirs")
        with pytest.raises(exceptions.AlreadyExists):
            world.storage.create("theirs", 400 * MIB, owner="me")
        assert volume_groups.lvm("lvs", "--noheadings", "--options=lv_name", group) == "cs-theirs"

    def test_missing_volume_group_is_named_with_its_cure(self, world: storage_world.World) -> None:
        missing = lvm.LVMStorage.open(
            storage.Pool(world.pool.executor, volume_group="cstest-missing")
        )
        for action in (
            missing.capacity,
            missing.list,
            missing.recover,
            lambda: missing.create("one", 400 * MIB, owner="me"),
            lambda: missing.delete("one"),
        ):
            with pytest.raises(exceptions.NotFound, match="vgcreate cstest-missing"):
                action()


class TestThickSnapshots(_Thick, snapshot_contract.SnapshotContract):
    pass


class TestThickCrashes(_Thick, crash_contract.CrashContract):
    EVERY = 3  # a step takes seconds here


class TestThin(_Thin, storage_contract.StorageContract):
    @pytest.fixture(params=["xfs", "btrfs"])
    def kind(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    def test_thin_volumes_may_promise_more_than_there_is(self, world: storage_world.World) -> None:
        for name in ("one", "two"):
            world.storage.create(name, 900 * MIB, owner="me")
        capacity = world.storage.capacity()
        assert capacity.total == GIB
        assert capacity.provisioned == 1800 * MIB > capacity.total > capacity.free > 500 * MIB

    def test_missing_thin_pool_is_named_with_its_cure(self, world: storage_world.World) -> None:
        group = world.pool.volume_group
        missing = lvm.LVMStorage.open(
            storage.Pool(world.pool.executor, volume_group=group, thin_pool="missing")
        )
        with pytest.raises(exceptions.NotFound, match="lvcreate --type thin-pool"):
            missing.create("one", 400 * MIB, owner="me")


class TestThinSnapshots(_Thin, snapshot_contract.SnapshotContract):
    @pytest.fixture(params=["xfs", "btrfs"])
    def kind(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)


class TestThinCrashes(_Thin, crash_contract.CrashContract):
    EVERY = 3
