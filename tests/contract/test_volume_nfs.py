# SPDX-License-Identifier: Apache-2.0
"""Directories as volumes against the public suite, without a server: below one of this host's."""

import pathlib
from collections.abc import Iterator

import pytest

from container_stack import plugins
from container_stack.testing import (
    privilege,
    volume_abilities_contract,
    volume_backend_contract,
    volume_crash_contract,
    volume_world,
)
from container_stack.volumes import backend


class _Local(volume_world.VolumeFixtures):
    @pytest.fixture
    def open_backend(self) -> volume_world.Open:
        factory: volume_world.Open = plugins.load(plugins.VOLUME_BACKENDS, "nfs")
        return factory

    @pytest.fixture
    def options(self, tmp_path: pathlib.Path) -> Iterator[backend.Options]:
        runner = privilege.make_executor(tmp_path / "state", drivers=["osd"])
        directory, path = tmp_path / "state" / "backends" / "nfs", tmp_path / "kept"
        path.mkdir()
        yield backend.Options("nfs", runner, str(directory), {"path": str(path)})
        runner.close()
        assert not [*path.iterdir()]


class TestLocal(_Local, volume_backend_contract.VolumeBackendContract):
    pass


class TestLocalSnapshots(_Local, volume_abilities_contract.SnapshotContract):
    pass


class TestLocalCrashes(_Local, volume_crash_contract.CrashContract):
    pass
