# SPDX-License-Identifier: Apache-2.0
"""Volumes that other hosts keep, through the service, by a user who isn't root."""

import json
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from contract import ec2_world

from container_stack.testing import privilege
from container_stack.volumes import backend, model, ownership, service, sql
from container_stack.volumes.backends import aws

from .. import segments, service_account

pytestmark = pytest.mark.skipif(segments.needs_root, reason="makes a user and a rule for sudo")

# The Python under test may lie in root's own home.
READING = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")


@pytest.fixture
def account() -> Iterator[service_account.Account]:
    with service_account.account(driver="osd") as made:
        yield made


def test_directories_live_through_the_service(account: service_account.Account) -> None:
    kept = account.state.parent / "kept"
    kept.mkdir()
    shutil.chown(kept, account.name)
    live(account, name="nfs", settings={"path": str(kept)})
    assert [*kept.iterdir()] == []


def test_ebs_lives_through_the_service(
    account: service_account.Account, tmp_path: pathlib.Path
) -> None:
    with ec2_world.cloud(tmp_path / "cloud") as cloud:
        devices, unit = str(cloud.directory / "devices"), ec2_world.UNIT
        live(account, name="aws", settings=cloud.settings(), devices=devices, unit=unit)
        assert cloud.left() == (set(), set())


class Survivor(ownership.Alone):
    """The only node that lives: what others own it gets, as when their leases have ended."""

    @property
    def exclusive(self) -> bool:
        return True

    def claim(self, volume_id: str) -> model.Volume:
        owner = self._registry.get(volume_id).attached_on
        if owner not in ("", self.node_id):
            self._registry.release(volume_id, owner)
        return super().claim(volume_id)


def host(
    cloud: ec2_world.Cloud,
    state: pathlib.Path,
    owner: ownership.Ownership,
    registry: sql.SQLRegistry,
    instance: str,
) -> service.VolumeService:
    runner = privilege.make_executor(state, drivers=["osd"])
    settings = {**cloud.settings(), "instance_id": instance}
    options = backend.Options("aws", runner, str(state / "backends/aws"), settings, owner.node_id)
    keeper = aws.EBS(options, find=cloud.find, unit=ec2_world.UNIT)
    made = service.VolumeService("aws", keeper, registry, owner, state_dir=str(state))
    made.start()
    return made


def test_ebs_of_a_dead_host_is_attached_where_it_is_wanted(tmp_path: pathlib.Path) -> None:
    with ec2_world.cloud(tmp_path / "cloud") as cloud:
        registry = sql.open(f"sqlite:///{tmp_path}/osd.sqlite")
        alone, survivor = ownership.Alone(registry, "dead"), Survivor(registry, "here")
        dead = host(cloud, tmp_path / "dead", alone, registry, cloud.other)
        here = host(cloud, tmp_path / "here", survivor, registry, cloud.instance)
        one, two = (dead.create(name, model.Spec(size=400 * 1024**2)) for name in ("one", "two"))
        for each in (one, two):
            path = pathlib.Path(dead.mount(each.id))
            (path / "text").write_text(each.name)
            subprocess.run(["umount", path], check=True)  # what the guard does, and no more
        there = pathlib.Path(here.mount(one.id))
        assert (there / "text").read_text() == "one"
        (disk,) = cloud.client.describe_volumes(
            Filters=[{"Name": "tag:container_stack.id", "Values": [one.id]}]
        )["Volumes"]
        assert [each["InstanceId"] for each in disk["Attachments"]] == [cloud.instance]
        here.delete(two.id)
        here.unmount(one.id)
        here.delete(one.id)
        assert cloud.left() == (set(), set())
        for each in (dead, here):
            each.stop()
            each.backend._executor.close()
        registry.close()


def live(account: service_account.Account, **told: Any) -> None:
    """Let a process of the user's do all that can be done."""
    told = {**told, "state": str(account.state), "helper": account.helper}
    words = ["setpriv", f"--reuid={account.name}", "--regid=65534", "--clear-groups", *READING]
    program = [sys.executable, str(pathlib.Path(__file__).with_name("remote_life.py"))]
    done = subprocess.run(
        [*words, "env", "HOME=/nonexistent", *program, json.dumps(told)],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
