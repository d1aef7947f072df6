# SPDX-License-Identifier: Apache-2.0
"""libiscsi against the public suite with a real target, and what else is particular to it."""

import dataclasses
import gc
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures

import pytest

from container_stack import exceptions
from container_stack.host import attach, attach_choose, attach_libiscsi, libiscsi_abi
from container_stack.testing import attach_contract
from container_stack.testing.attach_world import MIB

from . import tgt_world


class TestLibiscsi(attach_contract.AttachContract):
    @pytest.fixture
    def world(self, tmp_path: pathlib.Path) -> Iterator[tgt_world.TgtWorld]:
        with tgt_world.TgtWorld(tmp_path) as world:
            yield world


@pytest.fixture
def world(tmp_path: pathlib.Path) -> Iterator[tgt_world.Meddled]:
    with tgt_world.Meddled(tmp_path) as world:
        yield world


def test_much_is_under_way_at_once(world: tgt_world.Meddled) -> None:
    with world.attacher().attach(world.make("one", 40 * MIB)) as device:
        device.write(0, bytes(8 * MIB))
        assert world.portals[0].most_under_way >= 4
        world.portals[0].most_under_way = 0
        device.read(0, 8 * MIB)
        assert world.portals[0].most_under_way >= 4


def test_portals_may_have_ipv6_addresses(tmp_path: pathlib.Path) -> None:
    with tgt_world.Meddled(tmp_path, "::1") as world:
        target = world.make("one", MIB)
        assert target.portals[0].startswith("[::1]:")
        with world.attacher().attach(target) as device:
            device.write(5, b"six")
            assert device.read(5, 3) == b"six"


def test_volume_is_found_by_its_number(world: tgt_world.Meddled) -> None:
    target = world.make("one", MIB)
    with world.attacher().attach(dataclasses.replace(target, lun=1)) as device:
        assert device.size == MIB
    with pytest.raises(exceptions.NotFound):
        world.attacher().attach(dataclasses.replace(target, lun=7))


def test_several_volumes_need_a_number(world: tgt_world.Meddled) -> None:
    target = world.make("one", MIB)
    world.add(target, 300, 2 * MIB)
    with pytest.raises(exceptions.InvalidRequest, match="2 volumes"):
        world.attacher().attach(target)
    with world.attacher().attach(dataclasses.replace(target, lun=300)) as device:
        assert device.size == 2 * MIB


def test_volume_that_is_exchanged_for_a_larger_one_is_the_same(world: tgt_world.Meddled) -> None:
    target, data = world.make("one", 4 * MIB), os.urandom(MIB)
    with world.attacher().attach(target) as device, futures.ThreadPoolExecutor(1) as threads:
        stop = threading.Event()

        def use() -> int:
            count = 0
            while not stop.is_set():
                device.write(count % 7, data)
                assert device.read(count % 7, MIB) == data
                count += 1
            return count

        uses = threads.submit(use)
        try:
            for size in (5 * MIB, 7 * MIB, 9 * MIB):
                world.remove(target)
                time.sleep(0.2)
                world.add(target, 1, size)
                assert device.refresh() == size
        finally:
            stop.set()
        assert uses.result(30)


def test_target_without_a_volume_is_told(world: tgt_world.Meddled) -> None:
    target = world.make("one", MIB)
    world.remove(target)
    with pytest.raises(exceptions.NotFound):
        world.attacher().attach(target)


def test_write_protected_volume_is_read_only(world: tgt_world.Meddled) -> None:
    target = world.make("one", MIB)
    with world.attacher().attach(target) as device:
        world.set(target, "readonly=1")
        with pytest.raises(exceptions.InvalidRequest, match="write-protected"):
            device.write(0, b"x")
        assert device.read(0, 1) == b"\0"


def test_offline_volume_is_unavailable_and_comes_back(world: tgt_world.Meddled) -> None:
    target = world.make("one", MIB)
    with world.attacher().attach(target) as device:
        world.set(target, "removable=1,online=0")
        for action in (lambda: device.read(0, 1), lambda: device.write(0, b"x")):
            with pytest.raises(exceptions.ArrayUnavailable, match="offline"):
                action()
        world.set(target, "online=1")
        device.write(0, b"x")
        assert device.read(0, 1) == b"x"


def test_closing_leaves_no_session_thread_or_descriptor(world: tgt_world.Meddled) -> None:
    target, attacher = world.direct(world.make("one", MIB)), world.attacher()
    attacher.attach(target).close()
    before = threading.active_count(), len(os.listdir("/proc/self/fd"))
    devices = [attacher.attach(target) for _ in range(5)]
    assert world.sessions() == 5
    for device in devices:
        device.read(0, 1)
        device.close()
    del device, devices
    gc.collect()
    _wait_for(lambda: world.sessions() == 0)
    _wait_for(lambda: (threading.active_count(), len(os.listdir("/proc/self/fd"))) <= before)


def test_forgotten_device_is_detached(world: tgt_world.Meddled) -> None:
    device = world.attacher().attach(world.make("one", MIB))
    assert world.sessions() == 1
    del device
    gc.collect()
    _wait_for(lambda: world.sessions() == 0)


def test_killed_process_leaves_nothing(world: tgt_world.Meddled) -> None:
    target = world.make("one", 40 * MIB)
    script = f"""
from container_stack.host import attach, attach_libiscsi
attacher = attach_libiscsi.LibiscsiAttacher.open(attach.Options())
device = attacher.attach(attach.Target({target.iqn!r}, {target.portals!r}))
print("attached", flush=True)
while True:
    device.write(0, bytes(8 * 1024**2))
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"attached\n"
        assert world.sessions() == 1
        process.kill()
        assert process.wait(10) == -signal.SIGKILL
    _wait_for(lambda: world.sessions() == 0)
    with world.attacher().attach(target) as device:
        device.write(0, b"free")


def test_fork_neither_uses_nor_disturbs_its_parents_device(world: tgt_world.Meddled) -> None:
    with world.attacher().attach(world.make("one", MIB)) as device:
        device.write(0, b"parent")
        child = os.fork()
        if not child:
            code = 1
            try:
                device.read(0, 6)
            except exceptions.InvalidRequest:
                code = 0
            device.close()
            os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        assert device.read(0, 6) == b"parent"


def test_one_that_is_closed_while_others_use_it_ends_them(world: tgt_world.Meddled) -> None:
    device = world.attacher().attach(world.make("one", 40 * MIB))
    ended = []

    def use() -> None:
        try:
            while True:
                device.write(0, bytes(8 * MIB))
        except exceptions.InvalidRequest as exc:
            ended.append(exc)

    threads = [threading.Thread(target=use) for _ in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    began = time.monotonic()
    device.close()
    for thread in threads:
        thread.join(10)
    assert len(ended) == 3
    assert time.monotonic() - began < 5


def test_missing_library_is_told_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libiscsi_abi, "SONAME", "libiscsi-is-not-here.so.7")
    libiscsi_abi.load.cache_clear()
    try:
        attacher = attach_libiscsi.LibiscsiAttacher.open(attach.Options())
        for action in (
            attacher.check,
            lambda: attacher.attach(attach.Target("iqn.2026-11.test:x", ("127.0.0.1:1",))),
            lambda: attach_choose.choose(None, attach.Options()),
        ):
            with pytest.raises(exceptions.HostNotReady, match="libiscsi7"):
                action()
    finally:
        libiscsi_abi.load.cache_clear()


@pytest.mark.parametrize(
    "name", ["me", "iqn.x", "iqn.2026-11.test:a b", "iqn.2026-11." + "a" * 300]
)
def test_names_that_no_initiator_can_have_are_refused(name: str) -> None:
    with pytest.raises(exceptions.InvalidRequest):
        attach_libiscsi.LibiscsiAttacher.open(attach.Options(initiator=name))


def test_way_is_chosen_by_name_or_by_what_this_host_has() -> None:
    chosen = attach_choose.choose("libiscsi", attach.Options(initiator="iqn.2026-11.test:me"))
    assert chosen.initiator == "iqn.2026-11.test:me"
    assert attach_choose.choose(None, attach.Options()).check()
    with pytest.raises(exceptions.NotFound, match="libiscsi"):
        attach_choose.choose("none", attach.Options())


def _wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)
