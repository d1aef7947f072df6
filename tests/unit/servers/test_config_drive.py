# SPDX-License-Identifier: Apache-2.0
import os
import pathlib
import stat

import pytest

from container_stack import exceptions
from container_stack.servers import config_drive

FILES = {"openstack/latest/meta_data.json": b"{}", "ec2/latest/user-data": b"\xff\x00", "top": b""}


def content(directory: pathlib.Path) -> dict[str, bytes]:
    found = (path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): path.read_bytes() for path in found}


def test_every_user_of_a_server_can_read_its_drive_whatever_the_umask(
    tmp_path: pathlib.Path,
) -> None:
    before = os.umask(0o777)
    try:
        config_drive.write(str(tmp_path / "drive"), FILES)
    finally:
        os.umask(before)
    assert content(tmp_path / "drive") == FILES
    for path in [tmp_path / "drive", *(tmp_path / "drive").rglob("*")]:
        wanted = 0o755 if path.is_dir() else 0o444
        assert stat.S_IMODE(path.stat().st_mode) == wanted, path


def test_a_drive_is_written_anew_and_removed_twice(tmp_path: pathlib.Path) -> None:
    drive = tmp_path / "drive"
    config_drive.write(str(drive), FILES)
    config_drive.write(str(drive), {"other": b"1"})
    assert content(drive) == {"other": b"1"}
    config_drive.remove(str(drive))
    config_drive.remove(str(drive))
    assert list(tmp_path.iterdir()) == []


def test_what_a_crash_left_of_a_drive_is_replaced_and_removed(tmp_path: pathlib.Path) -> None:
    (tmp_path / "drive.new" / "openstack").mkdir(parents=True)
    (tmp_path / "drive.new" / "top").write_text("half")
    config_drive.write(str(tmp_path / "drive"), FILES)
    assert content(tmp_path / "drive") == FILES
    (tmp_path / "drive.new").mkdir()
    config_drive.remove(str(tmp_path / "drive"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../a", "a/../../b", "a//b", "", ".", "a/", "a\0b", "a" * 256]
)
def test_no_file_of_a_drive_leads_elsewhere(tmp_path: pathlib.Path, path: str) -> None:
    drive = tmp_path / "drive"
    config_drive.write(str(drive), FILES)
    with pytest.raises(exceptions.InvalidRequest):
        config_drive.write(str(drive), {"b": b"", path: b""})
    assert content(drive) == FILES
    assert [each.name for each in tmp_path.iterdir()] == ["drive"]


def test_no_file_of_a_drive_is_a_directory_too(tmp_path: pathlib.Path) -> None:
    with pytest.raises(exceptions.InvalidRequest, match=r"'a/b' .* a file and a directory"):
        config_drive.write(str(tmp_path / "drive"), {"a/b/c": b"", "a/b": b""})
