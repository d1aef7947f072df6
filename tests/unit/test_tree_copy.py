# SPDX-License-Identifier: Apache-2.0
"""Copying files in which somebody goes on writing."""

import os
import pathlib

import pytest

from container_stack.rootwrap import tree_copy


@pytest.fixture
def trees(tmp_path: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path]:
    """A directory to be copied, and an empty one."""
    for name in ("from", "to"):
        (tmp_path / name).mkdir()
    return tmp_path / "from", tmp_path / "to"


def copy(source: pathlib.Path, target: pathlib.Path) -> None:
    directories = [os.open(each, os.O_RDONLY | os.O_DIRECTORY) for each in (source, target)]
    try:
        tree_copy.copy(*directories)
    finally:
        for each in directories:
            os.close(each)


def test_file_that_is_cut_off_while_it_is_copied_hinders_no_other(
    trees: tuple[pathlib.Path, pathlib.Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = trees
    for name in ("a", "b"):
        (source / name).write_bytes(os.urandom(100_000))
    seek = os.lseek

    def cut_off(file: int, at: int, how: int) -> int:
        """Find what is there, and let its owner empty the file at once."""
        found = seek(file, at, how)
        if how == os.SEEK_DATA and os.path.samestat(os.fstat(file), os.stat(source / "a")):
            os.truncate(source / "a", 0)
        return found

    monkeypatch.setattr(os, "lseek", cut_off)
    copy(source, target)
    assert (target / "b").read_bytes() == (source / "b").read_bytes()
    assert (target / "a").exists()
