# SPDX-License-Identifier: Apache-2.0
"""Servers on an engine that remaps users: root in them is nobody on the host, and lacks nothing."""

import contextlib
import dataclasses
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from container_stack import exceptions
from container_stack.host import images
from container_stack.servers import assembly, disks, model, quotas
from container_stack.testing import btrfs_disk

from .. import busybox, dockerd
from . import disk_host, server_host

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="starting another dockerd needs root")

MIB = 1024**2
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIcstest cstest"
DRIVE = "openstack/latest/user_data"
FILL = "dd if=/dev/urandom of=/much bs=1M count=100 2>&1; rm /much"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[server_host.Host]:
    """A host whose engine remaps users, and keeps its data where it can limit that."""
    with contextlib.ExitStack() as undo:
        # The engine demands that its containers' root may pass through.
        open_to_all = undo.enter_context(tempfile.TemporaryDirectory("", "cstest-", "/var/tmp"))
        os.chmod(open_to_all, 0o755)
        data = undo.enter_context(btrfs_disk.mounted(Path(open_to_all, "d"), size=2048 * MIB))
        user = undo.enter_context(dockerd.remapped_user())
        own = dockerd.Dockerd(data, ("--storage-driver=btrfs", f"--userns-remap={user}"))
        undo.callback(own.stop)
        own.start()
        # Where nobody may pass but its own user, as an operator has it.
        made = server_host.Host(tmp_path_factory.mktemp("remapped"), "", own.url)
        undo.enter_context(contextlib.closing(made))
        made.image_id = busybox.import_image(images.Images(made.engine), "cstest-remapped:1").id
        yield made


def serving(host: server_host.Host, *, mount_volumes: bool = True) -> assembly.Service:
    """Return a service that insists on user namespaces and on quotas."""
    settings = dataclasses.replace(
        host.settings,
        user_namespaces=True,
        disk_quota=quotas.REQUIRED,
        volumes=disks.Settings(mount_volumes=mount_volumes),
    )
    service = assembly.assemble(settings, host.engine, host.new_executor())
    service.start()
    return service


def run(host: server_host.Host, plan: model.Plan, line: str) -> str:
    return host.engine.exec(host.name(plan.id), ["sh", "-c", line]).stdout.decode().strip()


def test_server_has_its_files_and_disks_and_no_more(host: server_host.Host) -> None:
    service = serving(host)
    plan = host.plan(
        ports=(),
        files={DRIVE: b"#!/bin/sh"},
        key=KEY,
        limits=model.Limits(disk=64 * MIB),
        ephemerals=(model.Ephemeral("vdb", 24 * MIB),),
    )
    service.servers.spawn(plan, host.image_id)
    assert int(run(host, plan, "cat /proc/self/uid_map").split()[1]) > 0
    assert run(host, plan, f"cat /var/lib/cloud/seed/config_drive/{DRIVE}") == "#!/bin/sh"
    assert run(host, plan, "cat /root/.ssh/authorized_keys") == KEY
    assert run(host, plan, "stat -c %u /root/.ssh/authorized_keys") == "0"
    assert run(host, plan, "echo mine | tee /mine /volumes/vdb/mine") == "mine"
    assert "Disk quota exceeded" in run(host, plan, FILL)
    service.moves.park(plan)
    service.moves.finish(plan)
    service.moves.confirm(plan.id)
    assert run(host, plan, "cat /mine /volumes/vdb/mine") == "mine\nmine"
    assert run(host, plan, "stat -c %u /volumes/vdb /volumes/vdb/mine /mine") == "0\n0\n0"
    assert "Disk quota exceeded" in run(host, plan, FILL)
    service.servers.destroy(plan.id)


@pytest.fixture
def volumes(host: server_host.Host) -> Iterator[disk_host.Host]:
    made = disk_host.Host(host.state_dir.parent, host.engine)
    yield made
    made.close()


def test_what_is_on_a_volume_belongs_to_the_servers_own_users(
    host: server_host.Host, volumes: disk_host.Host, tmp_path: Path
) -> None:
    service, volume = serving(host), volumes.volume(empty=True)
    plan = host.plan(ports=())
    service.servers.spawn(plan, host.image_id)
    service.servers.attach_disk(plan.id, volumes.disk(volume))
    line = "cd /volumes/vdb && echo mine >mine && chown 7:8 mine && stat -c %u:%g . mine"
    assert run(host, plan, line) == "0:0\n7:8"
    service.servers.reboot(dataclasses.replace(plan, disks=(volumes.disk(volume),)), hard=True)
    assert run(host, plan, "cat /volumes/vdb/mine; stat -c %u /volumes/vdb/mine") == "mine\n7"
    service.servers.detach_disk(plan.id, volumes.disk(volume))
    # As any other host finds it.
    subprocess.run(["mount", "-o", "ro", volumes.device(volume), tmp_path], check=True)
    owner = (tmp_path / "mine").stat().st_uid
    subprocess.run(["umount", tmp_path], check=True)
    assert owner == 7

    with pytest.raises(exceptions.NotSupported, match="let volumes be mounted instead"):
        serving(host, mount_volumes=False).servers.attach_disk(plan.id, volumes.disk(volume))
    assert volumes.connected() == {}
    service.servers.destroy(plan.id)
