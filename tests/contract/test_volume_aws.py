# SPDX-License-Identifier: Apache-2.0
"""EBS as a backend against the public suites, with moto as EC2."""

import dataclasses
import functools
import pathlib
from collections.abc import Iterator

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


class TestEBSTaking(_EBS, volume_abilities_contract.TakingContract):
    @pytest.fixture
    def kind(self) -> str:
        return "xfs"

    @pytest.fixture
    def there(
        self, tmp_path: pathlib.Path, options: backend.Options, cloud: ec2_world.Cloud
    ) -> Iterator[backend.Options]:
        runner = privilege.make_executor(tmp_path / "there", drivers=["osd"])
        directory = str(tmp_path / "there" / "backends" / "aws")
        settings = {**options.settings, "instance_id": cloud.other}
        yield backend.Options("aws", runner, directory, settings, "there")
        runner.close()

    @pytest.fixture
    def timeout(self, options: backend.Options) -> backend.Options:
        """A host that waits for a second only."""
        return dataclasses.replace(options, settings={**options.settings, "timeout": "1"})

    def test_instance_that_hangs_is_taken_from_by_force(
        self,
        world: volume_world.World,
        dead: backend.BlockBackend,
        timeout: backend.Options,
        cloud: ec2_world.Cloud,
    ) -> None:
        one = world.create()
        world.write(one, "kept")
        dead.attach(one)
        hasty = world.open(timeout)
        assert isinstance(hasty, backend.Taking)
        with cloud.hung(cloud.other):
            hasty.take(one)
        assert world.read(one) == "kept"

    def test_instance_that_is_no_host_of_ours_is_not_taken_from(
        self, world: volume_world.World, cloud: ec2_world.Cloud
    ) -> None:
        one = world.create()
        (disk,) = cloud.left()[0]
        cloud.client.attach_volume(VolumeId=disk, InstanceId=cloud.other, Device="/dev/sdk")
        try:
            with pytest.raises(exceptions.Busy, match=cloud.other):
                world.taking().take(one)
            (found,) = cloud.client.describe_volumes(VolumeIds=[disk])["Volumes"]
            assert [each["InstanceId"] for each in found["Attachments"]] == [cloud.other]
        finally:
            cloud.client.detach_volume(VolumeId=disk, InstanceId=cloud.other)


class TestEBSSnapshots(_EBS, volume_abilities_contract.SnapshotContract):
    pass


class TestEBSCrashes(_EBS, volume_crash_contract.CrashContract):
    EVERY = 5  # each request to EC2 is a step, and asking takes its time

    @pytest.fixture
    def kind(self) -> str:
        return "xfs"
