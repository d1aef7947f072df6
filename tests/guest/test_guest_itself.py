# SPDX-License-Identifier: Apache-2.0
"""The ground of the other tests here: a kernel on which logical volumes can be made.

Run them by ``tools/run-tests.sh guest``: where the kernel has no device-mapper it boots a guest.
"""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

MIB = 1024**2


def has_device_mapper() -> bool:
    """Ask the kernel: LVM makes the node in /dev even where no driver is behind it."""
    return "device-mapper" in Path("/proc/misc").read_text(encoding="utf-8")


# In a guest, which is there for it, a missing device-mapper is a failure.
pytestmark = pytest.mark.skipif(
    not has_device_mapper() and "UML_GUEST" not in os.environ,
    reason="no device-mapper in this kernel: run tools/run-tests.sh guest",
)


def run(*argv: str | Path) -> str:
    result = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert result.returncode == 0, f"{argv}: {result.stderr}"
    return result.stdout.strip()


@pytest.fixture
def volume_group(tmp_path: Path) -> Iterator[str]:
    file, name = tmp_path / "disk", f"cstest-{os.getpid()}"
    with file.open("wb") as disk:
        disk.truncate(192 * MIB)
    device = run("losetup", "--find", "--show", file)
    try:
        run("vgcreate", name, device)
        yield name
    finally:
        run("vgremove", "--force", name)
        run("losetup", "--detach", device)


def test_device_mapper_is_there() -> None:
    assert has_device_mapper()
    targets = run("dmsetup", "targets")
    for target in ("linear", "snapshot", "thin-pool"):
        assert target in targets


def test_logical_volume_holds_a_file_system_and_grows_while_mounted(
    volume_group: str, tmp_path: Path
) -> None:
    device, point = Path(f"/dev/{volume_group}/share"), tmp_path / "mnt"
    point.mkdir()
    run("lvcreate", "--yes", "--size", "32m", "--name", "share", volume_group)
    assert device.is_block_device()
    run("mkfs.ext4", "-q", device)
    run("mount", device, point)
    try:
        (point / "file").write_text("kept")
        before = os.statvfs(point)
        run("lvextend", "--size", "64m", device)
        run("resize2fs", device)
        assert os.statvfs(point).f_blocks > 1.5 * before.f_blocks
        assert (point / "file").read_text() == "kept"
    finally:
        run("umount", point)
    run("lvremove", "--yes", device)
    assert not device.exists()


def test_thin_pool_gives_snapshots(volume_group: str) -> None:
    run("lvcreate", "--yes", "--type", "thin-pool", "--size", "64m", "--name", "pool", volume_group)
    run("lvcreate", "--virtualsize=128m", "--thin", "--name=share", f"{volume_group}/pool")
    run("lvcreate", "--snapshot", "--name=before", f"{volume_group}/share")
    names = run("lvs", "--noheadings", "--options=lv_name", volume_group).split()
    assert sorted(names) == ["before", "pool", "share"]
