# SPDX-License-Identifier: Apache-2.0
"""Volumes of volume groups and of iSCSI targets, and shares on NFS, in what is like a container.

Here is a kernel with device-mapper, an initiator and an NFS client, and cgroups of version 2; no
engine is needed, as it has no part in this.
"""

import contextlib
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from contract import tgt_world
from functional.servers import cgroups

from container_stack import exceptions
from container_stack.host import attach, containers, mounts
from container_stack.rootwrap import brick_session, disk_record
from container_stack.servers import disks, model
from container_stack.testing import privilege, storage_world

from . import nfs_server, test_attach_brick, volume_groups

pytestmark = volume_groups.needs_device_mapper

MIB = 1024**2
SIZE = 24 * MIB
SHARE = "8f2f3c1e-7a53-4c0e-9a39-0d6f1f0c5b11"
initiator = test_attach_brick.initiator

# Its own root, of which /usr is the host's, and its own /dev.
_ROOT = """
mount -t tmpfs root "$1" && cd "$1" && mkdir old dev usr proc
mount --bind /usr usr && ln -s usr/bin bin && ln -s usr/lib lib && ln -s usr/lib64 lib64
mount -t tmpfs -o mode=755 dev dev && mount -t proc proc proc
pivot_root . old && cd / && umount -l /old && exec sleep 1000
"""


class Sandbox:
    """What an engine makes of a container: a process with a root and a cgroup of its own."""

    def __init__(self, cgroup: Path, name: str, directory: Path) -> None:
        self._cgroup = cgroup
        words = ["unshare", "--mount", "--propagation", "private"]
        self._process = subprocess.Popen([*words, "sh", "-ec", _ROOT, "sh", str(directory)])
        (cgroup / "cgroup.procs").write_text(str(self._process.pid))
        end = time.monotonic() + 30
        while "sleep" not in Path(f"/proc/{self._process.pid}/comm").read_text():
            assert time.monotonic() < end
            time.sleep(0.02)
        self.container = containers.Container(
            id=name,
            name="cstest",
            image_id="",
            state="running",
            pid=self._process.pid,
            sandbox=None,
            exit_code=None,
            labels={},
            started_at=None,
            addresses={},
            mounts=(),
        )

    def say(self, command: str) -> str:
        """Run a command in there and return what it says."""
        join = (
            f'echo $$ >{self._cgroup}/cgroup.procs; exec nsenter --mount=/proc/$1/ns/mnt sh -c "$2"'
        )
        words = ["sh", "-c", join, "sh", str(self._process.pid), command]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        return (done.stderr if done.returncode else done.stdout).strip()

    def end(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    name = uuid.uuid4().hex * 2
    with cgroups.cgroup(f"docker-{name}.scope") as cgroup:
        root = tmp_path / "root"
        root.mkdir()
        made = Sandbox(cgroup, name, root)
        yield made
        made.end()


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    state = tmp_path / "state"
    yield state
    assert storage_world.leftovers(str(state)) == []
    assert not [*Path(disk_record.HOME, "records").glob("*.json")]


@pytest.fixture
def make(state: Path) -> Iterator[Any]:
    runner = privilege.make_executor(state, drivers=["nova"])
    yield lambda **settings: disks.Disks(runner, disks.Settings(**settings))
    runner.close()


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with volume_groups.volume_group(tmp_path_factory.mktemp("group"), 200 * MIB) as name:
        yield name


@pytest.fixture
def local(group: str) -> Iterator[model.Disk]:
    """A volume of this host's own volume group, as Cinder calls it."""
    volume_id = str(uuid.uuid4())
    name = f"volume-{volume_id}"
    volume_groups.lvm("lvcreate", "--yes", f"--size={SIZE}b", f"--name={name}", group)
    yield disk(volume_id, "local", {"device_path": f"/dev/{group}/{name}"})
    volume_groups.lvm("lvremove", "--yes", f"{group}/{name}")


@pytest.fixture
def targets(initiator: object, tmp_path: Path) -> Iterator[tgt_world.TgtWorld]:
    with tgt_world.TgtWorld(tmp_path) as world:
        yield world
    assert test_attach_brick.soon(lambda: not brick_session.SESSIONS.glob("*/targetname"), 1) or (
        not [*brick_session.SESSIONS.glob("*")]
    )


def disk(volume_id: str, kind: str, data: dict[str, Any], **values: Any) -> model.Disk:
    connection = {"driver_volume_type": kind, "data": data}
    return model.Disk(volume_id, connection, **{"target": "/dev/vdb", **values})


def exported(target: attach.Target, **values: Any) -> model.Disk:
    """Return a target in the words of Cinder."""
    data: dict[str, Any] = {
        "target_discovered": False,
        "target_iqn": target.iqn,
        "target_portal": target.portals[0],
        "target_lun": 1,
    }
    if target.chap:
        data |= {"auth_method": "CHAP", "auth_username": target.chap.user}
        data["auth_password"] = target.chap.secret
    return disk(str(uuid.uuid4()), "iscsi", data, **values)


def server_id() -> str:
    return str(uuid.uuid4())


def test_logical_volume_is_a_device(make: Any, sandbox: Sandbox, local: model.Disk) -> None:
    service, server = make(), server_id()
    service.attach(server, sandbox.container, local)
    assert sandbox.say("blockdev --getsize64 /dev/vdb") == str(SIZE)
    service.detach(server, sandbox.container, local.id)
    assert "No such file" in sandbox.say("ls /dev/vdb")


def test_other_logical_volumes_are_no_volumes(make: Any, group: str, local: model.Disk) -> None:
    volume_groups.lvm("lvcreate", "--yes", "--size=8m", "--name=root", group)
    try:
        for path in (f"/dev/{group}/root", f"/dev/mapper/{group.replace('-', '--')}-root"):
            with pytest.raises(exceptions.InvalidRequest, match="isn't a volume's device"):
                make().connect(server_id(), [disk(local.id, "local", {"device_path": path})])
    finally:
        volume_groups.lvm("lvremove", "--yes", f"{group}/root")


def test_logical_volume_is_mounted_and_grows(
    make: Any, sandbox: Sandbox, local: model.Disk
) -> None:
    service, server = make(mount_volumes=True, filesystem="ext4"), server_id()
    service.attach(server, sandbox.container, local)
    sandbox.say("echo kept >/volumes/vdb/file")
    path = str(local.connection["data"]["device_path"])  # type: ignore[index]
    volume_groups.lvm("lvextend", f"--size={2 * SIZE}b", path)
    assert service.extend(server, local.id) == 2 * SIZE
    assert int(sandbox.say("df -B1 --output=size /volumes/vdb | tail -1")) > 1.5 * SIZE
    assert sandbox.say("cat /volumes/vdb/file") == "kept"
    service.detach(server, sandbox.container, local.id)


def test_target_is_a_device_as_long_as_a_server_has_it(
    make: Any, sandbox: Sandbox, targets: tgt_world.TgtWorld
) -> None:
    chap = attach.Chap("cinder", "sesame-sesame-1")
    one = exported(targets.make("one", SIZE, chap=chap))
    service, server, other = make(), server_id(), server_id()
    service.attach(server, sandbox.container, one)
    # The service's death changes nothing, and after it all is as before.
    service = make()
    service.connect(server, [one])
    service.connect(other, [one])
    assert sandbox.say("blockdev --getsize64 /dev/vdb") == str(SIZE)
    assert chap.secret not in "".join(
        each.read_text() for each in Path(disk_record.HOME, "records").iterdir()
    )
    service.detach(server, sandbox.container, one.id)
    assert [*brick_session.SESSIONS.glob("*")]
    service.disconnect(other)
    assert not [*brick_session.SESSIONS.glob("*")]


def test_target_that_lost_its_session_is_found_again(
    make: Any, sandbox: Sandbox, targets: tgt_world.TgtWorld
) -> None:
    """As after an array's maintenance: the kernel may have given the number to another."""
    one = exported(targets.make("lost", SIZE))
    service, server = make(), server_id()
    service.attach(server, sandbox.container, one)
    subprocess.run(["iscsiadm", "-m", "session", "--logout"], check=True, capture_output=True)
    with pytest.raises(exceptions.ArrayUnavailable, match="has gone"):
        service.present(sandbox.container, server)
    service.connect(server, [one])
    service.present(sandbox.container, server)
    assert sandbox.say("blockdev --getsize64 /dev/vdb") == str(SIZE)
    service.detach(server, sandbox.container, one.id)


@pytest.mark.parametrize("chap", [None, attach.Chap("cinder", "wrong-wrong-wrong")])
def test_target_that_refuses_leaves_nothing(
    make: Any, targets: tgt_world.TgtWorld, chap: attach.Chap | None
) -> None:
    target = targets.make("closed", SIZE, chap=attach.Chap("cinder", "sesame-sesame-1"))
    bad = exported(attach.Target(target.iqn, target.portals, chap=chap))
    with pytest.raises(exceptions.AccessDenied):
        make().connect(server_id(), [bad])
    assert not [*brick_session.SESSIONS.glob("*")]


def test_killed_connections_are_undone_by_the_next_start(
    make: Any, state: Path, targets: tgt_world.TgtWorld
) -> None:
    one, server = exported(targets.make("killed", SIZE)), server_id()
    for pause in (0.3, 1.0, 3.0):
        child = os.fork()
        if not child:
            with contextlib.suppress(BaseException):
                runner = privilege.make_executor(state, drivers=["nova"])
                disks.Disks(runner).connect(server, [one])
            os._exit(0)
        time.sleep(pause)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        again = make()
        again.recover(())
        again.disconnect(server, [one])
        assert not [*brick_session.SESSIONS.glob("*")]
        assert again.known(server) == {}


@nfs_server.needs_nfs
def test_share_is_a_directory_of_its_servers(make: Any, sandbox: Sandbox, state: Path) -> None:
    with nfs_server.server(size="8m") as server:
        export = f"{nfs_server.ADDRESS}:{nfs_server.EXPORT}"
        share = disk(SHARE, "nfs", {"export": export}, target="/data")
        service, one = make(), server_id()
        service.attach(one, sandbox.container, share)
        sandbox.say("echo kept >/volumes/data/file")
        assert (server.directory / "file").read_text() == "kept\n"
        assert service.users(SHARE) == [one]
        service.detach(one, sandbox.container, SHARE)
        assert service.users(SHARE) == []
        missing = disk(SHARE, "nfs", {"export": f"{export}/none"}, target="/data")
        with pytest.raises((exceptions.NotFound, exceptions.ServiceUnavailable)):
            service.attach(one, sandbox.container, missing)
        assert not mounts.below(str(state))
