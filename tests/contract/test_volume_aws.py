# SPDX-License-Identifier: Apache-2.0
"""EBS as a backend against the public suites, with moto as EC2."""

import functools
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

from . import ec2_world


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ec2_world.Cloud]:
    with ec2_world.cloud(tmp_path_factory.mktemp("ec2") / "cloud") as made:
        yield made


class _EBS(volume_world.VolumeFixtures):
    @pytest.fixture
    def open_backend(self, cloud: ec2_world.Cloud) -> volume_world.Open:
        factory = plugins.load(plugins.VOLUME_BACKENDS, "aws")
        return functools.partial(factory, find=cloud.find, unit=ec2_world.UNIT)

    @pytest.fixture(params=["xfs", "ext4"])
    def kind(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    @pytest.fixture
    def options(
        self, tmp_path: pathlib.Path, cloud: ec2_world.Cloud, kind: str
    ) -> Iterator[backend.Options]:
        runner = privilege.make_executor(tmp_path / "state", drivers=["osd"])
        directory = str(tmp_path / "state" / "backends" / "aws")
        settings = {**cloud.settings(), "filesystem": kind}
        yield backend.Options("aws", runner, directory, settings, "here")
        runner.close()
        assert cloud.left() == (set(), set())


class TestEBS(_EBS, volume_backend_contract.VolumeBackendContract):
    pass


class TestEBSBlocks(_EBS, volume_abilities_contract.BlockContract):
    pass


class TestEBSSnapshots(_EBS, volume_abilities_contract.SnapshotContract):
    pass


class TestEBSCrashes(_EBS, volume_crash_contract.CrashContract):
    EVERY = 3  # each request to EC2 is a step, and asking takes its time

    @pytest.fixture
    def kind(self) -> str:
        return "xfs"
