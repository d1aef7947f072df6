# SPDX-License-Identifier: Apache-2.0
"""EBS as a backend: identity, keys, slowness, other instances, and what is left."""

import dataclasses
import functools
import logging
import pathlib
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator

import pytest

from container_stack import exceptions
from container_stack.testing import privilege
from container_stack.volumes import backend, model
from container_stack.volumes.backends import aws, aws_devices, aws_instance

from . import ec2_world

SPEC = model.Spec(size=40 * ec2_world.UNIT)
SECRET = ec2_world.KEYS["aws_secret_access_key"]
PLACE = ("instance_id", "region", "availability_zone")


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ec2_world.Cloud]:
    with ec2_world.cloud(tmp_path_factory.mktemp("ec2") / "cloud") as made:
        yield made


@pytest.fixture
def options(tmp_path: pathlib.Path, cloud: ec2_world.Cloud) -> Iterator[backend.Options]:
    runner = privilege.make_executor(tmp_path / "state", drivers=["osd"])
    directory = str(tmp_path / "state" / "backends" / "aws")
    yield backend.Options("aws", runner, directory, cloud.settings(), "here")
    runner.close()
    cloud.be_slow(0)
    left = cloud.left()
    assert left == (set(), set())


@pytest.fixture
def ebs(options: backend.Options, cloud: ec2_world.Cloud) -> aws.EBS:
    return make(options, cloud)


def make(options: backend.Options, cloud: ec2_world.Cloud, **settings: str) -> aws.EBS:
    merged = {**options.settings, **settings}
    options = dataclasses.replace(options, settings=merged)
    made = aws.EBS(options, find=cloud.find, unit=ec2_world.UNIT)
    made.start()
    return made


def new_id() -> str:
    return str(uuid.uuid4())


# Which instance this is ------------------------------------------------------------------------


@pytest.mark.parametrize("version", [1, 2])
def test_instance_is_known_by_its_metadata_service(version: int) -> None:
    with ec2_world.metadata("i-0123", version=version) as url:
        found = aws_instance.identify({"metadata_url": url})
        assert found == aws_instance.Instance("i-0123", ec2_world.REGION, ec2_world.ZONE)
        other = aws_instance.identify({"metadata_url": f"{url}/", "instance_id": "i-0456"})
        assert other == aws_instance.Instance("i-0456", ec2_world.REGION, ec2_world.ZONE)


def test_missing_metadata_service_is_named_with_its_cure_in_bounded_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        begun = time.monotonic()
        with pytest.raises(exceptions.HostNotReady, match=f"{url}.*instance_id"):
            aws_instance.identify({"metadata_url": url})
        assert time.monotonic() - begun < 60


def test_driver_finds_itself_by_the_metadata_service(options, cloud):
    settings = {name: text for name, text in options.settings.items() if name not in PLACE}
    with ec2_world.metadata(cloud.instance) as url:
        made = make(dataclasses.replace(options, settings=settings), cloud, metadata_url=url)
        one = new_id()
        made.create(one, SPEC)
        made.attach(one)
        made.detach(one)
        made.delete(one)


# Keys ------------------------------------------------------------------------------------------


def test_half_a_key_and_odd_settings_are_refused(options):
    for settings in (
        {"aws_secret_access_key": ""},
        {"timeout": "soon"},
        {"timeout": "0"},
        {"iops": "many"},
        {"encrypted": "perhaps"},
        {"filesystem": "btrfs"},
    ):
        merged = {**options.settings, **settings}
        with pytest.raises(exceptions.InvalidRequest) as caught:
            aws.EBS(dataclasses.replace(options, settings=merged))
        assert SECRET not in str(caught.value)


def test_missing_keys_are_named_with_their_cure(options, cloud, monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with ec2_world.metadata(cloud.instance) as url:
        settings = {name: text for name, text in options.settings.items() if "aws" not in name}
        with pytest.raises(exceptions.HostNotReady, match="aws_access_key_id"):
            make(dataclasses.replace(options, settings=settings), cloud, metadata_url=url)


def test_wrong_keys_are_refused_clearly_and_nowhere_shown(tmp_path, options, caplog):
    caplog.set_level(logging.DEBUG)
    with ec2_world.cloud(tmp_path / "guarded") as guarded:
        settings = {**guarded.settings(), "aws_session_token": "cstest/Token+2"}
        mine = dataclasses.replace(options, settings=settings)
        made = make(mine, guarded)
        guarded.guard()
        with pytest.raises(exceptions.AccessDenied, match="aws_secret_access_key") as denied:
            made.create(new_id(), SPEC)
        with pytest.raises(exceptions.HostNotReady, match="aws_secret_access_key") as unready:
            make(mine, guarded)
    shown = [str(denied.value), repr(denied.value), str(unready.value), repr(made), repr(mine)]
    for text in (*shown, caplog.text):
        assert SECRET not in text
        assert "cstest/Token+2" not in text
    assert denied.value.__cause__ is None


def test_endpoint_that_does_not_answer_costs_bounded_time(options, cloud):
    with socket.create_server(("127.0.0.1", 0)) as gone:
        url = f"http://127.0.0.1:{gone.getsockname()[1]}"
    begun = time.monotonic()
    with pytest.raises(exceptions.HostNotReady, match="EC2"):
        make(options, cloud, endpoint_url=url)
    assert time.monotonic() - begun < 120


# Slowness --------------------------------------------------------------------------------------


def test_what_takes_its_time_is_waited_for(options, cloud, ebs):
    cloud.be_slow(3)
    one, two = new_id(), new_id()
    ebs.create(one, SPEC)
    assert cloud.client.describe_volumes()["Volumes"][-1]["State"] == "available"
    ebs.snapshot(one, two, read_only=False)
    assert ebs.list() == sorted([one, two])
    assert ebs.attach(two)
    ebs.detach(two)
    for each in (one, two):
        ebs.delete(each)


def test_what_takes_too_long_fails_in_bounded_time_and_leaves_nothing(options, cloud):
    hasty = make(options, cloud, timeout="2")
    one, two = new_id(), new_id()
    hasty.create(one, SPEC)
    hasty.snapshot(one, two, read_only=True)
    cloud.be_slow(3600)
    with pytest.raises(exceptions.ServiceUnavailable, match="longer than 2 s"):
        hasty.create(new_id(), SPEC)
    with pytest.raises(exceptions.ServiceUnavailable, match="longer than 2 s"):
        hasty.attach(two)
    assert cloud.left()[0] == {hasty._disks._all(one)[0].id}
    cloud.be_slow(0)
    hasty.attach(two)
    for each in (one, two):
        hasty.delete(each)


# Others ----------------------------------------------------------------------------------------


def test_volume_of_another_instance_is_neither_attached_nor_deleted(options, cloud, ebs):
    settings = {"instance_id": cloud.other}
    there = make(dataclasses.replace(options, node_id="there"), cloud, **settings)
    one = new_id()
    ebs.create(one, SPEC)
    device = ebs.attach(one)
    for action in (there.attach, there.delete):
        with pytest.raises(exceptions.Busy, match=cloud.instance):
            action(one)
    there.detach(one)
    assert ebs.attach(one) == device
    ebs.detach(one)
    assert there.attach(one)
    with pytest.raises(exceptions.Busy, match=cloud.other):
        ebs.attach(one)
    there.detach(one)
    there.delete(one)


def test_volume_of_an_instance_that_is_off_is_taken_from_it(options, cloud, ebs):
    there = make(dataclasses.replace(options, node_id="there"), cloud, instance_id=cloud.other)
    one, two = new_id(), new_id()
    for each in (one, two):
        there.create(each, SPEC)
        there.attach(each)
    cloud.client.stop_instances(InstanceIds=[cloud.other])
    try:
        assert ebs.attach(one)
        ebs.detach(one)
        for each in (one, two):
            ebs.delete(each)
    finally:
        cloud.client.start_instances(InstanceIds=[cloud.other])


def test_drivers_have_their_own_volumes(options, cloud, ebs):
    other = make(dataclasses.replace(options, name="other"), cloud)
    one, two = new_id(), new_id()
    ebs.create(one, SPEC)
    other.create(two, SPEC)
    assert (ebs.list(), other.list()) == ([one], [two])
    other.delete(one)
    with pytest.raises(exceptions.NotFound):
        other.attach(one)
    assert ebs.list() == [one]
    ebs.delete(one)
    other.delete(two)


def test_what_is_asked_for_twice_is_made_once(cloud, ebs):
    one = new_id()
    ebs.create(one, SPEC)
    made = ebs._disks._ec2.create_disk(one, {}, Size=40, VolumeType="gp3")
    assert made.tags["id"] == one
    ebs.delete(one)
    ebs.create(one, SPEC)
    ebs.delete(one)


def test_disks_are_made_as_configured(options, cloud):
    made, one = make(options, cloud, volume_type="io2", iops="4000", encrypted="true"), new_id()
    made.create(one, model.Spec(size=40 * ec2_world.UNIT + 1))
    (found,) = (
        each
        for each in cloud.client.describe_volumes()["Volumes"]
        if each["VolumeId"] in cloud.left()[0]
    )
    assert (found["VolumeType"], found["Iops"], found["Encrypted"]) == ("io2", 4000, True)
    assert found["Size"] == 41
    tags = {each["Key"]: each["Value"] for each in found["Tags"]}
    assert tags["container_stack.id"] == one
    assert tags["container_stack.driver"] == "aws"
    made.delete(one)


# What is left ----------------------------------------------------------------------------------


def test_what_a_crash_left_is_found_and_cleaned_up_at_the_start(options, cloud, ebs):
    one = new_id()
    ebs.create(one, SPEC)
    ebs.attach(one)
    ebs.format(one, "")
    (old,) = cloud.left()[0]
    ebs.detach(one)
    client, tags = cloud.client, [*ebs._disks._tags(one).items()]

    def tagged(kind: str, **more: str) -> list[dict[str, object]]:
        pairs = [*tags, *more.items()]
        marks = [{"Key": f"container_stack.{name}", "Value": text} for name, text in pairs]
        return [{"ResourceType": kind, "Tags": marks}]

    # Restoring, killed when the new disk was there.
    values = {"VolumeId": old, "TagSpecifications": tagged("snapshot", temporary="here")}
    snapshot = client.create_snapshot(**values)["SnapshotId"]
    kept = client.create_snapshot(
        VolumeId=old, TagSpecifications=tagged("snapshot", temporary="there")
    )["SnapshotId"]
    new = client.create_volume(
        AvailabilityZone=ec2_world.ZONE,
        SnapshotId=snapshot,
        TagSpecifications=tagged("volume", turn="1"),
    )["VolumeId"]
    assert ebs.list() == [one]
    fresh = make(options, cloud)
    assert cloud.left() == ({new}, {kept})
    assert fresh.list() == [one]
    path = f"{options.executor.state_dir}/mounts/aws/one"
    fresh.mount(one, path)
    fresh.unmount(one, path)
    fresh.detach(one)
    fresh.delete(one)


def test_half_made_file_system_is_made_anew(options, cloud, ebs):
    one = new_id()
    ebs.create(one, SPEC)
    device = ebs.attach(one)
    ebs._disks._ec2.tag(ebs._disks.disk(one).id, "making", "xfs")
    subprocess.run(["mkfs.ext4", "-q", device], check=True)
    fresh = make(options, cloud)
    fresh.format(one, "xfs")
    path = f"{options.executor.state_dir}/mounts/aws/one"
    fresh.mount(one, path)
    (pathlib.Path(path) / "text").write_text("kept")
    fresh.format(one, "")
    assert (pathlib.Path(path) / "text").read_text() == "kept"
    fresh.unmount(one, path)
    fresh.detach(one)
    fresh.delete(one)


# Devices ---------------------------------------------------------------------------------------


def test_names_under_which_nothing_is_attached_are_found():
    assert aws_devices.free_name([]) == "/dev/sdf"
    assert aws_devices.free_name(["/dev/sda1", "/dev/sdf", "/dev/xvdg"]) == "/dev/sdh"
    taken: list[str] = []
    while len(taken) < 11 + 52:
        taken.append(aws_devices.free_name(taken))
    assert len(set(taken)) == len(taken)
    with pytest.raises(exceptions.NoSpace):
        aws_devices.free_name(taken)


def test_attached_disk_is_found_as_udev_or_xen_shows_it(monkeypatch):
    there: set[str] = set()
    monkeypatch.setattr(aws_devices.os.path, "exists", there.__contains__)
    find = functools.partial(aws_devices.find, "vol-049df61146c4d7901", "/dev/sdf")
    assert find() == ""
    there.add("/dev/xvdf")
    assert find() == "/dev/xvdf"
    there.add("/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_vol049df61146c4d7901")
    assert find() == "/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_vol049df61146c4d7901"
