# SPDX-License-Identifier: Apache-2.0
"""The kernel's mount table, line by line."""

import os
from pathlib import Path

import pytest

from container_stack.host import mounts
from container_stack.rootwrap import mountinfo

TABLE = """\
22 27 0:21 / /proc rw,nosuid - proc proc rw
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard
60 27 0:51 / /srv/a\\040b\\134c rw,relatime shared:7 master:3 - btrfs /dev/loop\\0402 rw
61 60 7:3 / /srv/a\\040b\\134c/deep ro,nosuid - xfs /dev/loop3 ro,nouuid
62 27 0:60 / /old rw unbindable - nfs4 host:/a\\011b\\012c rw
"""


def test_fields_are_told_apart() -> None:
    proc, root, blank, deep, odd = (
        mountinfo.parse(line) for line in TABLE.splitlines(keepends=True)
    )
    assert (proc.path, proc.kind, proc.shared) == ("/proc", "proc", False)
    assert (root.path, root.number, root.shared) == ("/", os.makedev(254, 0), True)
    assert (blank.path, blank.source, blank.shared) == ("/srv/a b\\c", "/dev/loop 2", True)
    assert (deep.source, deep.read_only, blank.read_only) == ("/dev/loop3", True, False)
    assert odd.source == "host:/a\tb\nc"


def test_mount_that_holds_a_path_is_the_innermost(tmp_path: Path) -> None:
    assert mounts.holding("/").path == "/"
    assert mounts.holding("/proc/self/status").path == "/proc"
    assert mounts.holding("/process").path == "/"


def test_path_is_compared_with_links_followed_but_for_its_last_part(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert mounts.resolve(f"{tmp_path}/link/x") == f"{tmp_path}/real/x"
    assert mounts.resolve(f"{tmp_path}/link") == f"{tmp_path}/link"


def test_paths_are_those_of_the_table() -> None:
    assert {"/", "/proc"} <= mounts.paths()
    assert mounts.paths() == {mount.path for mount in mountinfo.table()}


def test_directory_alone_is_no_mount(tmp_path: Path) -> None:
    assert mounts.at(str(tmp_path)) is None
    assert mounts.below(str(tmp_path)) == []
    assert mounts.at("/") is not None


@pytest.mark.parametrize("device", ["/dev/no-such-device", "/dev/null", "/etc/passwd"])
def test_what_is_no_mounted_device_has_no_mounts(device: str) -> None:
    assert mounts.of(device) == []
