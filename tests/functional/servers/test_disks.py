# SPDX-License-Identifier: Apache-2.0
"""Volumes in containers that run, as devices and as file systems, on the real engine."""

import dataclasses
import os
import subprocess
import uuid
from collections.abc import Callable, Iterator

import pytest

from container_stack import exceptions
from container_stack.host import containers
from container_stack.servers import assembly, disks, model

from . import disk_host

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="volumes need root, or sudo")

MakeSpec = Callable[..., containers.ContainerSpec]


@pytest.fixture(scope="module")
def shared_host(
    tmp_path_factory: pytest.TempPathFactory, engine: containers.Engine
) -> Iterator[disk_host.Host]:
    made = disk_host.Host(tmp_path_factory.mktemp("disks"), engine)
    yield made
    made.close()


@pytest.fixture(scope="module")
def volume(shared_host: disk_host.Host) -> str:
    """The id of a volume with a file system, for all tests that don't care."""
    return shared_host.volume()


@pytest.fixture
def host(shared_host: disk_host.Host) -> Iterator[disk_host.Host]:
    """A host on which nothing is connected."""
    yield shared_host
    left = shared_host.left()
    shared_host.service().recover(())
    assert left == []


@pytest.fixture
def server() -> str:
    return disk_host.server_id()


@pytest.fixture
def running(engine: containers.Engine, make_spec: MakeSpec) -> Iterator[containers.Container]:
    """A container that runs, as servers' do: without privileges."""
    container_id = engine.run(make_spec(capabilities=("DAC_OVERRIDE", "CHOWN", "FOWNER")))
    yield engine.inspect(container_id)
    engine.remove(container_id)


def say(host: disk_host.Host, container: containers.Container, *argv: str) -> str:
    """Run a command in a container and return what it says, which is why it fails if it does."""
    result = host.engine.exec(container.id, argv)
    return (result.stdout if result.exit_code == 0 else result.stderr).decode().strip()


def hold(host: disk_host.Host, container: containers.Container, command: str) -> str:
    """Start a command that uses something, and return its process id when it does."""
    script = f"({command}; exec sleep 1000) >/dev/null 2>&1 & echo $!"
    pid = say(host, container, "sh", "-c", script)
    say(host, container, "sh", "-c", f"until grep -q sleep /proc/{pid}/cmdline; do :; done")
    return pid


def let_go(host: disk_host.Host, container: containers.Container, pid: str) -> None:
    say(host, container, "sh", "-c", f"kill {pid}; while kill -0 {pid}; do :; done")


def start(host: disk_host.Host, container: containers.Container) -> containers.Container:
    host.engine.restart(container.id, 0)
    return host.engine.inspect(container.id)


def test_volume_is_a_device_of_a_server_that_runs(
    host: disk_host.Host, server: str, running: containers.Container, volume: str
) -> None:
    service = host.service()
    service.attach(server, running, host.disk(volume))
    service.attach(server, running, host.disk(volume))
    assert say(host, running, "blockdev", "--getsize64", "/dev/vdb") == str(disk_host.SIZE)
    written = "printf word | dd of=/dev/vdb bs=1 seek=4096 conv=notrunc,fsync 2>&1"
    say(host, running, "sh", "-c", written)
    read = ["dd", f"if={host.device(volume)}", "bs=1", "skip=4096", "count=4"]
    assert subprocess.run(read, capture_output=True, check=True).stdout == b"word"
    service.detach(server, running, volume)
    service.detach(server, running, volume)
    assert "No such file" in say(host, running, "ls", "/dev/vdb")


def test_device_that_was_taken_away_can_not_be_opened_by_a_node_of_ones_own(
    host: disk_host.Host, server: str, engine: containers.Engine, make_spec: MakeSpec, volume: str
) -> None:
    number = os.stat(host.device(volume)).st_rdev
    service = host.service()
    with engine.creating(make_spec(capabilities=("MKNOD",))) as container_id:
        engine.start(container_id)
        container = engine.inspect(container_id)
        say(host, container, "mknod", "/mine", "b", str(os.major(number)), str(os.minor(number)))
        read = ("dd", "if=/mine", "of=/dev/null", "bs=512", "count=1")
        assert "not permitted" in say(host, container, *read)
        service.attach(server, container, host.disk(volume))
        assert host.engine.exec(container.id, read).exit_code == 0
        service.detach(server, container, volume)
        assert "not permitted" in say(host, container, *read)
        engine.remove(container_id)


def test_read_only_volume_can_not_be_written(
    host: disk_host.Host, server: str, running: containers.Container, volume: str
) -> None:
    service = host.service()
    service.attach(server, running, host.disk(volume, read_only=True))
    say_write = say(host, running, "sh", "-c", ": 1<>/dev/vdb")
    assert "not permitted" in say_write
    assert say(host, running, "sh", "-c", "exec 3</dev/vdb && echo good") == "good"
    service.detach(server, running, volume)


def test_volume_that_is_open_is_not_taken_away(
    host: disk_host.Host, server: str, running: containers.Container, volume: str
) -> None:
    service = host.service()
    service.attach(server, running, host.disk(volume))
    pid = hold(host, running, "exec 3<>/dev/vdb")
    with pytest.raises(exceptions.Busy, match="uses /dev/vdb"):
        service.detach(server, running, volume)
    assert host.connected() == {volume: [server]}
    assert say(host, running, "sh", "-c", "exec 3</dev/vdb && echo good") == "good"
    let_go(host, running, pid)
    service.detach(server, running, volume)


def test_volume_is_shown_again_after_each_start(
    host: disk_host.Host, server: str, running: containers.Container, volume: str
) -> None:
    host.service().attach(server, running, host.disk(volume))
    again = start(host, running)
    assert "No such file" in say(host, again, "ls", "/dev/vdb")
    service = host.service()
    service.connect(server, [host.disk(volume)])
    for _ in range(2):
        service.present(again, server)
    assert say(host, again, "ls", "/dev/vdb") == "/dev/vdb"
    service.detach(server, again, volume)


def test_volume_of_a_stopped_server_waits_for_its_start(
    host: disk_host.Host, server: str, running: containers.Container, volume: str
) -> None:
    host.engine.stop(running.id, 0)
    stopped = host.engine.inspect(running.id)
    service = host.service()
    service.attach(server, stopped, host.disk(volume))
    service.present(stopped, server)
    service.present(start(host, running), server)
    assert say(host, running, "ls", "/dev/vdb") == "/dev/vdb"
    host.engine.stop(running.id, 0)
    service.detach(server, host.engine.inspect(running.id), volume)


def test_last_server_gives_a_volume_back(host: disk_host.Host, server: str, volume: str) -> None:
    service, other = host.service(), disk_host.server_id()
    service.connect(server, [host.disk(volume)])
    service.connect(other, [host.disk(volume, target="/dev/vdc")])
    assert host.connected() == {volume: [server, other]}
    service.disconnect(server)
    assert host.connected() == {volume: [other]}
    assert service.known(other)
    service.disconnect(other, [host.disk(volume)])


def test_what_a_server_has_in_a_place_stays_its_own(
    host: disk_host.Host, server: str, running: containers.Container, volume: str
) -> None:
    service = host.service()
    service.attach(server, running, host.disk(volume))
    with pytest.raises(exceptions.AlreadyExists, match="another disk at /dev/vdb"):
        service.attach(
            server, running, dataclasses.replace(host.disk(volume), id=str(uuid.uuid4()))
        )
    service.detach(server, running, volume)
    say(host, running, "sh", "-c", "echo own >/dev/vdb")
    with pytest.raises(exceptions.AlreadyExists, match="file at /dev/vdb"):
        service.attach(server, running, host.disk(volume))
    assert say(host, running, "cat", "/dev/vdb") == "own"


def test_volume_is_mounted_where_the_operator_says_so(
    host: disk_host.Host, server: str, running: containers.Container
) -> None:
    empty, service = host.volume(empty=True), host.service(mount_volumes=True)
    service.attach(server, running, host.disk(empty))
    say(host, running, "sh", "-c", "echo kept >/volumes/vdb/file")
    options = say(host, running, "grep", " /volumes/vdb ", "/proc/mounts")
    assert {"ext4", "nosuid", "nodev"} <= set(options.replace(",", " ").split())
    again = start(host, running)
    service.present(again, server)
    service.present(again, server)
    assert say(host, again, "grep", "-c", " /volumes/vdb ", "/proc/mounts") == "1"
    assert say(host, again, "cat", "/volumes/vdb/file") == "kept"
    service.detach(server, again, empty)
    assert say(host, again, "ls", "/volumes/vdb") == ""
    # Made once: what is on it is kept.
    service.connect(server, [host.disk(empty)])
    assert [mount.rpartition("/")[2] for mount in host.mounted()] == [empty]
    service.present(again, server)
    assert say(host, again, "cat", "/volumes/vdb/file") == "kept"
    service.detach(server, again, empty)


def test_file_system_in_use_is_not_taken_away_even_if_it_was_moved(
    host: disk_host.Host, server: str, running: containers.Container, volume: str
) -> None:
    service = host.service(mount_volumes=True)
    service.attach(server, running, host.disk(volume))
    pid = hold(host, running, "exec 3>/volumes/vdb/open; mv /volumes /elsewhere")
    with pytest.raises(exceptions.Busy, match="in use"):
        service.detach(server, running, volume)
    assert host.mounted()
    let_go(host, running, pid)
    service.detach(server, running, volume)


@pytest.mark.parametrize(
    "trap", ["ln -s /proc /volumes", "mkdir /volumes && ln -s /etc /volumes/vdb"]
)
def test_links_of_a_tenant_lead_nowhere(
    host: disk_host.Host, server: str, running: containers.Container, volume: str, trap: str
) -> None:
    say(host, running, "sh", "-c", trap)
    before = say(host, running, "cat", "/proc/mounts")
    with pytest.raises(exceptions.AlreadyExists, match="can't be made"):
        host.service(mount_volumes=True).attach(server, running, host.disk(volume))
    assert say(host, running, "cat", "/proc/mounts") == before


def test_volume_of_several_hosts_is_mounted_for_reading_only(
    host: disk_host.Host, server: str, running: containers.Container, volume: str
) -> None:
    service, several = host.service(mount_volumes=True), {"multiattach": True}
    with pytest.raises(exceptions.NotSupported, match="but for reading"):
        service.attach(server, running, host.disk(volume, connection=several))
    disk = host.disk(volume, connection=several, read_only=True)
    service.attach(server, running, disk)
    assert "Read-only" in say(host, running, "touch", "/volumes/vdb/x")
    service.detach(server, running, volume)


def test_failed_disk_leaves_none_of_a_boot(host: disk_host.Host, server: str, volume: str) -> None:
    bad = model.Disk(
        str(uuid.uuid4()),
        {"driver_volume_type": "local", "data": {"device_path": "/dev/vg/volume-" + volume}},
        "/dev/vdc",
    )
    with pytest.raises(exceptions.NotFound, match="no volume"):
        host.service().connect(server, [host.disk(volume), bad])
    assert host.left() == []


def test_device_of_somebody_else_is_no_volume(host: disk_host.Host, server: str) -> None:
    """A loop device whose file lies elsewhere, such as an engine's or another service's."""
    path = host.state.parent / "other.img"
    path.write_bytes(b"")
    os.truncate(path, disk_host.MIB)
    attach = ["losetup", "--find", "--show", str(path)]
    device = subprocess.run(attach, capture_output=True, check=True, text=True).stdout.strip()
    try:
        disk = model.Disk(
            str(uuid.uuid4()),
            {"driver_volume_type": "local", "data": {"device_path": device}},
            "/dev/vdb",
        )
        with pytest.raises(exceptions.InvalidRequest, match="isn't that volume"):
            host.service().connect(server, [disk])
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)
    assert host.left() == []


def test_only_containers_are_entered(
    host: disk_host.Host, server: str, running: containers.Container, volume: str
) -> None:
    odd = dataclasses.replace(running, pid=os.getpid())
    with pytest.raises(exceptions.Busy, match="isn't in container"):
        host.service().attach(server, odd, host.disk(volume))
    assert host.left() == []


def test_disks_of_servers_that_are_no_more_go(
    host: disk_host.Host, server: str, volume: str
) -> None:
    service = host.service(mount_volumes=True)
    service.connect(server, [host.disk(volume)])
    host.service().recover({server})
    assert host.mounted()
    host.service().recover(())
    assert host.left() == []


def test_server_has_its_volumes_for_life(
    host: disk_host.Host, server: str, image_id: str, volume: str
) -> None:
    settings = assembly.Settings(owner=f"cstest-{server[:8]}", state_dir=str(host.state))
    servers = assembly.assemble(settings, host.engine, host.executor).servers
    wish = model.Wish(command=("sleep", "1000"))
    plan = model.Plan(server, "one", "one", wish=wish, disks=(host.disk(volume),))
    servers.spawn(plan, image_id)
    try:
        second = host.disk(host.volume(), "/dev/vdc")
        servers.attach_disk(server, second)
        servers.reboot(plan, hard=True, timeout=0)
        container = host.engine.inspect(servers.get(server).container_id)
        assert say(host, container, "ls", "/dev/vdb", "/dev/vdc") == "/dev/vdb\n/dev/vdc"
        servers.detach_disk(server, second)
        assert host.connected() == {volume: [server]}
    finally:
        servers.destroy(server)
    assert host.left() == []


def test_disks_of_none_ask_nobody(engine: containers.Engine, tmp_path: object) -> None:
    class Nobody:
        state_dir = str(tmp_path)

    service = disks.Disks(Nobody())  # type: ignore[arg-type]
    assert service.connect(disk_host.server_id(), []) == disks.Connected()
    service.disconnect(disk_host.server_id())
