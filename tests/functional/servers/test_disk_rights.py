# SPDX-License-Identifier: Apache-2.0
"""Which devices a version 2 cgroup may use, with the kernel's own programs."""

import errno
import os
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from container_stack.rootwrap import disk_bpf

from . import cgroups

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or cgroups.hierarchy() is None, reason="no cgroups of version 2 to change"
)


@pytest.fixture
def device(tmp_path: Path) -> Iterator[str]:
    image = tmp_path / "image"
    image.write_bytes(bytes(1024**2))
    words = ["losetup", "--find", "--show", str(image)]
    path = subprocess.run(words, capture_output=True, check=True, text=True).stdout.strip()
    yield path
    subprocess.run(["losetup", "--detach", path], check=True)


@pytest.fixture
def group() -> Iterator[Path]:
    with cgroups.cgroup(f"cstest-{uuid.uuid4().hex[:8]}") as path:
        yield path


def rights(group: Path, device: str) -> str:
    """Return how a process of the group may open a device."""

    def can(flags: int) -> bool:
        code = cgroups.within(group, lambda: os.open(device, flags))
        assert code in (0, errno.EPERM)
        return not code

    return "r" * can(os.O_RDONLY) + "w" * can(os.O_WRONLY)


def test_device_is_allowed_and_denied_and_all_else_stays(group: Path, device: str) -> None:
    devices, number = disk_bpf.Devices(group), os.stat(device).st_rdev
    other = os.makedev(os.major(number), os.minor(number) + 1)
    assert rights(group, device) == ""
    devices.allow(other, read_only=False)
    assert rights(group, device) == ""
    for read_only, expected in ((False, "rw"), (False, "rw"), (True, "r"), (False, "rw")):
        devices.allow(number, read_only=read_only)
        assert rights(group, device) == expected
    devices.deny(other)
    assert rights(group, device) == "rw"
    devices.deny(number)
    devices.deny(number)
    assert rights(group, device) == ""
    assert cgroups.within(group, lambda: os.open("/dev/null", os.O_RDWR)) == 0


def test_no_node_of_an_allowed_device_is_made(group: Path, device: str, tmp_path: Path) -> None:
    number = os.stat(device).st_rdev
    disk_bpf.Devices(group).allow(number, read_only=False)
    node = str(tmp_path / "node")
    assert cgroups.within(group, lambda: os.mknod(node, 0o60600, number)) == errno.EPERM


def test_program_of_the_engine_is_as_it_was(group: Path, device: str) -> None:
    devices, number = disk_bpf.Devices(group), os.stat(device).st_rdev
    devices.allow(number, read_only=True)
    assert disk_bpf.programs(group) == [disk_bpf.beginning(number, 2) + cgroups.PROGRAM]
    devices.deny(number)
    assert disk_bpf.programs(group) == [cgroups.PROGRAM]


@pytest.mark.parametrize("code", [b"", cgroups.PROGRAM, disk_bpf.beginning(2049, 6)[:-8]])
def test_what_is_none_of_ours_is_left(code: bytes) -> None:
    assert disk_bpf.without(code, 2049) == code
    assert disk_bpf.without(disk_bpf.beginning(2049, 6) + code, 2049) == code
