# SPDX-License-Identifier: Apache-2.0
"""Records and sparse files, on the disk that is here."""

import os
from pathlib import Path

import pytest

from container_stack import exceptions
from container_stack.host import records, sparse

MIB = 1024**2


def test_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    book = records.Records(str(tmp_path / "book"))
    assert book.read("a") is None
    assert book.all() == {}
    book.write("b.c", {"n": 2})
    book.write("a", {"n": 1})
    assert list(book.all().items()) == [("a", {"n": 1}), ("b.c", {"n": 2})]
    book.remove("a")
    book.remove("a")
    assert os.listdir(book.directory) == ["b.c.json"]
    assert (tmp_path / "book" / "b.c.json").stat().st_mode & 0o777 == 0o600


def test_record_that_needn_t_outlive_a_loss_of_power_is_whole_too(tmp_path: Path) -> None:
    book = records.Records(str(tmp_path / "book"), durable=False)
    book.write("a", {"n": 1})
    book.write("a", {"n": 2})
    assert (book.read("a"), book.names()) == ({"n": 2}, ["a"])
    assert os.listdir(book.directory) == ["a.json"]
    # The old one is beside it if the process is killed before that is removed.
    (tmp_path / "book" / "a.json.new").write_text('{"n": 1}')
    assert (book.read("a"), book.names(), book.strays()) == ({"n": 2}, ["a"], [])
    book.write("a", {"n": 3})
    assert (book.read("a"), os.listdir(book.directory)) == ({"n": 3}, ["a.json"])
    book.remove("a")
    assert os.listdir(book.directory) == []


def test_record_half_written_is_a_stray_and_not_a_record(tmp_path: Path) -> None:
    book = records.Records(str(tmp_path))
    book.write("whole", {"n": 1})
    (tmp_path / "whole.json.new").write_text('{"n": ')
    (tmp_path / "half.json.new").write_text('{"n": ')
    assert list(book.all()) == ["whole"]
    assert book.strays() == ["half"]


@pytest.mark.parametrize("text", ["", "{", "[]", "7"])
def test_record_that_somebody_broke_hides_no_other(tmp_path: Path, text: str) -> None:
    book = records.Records(str(tmp_path))
    book.write("good", {"n": 1})
    (tmp_path / "bad.json").write_text(text)
    assert list(book.all()) == ["good"]
    with pytest.raises(exceptions.InvalidRequest, match=r"bad\.json"):
        book.read("bad")


def test_copy_has_the_content_and_the_holes(tmp_path: Path) -> None:
    source, target = str(tmp_path / "source"), str(tmp_path / "target")
    sparse.make(source, 64 * MIB)
    with open(source, "r+b") as file:
        for start in (0, 20 * MIB + 4096, 50 * MIB):
            file.seek(start)
            file.write(os.urandom(MIB))
    sparse.copy(source, target)
    assert Path(target).read_bytes() == Path(source).read_bytes()
    assert sparse.occupied(target) < 5 * MIB
    assert os.stat(target).st_mode & 0o777 == 0o600


def test_copy_replaces_a_leftover(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_text("new")
    target.write_text("left over and longer")
    sparse.copy(str(source), str(target))
    assert target.read_text() == "new"


def test_failed_copy_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        sparse.copy(str(tmp_path / "none"), str(tmp_path / "target"))
    assert os.listdir(tmp_path) == []
