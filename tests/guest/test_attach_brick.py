# SPDX-License-Identifier: Apache-2.0
"""The kernel's initiator through os-brick, against two makers' targets and the public suite.

Run them by ``tools/run-tests.sh guest``: where this kernel has no initiator it boots a guest.
"""

import contextlib
import dataclasses
import importlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from contract import tgt_world
from functional import service_account, test_sudo

from container_stack import exceptions
from container_stack.host import attach, attach_brick, brick_helper
from container_stack.rootwrap import brick_record, brick_session, brick_wire
from container_stack.testing import attach_contract, attach_portals, attach_world

from . import brick_account, lio_world

MIB = 1024**2

# They attach devices to the kernel, and run daemons of which a host has one.
pytestmark = pytest.mark.skipif(
    "UML_GUEST" not in os.environ, reason="not on this host: run tools/run-tests.sh guest"
)


class TgtWorld(tgt_world.TgtWorld):
    """tgt, whose volume is LUN 1 beside a controller."""

    # The kernel's initiator has one name; and without multipath it has one path.
    capabilities = frozenset({attach_world.CHAP, attach_world.MUTUAL_CHAP})
    multipath = False

    def attacher(self, *, initiator: str = "", timeout: float = 30.0) -> attach.Attacher:
        options = attach.Options(initiator=initiator, timeout=timeout, multipath=self.multipath)
        return attach_brick.BrickAttacher.open(options)


class MultipathWorld(TgtWorld):
    """Both portals at once."""

    capabilities = TgtWorld.capabilities | {attach_world.PORTALS}
    multipath = True


class LioWorld(lio_world.LioWorld):
    """LIO, whose volume is LUN 0, and one portal."""

    multipath = False

    def attacher(self, *, initiator: str = "", timeout: float = 30.0) -> attach.Attacher:
        options = attach.Options(initiator=initiator, timeout=timeout, multipath=self.multipath)
        return attach_brick.BrickAttacher.open(options)


@pytest.fixture(scope="module")
def initiator() -> Iterator[subprocess.Popen[bytes]]:
    """iscsid, and multipathd, as distributions configure them."""
    lio_world.run("modprobe", "dm_multipath")
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    processes = [
        # It ends by signalling its process group.
        subprocess.Popen(["iscsid", "--foreground"], start_new_session=True, **silent),
        subprocess.Popen(["multipathd", "-d", "-s", "-v1"], **silent),
    ]
    deadline = time.monotonic() + 20
    while not multipathd_answers():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    yield processes[0]
    helper().close()
    for process in processes:
        process.terminate()
        process.wait(20)


def multipathd_answers() -> bool:
    done = subprocess.run(["multipathd", "show", "daemon"], capture_output=True, check=False)
    return not done.returncode


def helper() -> brick_helper.Helper:
    return brick_helper.shared(attach_brick.helper_command(attach.Options()))


def leftovers() -> list[str]:
    """Return what attaching makes on a host: sessions, records, devices, maps, markers."""
    places = (
        "sys/class/iscsi_session/*",
        "etc/iscsi/nodes/*",
        "dev/disk/by-path/*iscsi*",
        "sys/block/sd*",
        "sys/block/dm-*",
        "run/container-stack-brick/" + "[0-9a-f]" * 64,
    )
    return [str(path) for place in places for path in Path("/").glob(place)]


@contextlib.contextmanager
def leaving_nothing() -> Iterator[None]:
    yield
    # udev takes its time with names.
    assert soon(lambda: leftovers() == []), leftovers()


class TestTgt(attach_contract.AttachContract):
    """One path, as without the option."""

    @pytest.fixture
    def world(self, initiator: None, tmp_path: Path) -> Iterator[TgtWorld]:
        with TgtWorld(tmp_path) as world, leaving_nothing():
            yield world


class TestLio(attach_contract.AttachContract):
    """One path, as without the option."""

    @pytest.fixture
    def world(self, initiator: None, tmp_path: Path) -> Iterator[LioWorld]:
        with LioWorld(tmp_path, 1) as world, leaving_nothing():
            yield world


class TestMultipath(attach_portals.PortalContract):
    """What several paths are for."""

    test_growth = attach_contract.AttachContract.test_attached_volume_grows

    def test_a_portal_may_return_after_the_kernel_gave_its_path_up(self, world: TgtWorld) -> None:
        target = world.make("one", 8 * MIB)
        with world.attacher().attach(target) as device:
            for number in (0, 1):
                world.lose_portal(target, number)
            again = threading.Timer(brick_record.FAIL_OVER + 4.0, world.regain_portal, (target, 0))
            again.start()
            device.write(0, b"after all")
            again.join()
            assert device.read(0, 9) == b"after all"

    @pytest.fixture
    def world(self, initiator: None, tmp_path: Path) -> Iterator[TgtWorld]:
        with MultipathWorld(tmp_path) as world, leaving_nothing():
            yield world


@pytest.fixture
def tgt(initiator: None, tmp_path: Path) -> Iterator[TgtWorld]:
    with TgtWorld(tmp_path) as world, leaving_nothing():
        yield world


@pytest.fixture
def lio(initiator: None, tmp_path: Path) -> Iterator[LioWorld]:
    with LioWorld(tmp_path, 1) as world, leaving_nothing():
        yield world


@pytest.fixture(scope="module")
def account() -> Iterator[brick_account.Account]:
    with service_account.making(brick_account.Account) as made:
        yield made


@contextlib.contextmanager
def service(target: attach.Target) -> Iterator[subprocess.Popen[str]]:
    """Run another process that has the target attached."""
    program = Path(__file__).with_name("brick_service.py")
    process = subprocess.Popen(
        [sys.executable, program, target.iqn, *target.portals],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "attached\n"
        yield process


def soon(what: Callable[[], object], seconds: float = 30) -> bool:
    deadline = time.monotonic() + seconds
    while not what():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def test_a_second_makers_paths_stand_in_for_each_other(initiator: None, tmp_path: Path) -> None:
    with LioWorld(tmp_path, 2) as world, leaving_nothing():
        world.multipath = True
        target = world.make("one", 8 * MIB)
        with world.attacher().attach(target) as device:
            world.portals[0].lose()
            device.write(MIB, b"x" * MIB)
            assert device.read(MIB, MIB) == b"x" * MIB


@pytest.mark.parametrize("maker", ["tgt", "lio"])
def test_a_host_that_is_not_on_the_access_list_is_refused(
    maker: str, request: pytest.FixtureRequest
) -> None:
    world = request.getfixturevalue(maker)
    target, attacher = world.make("one", MIB), world.attacher()
    world.admit(target, ("iqn.2026-11.test:another",))
    # tgt doesn't tell who isn't on its list that a target exists.
    with pytest.raises((exceptions.AccessDenied, exceptions.NotFound)):
        attacher.attach(target)
    assert soon(lambda: leftovers() == [])
    world.admit(target, ("iqn.2026-11.test:another2", attacher.initiator))
    attacher.attach(target).close()


def test_processes_share_a_target_and_the_last_detaches(tgt: TgtWorld) -> None:
    target = tgt.make("one", MIB)
    with service(target) as other, tgt.attacher().attach(target) as device:
        assert device.read(0, 12) == b"from another"
        other.communicate("")
        assert other.returncode == 0
        device.write(0, b"still here")
        assert leftovers() != []


def test_a_child_that_was_forked_meanwhile_keeps_no_target(tgt: TgtWorld) -> None:
    with tgt.attacher().attach(tgt.make("one", MIB)) as device:
        child = os.fork()
        if not child:
            # The lock alone: a map that is open can't be removed.
            os.close(device._device)
            signal.pause()
            os._exit(0)
    try:
        assert soon(lambda: leftovers() == [])
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_forked_child_that_closes_a_device_takes_it_from_nobody(tgt: TgtWorld) -> None:
    target = tgt.make("one", MIB)
    with tgt.attacher().attach(target) as device:
        child = os.fork()
        if not child:
            device.close()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        tgt.attacher().attach(target).close()
        device.write(0, b"still here")
        assert device.read(0, 10) == b"still here"


def test_what_a_killed_process_leaves_is_detached(tgt: TgtWorld) -> None:
    with service(tgt.make("one", MIB)) as process:
        assert leftovers() != []
        process.kill()
        assert soon(lambda: leftovers() == [])


def test_what_a_killed_helper_leaves_is_used_again_and_detached(tgt: TgtWorld) -> None:
    target = tgt.make("one", MIB)
    with service(target) as process:
        for pid in lio_world.run("pgrep", "-f", "container_stack.rootwrap.brick$").split():
            if f"PPid:\t{process.pid}\n" in Path(f"/proc/{pid}/status").read_text():
                os.kill(int(pid), signal.SIGKILL)
        process.kill()
    assert leftovers() != []
    with tgt.attacher().attach(target) as device:
        assert device.read(0, 12) == b"from another"


def test_sessions_of_others_on_this_host_are_left_alone(tgt: TgtWorld) -> None:
    target = tgt.make("one", MIB)
    node = ("iscsiadm", "-m", "node", "-T", target.iqn, "-p", target.portals[0])
    for words in (("-o", "new"), ("--login",)):
        lio_world.run(*node, *words)
    try:
        with pytest.raises(exceptions.Busy):
            tgt.attacher().attach(target)
        assert target.iqn in lio_world.run("iscsiadm", "-m", "session")
    finally:
        lio_world.run(*node, "--logout")
        lio_world.run(*node, "-o", "delete")


def test_a_device_that_the_host_uses_is_not_handed_out(tgt: TgtWorld) -> None:
    target = tgt.make("one", MIB)
    with tgt.attacher().attach(target):
        (disk,) = Path("/sys/block").glob("sd*")
        # As a mount does.
        user = os.open(brick_session.top(f"/dev/{disk.name}"), os.O_RDONLY | os.O_EXCL)
        try:
            with pytest.raises(exceptions.Busy, match="in use"):
                tgt.attacher().attach(target)
        finally:
            os.close(user)


def test_a_target_with_several_volumes_asks_for_a_number(lio: LioWorld) -> None:
    target = lio.make("one", MIB)
    lio.add("two", 2 * MIB, target, 5)
    with pytest.raises(exceptions.InvalidRequest, match="LUN"):
        lio.attacher().attach(target)
    assert soon(lambda: leftovers() == [])
    for number, size in ((0, MIB), (5, 2 * MIB)):
        with lio.attacher().attach(dataclasses.replace(target, lun=number)) as device:
            assert device.size == size
    with pytest.raises(exceptions.NotFound):
        lio.attacher().attach(dataclasses.replace(target, lun=3))


TELLS = """
import sys

def tell(event, values):
    if event in ("os.exec", "os.posix_spawn", "os.system", "subprocess.Popen"):
        with open({file!r}, "a") as file:
            file.write(f"{{values!r}}\\n")

sys.addaudithook(tell)
"""


def test_a_secret_stands_in_no_command_line_and_in_no_file_that_others_read(
    tgt: TgtWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tgt.make("one", MIB, chap=attach_contract.MUTUAL)
    secrets = [each.encode() for each in (target.chap.secret, target.chap.mutual_secret)]
    # A helper that tells which programs it starts.
    told = tmp_path / "told"
    (tmp_path / "sitecustomize.py").write_text(TELLS.format(file=str(told)))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(brick_helper, "_shared", {})
    try:
        with tgt.attacher().attach(target):
            (record,) = (path for path in Path("/etc/iscsi/nodes").rglob("*") if path.is_file())
            assert record.stat().st_mode & 0o077 == 0
            assert secrets[0] in record.read_bytes()
    finally:
        helper().close()
    seen = told.read_bytes()
    assert b"--login" in seen
    assert b"--logout" in seen
    assert not any(secret in seen for secret in secrets)


def test_a_daemon_that_hangs_is_given_up_and_cleaned_up_after(
    tgt: TgtWorld, initiator: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Not as long as this host usually may take for its part.
    monkeypatch.setattr(brick_wire, "HOST", 3.0)
    target, attacher = tgt.make("one", MIB), tgt.attacher(timeout=1.0)
    attacher.check()
    os.killpg(initiator.pid, signal.SIGSTOP)
    began = time.monotonic()
    try:
        with pytest.raises(exceptions.ArrayUnavailable):
            attacher.attach(target)
        assert time.monotonic() - began < 1 + brick_wire.HOST + 5
        # The first detachment hangs, too.
        time.sleep(2 * (1 + brick_wire.HOST))
    finally:
        os.killpg(initiator.pid, signal.SIGCONT)
    assert soon(lambda: leftovers() == [], 60)
    monkeypatch.undo()
    attacher.attach(target).close()


@pytest.mark.parametrize("name", ["ours", "glance"])
def test_a_normal_user_attaches_with_the_shipped_filters_and_may_do_nothing_else(
    name: str, tgt: TgtWorld, account: brick_account.Account
) -> None:
    target, helper = tgt.make("one", MIB), account.helpers[name]
    # He may have no right to read the Python that runs here.
    importlib.import_module("os_brick")

    def work() -> tuple[bytes, list[tuple[int, int]]]:
        options = attach.Options(root_helper=helper)
        attacher = attach_brick.BrickAttacher.open(options)
        with attacher.attach(target) as device:
            device.write(7, b"by a user")
            device.flush()
            nodes = [path.stat() for path in Path("/dev").glob("sd*")]
            read = device.read(7, 9), [(node.st_uid, node.st_mode & 0o7) for node in nodes]
        brick_helper.shared(attach_brick.helper_command(options)).close()
        return read

    assert account.call(work) == (b"by a user", [(0, 0)])
    words = helper.split()[2:]
    for command in (("container-stack-brick", "x"), ("iscsiadm", "-m", "session")):
        assert account.call(test_sudo.sudo(*words, *command)) not in (0, None)
