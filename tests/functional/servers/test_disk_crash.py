# SPDX-License-Identifier: Apache-2.0
"""A service of disks that is killed at each of its steps, and one that is a normal user's."""

import os
import pathlib
import signal
import subprocess
from collections.abc import Callable, Iterator

import pytest

from container_stack.host import containers
from container_stack.rootwrap import commands, executor
from container_stack.servers import disks, model
from functional import service_account

from . import disk_host

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="volumes need root, or sudo")

MakeSpec = Callable[..., containers.ContainerSpec]
#: More than any call takes.
MANY = 12


@pytest.fixture(scope="module")
def host(
    tmp_path_factory: pytest.TempPathFactory, engine: containers.Engine
) -> Iterator[disk_host.Host]:
    made = disk_host.Host(tmp_path_factory.mktemp("crash"), engine)
    yield made
    made.close()


@pytest.fixture
def running(engine: containers.Engine, make_spec: MakeSpec) -> Iterator[containers.Container]:
    container_id = engine.run(make_spec())
    yield engine.inspect(container_id)
    engine.remove(container_id)


class Mortal(executor.Executor):
    """Ends its process when a command is done, at the number of it that is given."""

    def __init__(self, state_dir: str, helper: tuple[str, ...], last: int) -> None:
        super().__init__(helper, state_dir=state_dir)
        self._left = last

    def run(
        self,
        command: commands.Command,
        *,
        timeout: float | None = None,
        stdin: str | None = None,
        **values: str | int,
    ) -> str:
        said = super().run(command, timeout=timeout, stdin=stdin, **values)
        self._left -= 1
        if not self._left:
            os.kill(os.getpid(), signal.SIGKILL)
        return said


def killed(host: disk_host.Host, last: int, action: Callable[[disks.Disks], None]) -> bool:
    """Do something in a child that is killed after a step; tell whether it came that far."""
    child = os.fork()
    if not child:
        code = 1
        try:
            run = Mortal(str(host.state), host.executor._helper, last)
            action(host.service(run, mount_volumes=True))
            code = 0
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, -signal.SIGKILL)
    return code != 0


def steps(host: disk_host.Host, action: Callable[[disks.Disks], None]) -> Iterator[int]:
    """Yield after each step at which a process was killed, until it wasn't."""
    for last in range(1, MANY):
        if not killed(host, last, action):
            return
        yield last
    pytest.fail("that took more steps than anything does")


def test_what_a_killed_attachment_left_goes(
    host: disk_host.Host, running: containers.Container
) -> None:
    server, volume = disk_host.server_id(), host.volume(empty=True)
    disk = host.disk(volume)
    seen = []
    for last in steps(host, lambda service: service.attach(server, running, disk)):
        seen.append(last)
        assert host.connected() == {volume: [server]}
        service = host.service(mount_volumes=True)
        service.detach(server, running, volume)
        service.recover(())
        assert host.left() == []
        subprocess.run(["wipefs", "-aq", host.device(volume)], check=True)
    assert len(seen) >= 4
    host.service(mount_volumes=True).detach(server, running, volume)
    assert host.left() == []


def test_killed_detachment_is_done_by_the_next(
    host: disk_host.Host, running: containers.Container
) -> None:
    server, volume = disk_host.server_id(), host.volume()
    disk, service, seen = host.disk(volume), host.service(mount_volumes=True), []
    service.attach(server, running, disk)
    for last in steps(host, lambda mortal: mortal.detach(server, running, volume)):
        seen.append(last)
        service.detach(server, running, volume)
        assert host.left() == []
        service.attach(server, running, disk)
    assert len(seen) >= 3
    assert host.left() == []


def test_normal_user_attaches_by_sudo_and_the_shipped_filters(
    running: containers.Container,
) -> None:
    server, volume = disk_host.server_id(), disk_host.server_id()
    with service_account.account(driver="nova") as account:
        image = account.state / "volumes" / f"{volume}.img"
        image.write_bytes(b"")
        os.truncate(image, disk_host.SIZE)
        words = ["losetup", "--find", "--show", str(image)]
        device = subprocess.run(words, capture_output=True, check=True, text=True).stdout.strip()
        disk = model.Disk(
            volume, {"driver_volume_type": "local", "data": {"device_path": device}}, "/dev/vdb"
        )

        def attach(mounting: bool) -> list[str]:
            run = executor.Executor(account.helper, state_dir=str(account.state))
            service = disks.Disks(run, disks.Settings(mount_volumes=mounting))
            service.attach(server, running, disk)
            root = pathlib.Path(account.state, "mounts")
            seen = [str(each.relative_to(root)) for each in root.glob("servers/*/*")]
            service.detach(server, running, volume)
            run.close()
            return seen

        try:
            assert account.call(lambda: attach(False)) == []
            assert account.call(lambda: attach(True)) == [f"servers/{server}/{volume}"]
        finally:
            subprocess.run(["losetup", "--detach", device], check=True)
