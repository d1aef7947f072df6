# SPDX-License-Identifier: Apache-2.0
"""Limits of block devices where the kernel has cgroups of version 2 alone, measured."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from container_stack.host import device_limits
from container_stack.rootwrap import cgroups, cmd, limit

from . import volume_groups

GROUPS = Path("/sys/fs/cgroup")
#: As an engine calls it, with the driver cgroupfs.
CONTAINER = "c5" * 32
MIB = 1024**2
SPEED = MIB

#: Its process has one thing to do in the cgroup: SPEED * 2 bytes, from or to the disk itself.
WRITE = "import os, sys; f = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT); [os.write(f, bytes(65536)) for _ in range(32)]; os.fsync(f)"  # noqa: E501
READ = "import os, sys; f = os.open(sys.argv[1], os.O_RDONLY); os.posix_fadvise(f, 0, 0, os.POSIX_FADV_DONTNEED); all(iter(lambda: os.read(f, 65536), b''))"  # noqa: E501
SELDOM = "import os, sys; f = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_DSYNC); [os.pwrite(f, bytes(4096), 4096 * i) for i in range(20)]"  # noqa: E501

pytestmark = [
    volume_groups.needs_device_mapper,
    pytest.mark.skipif(
        not (GROUPS / "cgroup.controllers").exists() and "UML_GUEST" not in os.environ,
        reason="cgroups of version 1 here: tests/functional/test_shares_limits.py limits by them",
    ),
]


class Limited:
    """A container, as far as the kernel knows of one, and a volume that it has."""

    def __init__(self, device: str, directory: Path) -> None:
        self.device, self._file = device, directory / "file"
        self._group = GROUPS / "docker" / CONTAINER

    def limit(self, bps: int = 0, iops: int = 0) -> tuple[int, str, str]:
        """Tell the kernel, as the daemon of rootwrap does it."""
        with self._started("import sys; sys.stdin.read()") as process:
            most = [str(each) for each in (bps, bps, iops, iops)]
            words = ["container", self.device, CONTAINER, str(process.pid), *most]
            return cmd.run_own(limit.ACTIONS, words)

    def said(self) -> str:
        return (self._group / "io.max").read_text(encoding="ascii")

    def seconds(self, script: str) -> float:
        """Return how long the container's process needs for this."""
        start = time.monotonic()
        with self._started(script) as process:
            assert process.wait(60) == 0
        return time.monotonic() - start

    @contextlib.contextmanager
    def _started(self, script: str) -> Iterator[subprocess.Popen[bytes]]:
        enter = (
            f"import os; open({str(self._group / 'cgroup.procs')!r}, 'w').write(str(os.getpid()))\n"
        )
        words = [sys.executable, "-c", enter + script, str(self._file)]
        with subprocess.Popen(words, stdin=subprocess.PIPE) as process:
            while CONTAINER not in Path(f"/proc/{process.pid}/cgroup").read_text(encoding="ascii"):
                time.sleep(0.01)
            yield process


@pytest.fixture
def limited(tmp_path: Path) -> Iterator[Limited]:
    with contextlib.ExitStack() as undo:
        group = undo.enter_context(volume_groups.volume_group(tmp_path, 96 * MIB))
        volume_groups.lvm("lvcreate", "--yes", "--size=64m", "--name=share", group)
        device = f"/dev/{group}/share"
        volume_groups.lvm("mkfs.ext4", "-q", device)
        volume_groups.lvm("mount", device, tmp_path)
        undo.callback(volume_groups.lvm, "umount", tmp_path)
        inside = GROUPS / "docker" / CONTAINER
        for each in (GROUPS, inside.parent):
            each.mkdir(exist_ok=True)
            (each / "cgroup.subtree_control").write_text("+io +memory", encoding="ascii")
        inside.mkdir()
        undo.callback(inside.rmdir)
        yield Limited(device, tmp_path)


def test_this_kernel_is_told_to_be_able_to() -> None:
    assert device_limits.supported()
    assert cgroups.hierarchy("") == GROUPS


def test_what_a_container_writes_and_reads_is_held_until_the_limit_is_lifted(limited) -> None:
    assert limited.limit(bps=SPEED) == (0, "", "")
    assert f"rbps={SPEED} wbps={SPEED}" in limited.said()
    # In the cache first: it counts as the container's.
    held = limited.seconds(WRITE)
    assert held > 1.2
    assert limited.seconds(READ) > 1.2
    assert limited.limit() == (0, "", "")
    assert "bps" not in limited.said()
    assert limited.seconds(WRITE) < held - 0.6


def test_operations_are_counted_whatever_their_size(limited) -> None:
    assert limited.limit(iops=10) == (0, "", "")
    held = limited.seconds(SELDOM)
    assert held > 1.2
    assert limited.limit() == (0, "", "")
    assert limited.seconds(SELDOM) < held - 0.6


def test_another_containers_process_is_not_limited_in_its_place(limited) -> None:
    words = ["container", limited.device, CONTAINER, str(os.getpid()), "1", "1", "1", "1"]
    code, _, said = cmd.run_own(limit.ACTIONS, words)
    assert (code, "isn't in container" in said) == (1, True)


def test_nothing_is_written_for_the_kernels_own_part(limited) -> None:
    assert cmd.run_own(limit.ACTIONS, ["kernel", limited.device, "1", "1"]) == (0, "", "")
