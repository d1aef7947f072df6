# SPDX-License-Identifier: Apache-2.0
"""Shared attachments against the public suite, and how often they attach and detach."""

import concurrent.futures
import pathlib
import threading
from collections.abc import Mapping

import pytest

from container_stack import exceptions
from container_stack.host import attach, attach_shared
from container_stack.testing import attach_contract

from . import file_world


class SharedWorld(file_world.FileWorld):
    """Files as volumes, shared."""

    def attacher(self, *, initiator: str = "", timeout: float = 30.0) -> attach.Attacher:
        return attach_shared.SharedAttachments(super().attacher(initiator=initiator))


class TestSharedAttachments(attach_contract.AttachContract):
    @pytest.fixture
    def world(self, tmp_path: pathlib.Path) -> SharedWorld:
        return SharedWorld(tmp_path)


class Diary(attach.Attacher):
    """Attaches files, and writes down when it does so; waits for ``gate``."""

    def __init__(self, attacher: attach.Attacher) -> None:
        self._attacher = attacher
        self.entries: list[str] = []
        self.attached: set[str] = set()
        self.gate = threading.Event()
        self.gate.set()
        self.failures = 0

    @property
    def initiator(self) -> str:
        return self._attacher.initiator

    def check(self) -> Mapping[str, str]:
        return self._attacher.check()

    def attach(self, target: attach.Target, *, read_only: bool = False) -> attach.BlockDevice:
        name = target.iqn.rpartition(":")[2]
        assert name not in self.attached
        self.entries.append(f"attach {name}")
        assert self.gate.wait(10)
        if self.failures:
            self.failures -= 1
            raise exceptions.ArrayUnavailable("Not today.")
        self.attached.add(name)
        return _Noted(self, name, self._attacher.attach(target, read_only=read_only))


class _Noted(attach_shared._Handle):
    def __init__(self, diary: Diary, name: str, device: attach.BlockDevice) -> None:
        self._diary, self._name, self._device = diary, name, device

    def close(self) -> None:
        self._diary.entries.append(f"detach {self._name}")
        self._diary.attached.remove(self._name)
        if self._device is not None:
            self._device.close()


@pytest.fixture
def world(tmp_path: pathlib.Path) -> file_world.FileWorld:
    return file_world.FileWorld(tmp_path)


@pytest.fixture
def diary(world: file_world.FileWorld) -> Diary:
    return Diary(world.attacher())


@pytest.fixture
def shared(diary: Diary) -> attach_shared.SharedAttachments:
    return attach_shared.SharedAttachments(diary)


def test_many_users_attach_once_and_the_last_detaches(
    world: file_world.FileWorld, diary: Diary, shared: attach_shared.SharedAttachments
) -> None:
    target = world.make("one", 4096)
    diary.gate.clear()
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        waiting = [threads.submit(shared.attach, target) for _ in range(8)]
        diary.gate.set()
        devices = [each.result(10) for each in waiting]
    assert shared.users() == {target: 8}
    for device in devices[:-1]:
        device.close()
        device.close()
    assert diary.entries == ["attach one"]
    assert devices[-1].read(0, 1) == b"\0"
    devices[-1].close()
    assert diary.entries == ["attach one", "detach one"]
    assert shared.users() == {}
    shared.attach(target).close()
    assert diary.entries == ["attach one", "detach one"] * 2


def test_targets_do_not_wait_for_each_other(
    world: file_world.FileWorld, diary: Diary, shared: attach_shared.SharedAttachments
) -> None:
    one, two = world.make("one", 4096), world.make("two", 4096)
    kept = shared.attach(two)
    diary.gate.clear()
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        slow = threads.submit(shared.attach, one)
        shared.attach(two).close()
        kept.close()
        assert shared.users() == {one: 1}
        diary.gate.set()
        slow.result(10).close()


def test_failure_is_its_callers_alone(
    world: file_world.FileWorld, diary: Diary, shared: attach_shared.SharedAttachments
) -> None:
    target = world.make("one", 4096)
    diary.failures = 1
    with pytest.raises(exceptions.ArrayUnavailable):
        shared.attach(target)
    assert shared.users() == {}
    with shared.attach(target) as device:
        assert device.read(0, 1) == b"\0"


def test_attaching_and_detaching_at_once_never_hands_out_a_closed_device(
    world: file_world.FileWorld, diary: Diary, shared: attach_shared.SharedAttachments
) -> None:
    target = world.make("one", 4096)

    def use(_number: int) -> None:
        with shared.attach(target) as device:
            assert device.read(0, 1) == b"\0"

    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        list(threads.map(use, range(400)))
    assert diary.attached == set()
    assert shared.users() == {}
