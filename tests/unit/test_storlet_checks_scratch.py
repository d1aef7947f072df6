# SPDX-License-Identifier: Apache-2.0
"""Trials, the directories of verifications, and the watch over the disk."""

import os
import pathlib
from concurrent import futures
from typing import Any

import pytest

from container_stack import exceptions
from container_stack.host import containers, images
from container_stack.storlets import model
from container_stack.storlets.verification import native, scratch, trial


@pytest.fixture
def files(tmp_path: pathlib.Path) -> dict[str, str]:
    """A storlet's files."""
    made = {}
    for name in ("thumb.py", "font.ttf", "in.png", "out.png"):
        (tmp_path / name).write_bytes(name.encode())
        made[name] = str(tmp_path / name)
    return made


def make(files: dict[str, str], **more: Any) -> trial.Trial:
    values = {"file": files["thumb.py"], "main": "thumb.Thumb", "input": files["in.png"]}
    return trial.Trial(**{**values, **more})


def test_trial_is_named_as_its_object_would_be(files: dict[str, str]) -> None:
    made = make(files, dependencies=(files["font.ttf"],), version="3.11", language="python")
    assert made.name == "thumb.py"


@pytest.mark.parametrize(
    "more",
    [
        {"language": "perl"},
        {"version": "2.7"},
        {"version": "3; rm"},
        {"version": "../sh"},
        {"main": "../../etc/x"},
        {"main": ""},
        {"main": "a/b.C"},
        {"file": "nowhere.py"},
        {"input": "nowhere"},
        {"output": "nowhere"},
        {"dependencies": ("nowhere",)},
        {"parameters": {"a": "x" * 40_000}},
    ],
)
def test_trial_that_no_gateway_would_run_is_refused(
    files: dict[str, str], more: dict[str, Any]
) -> None:
    with pytest.raises(exceptions.InvalidRequest):
        make(files, **more)


def test_two_files_of_one_name_are_refused(files: dict[str, str], tmp_path: pathlib.Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other/thumb.py").touch()
    with pytest.raises(exceptions.InvalidRequest, match="same name"):
        make(files, dependencies=(str(tmp_path / "other/thumb.py"),))


def test_scope_of_a_verification_is_no_accounts(tmp_path: pathlib.Path) -> None:
    engine = containers.Engine("unix:///nowhere")
    made = scratch.Scratch(
        scratch.Engine("unix:///nowhere", engine, images.Images(engine)),
        str(tmp_path / "cs-0123456789ab"),
    )
    assert len(made.scope) > model.SCOPE_LENGTH
    assert made.reference == "cs-0123456789ab:latest"
    assert made.sandbox == "cs-0123456789ab_cs-0123456789ab"
    assert made.options["pipes_dir"] == str(tmp_path / "cs-0123456789ab/p")


def test_directory_that_others_may_write_to_is_refused(tmp_path: pathlib.Path) -> None:
    engine = containers.Engine("unix:///nowhere")
    nobody = scratch.Engine("unix:///nowhere", engine, images.Images(engine))
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    (tmp_path / "link").symlink_to(tmp_path)
    for path in (shared, tmp_path / "link"):
        with (
            pytest.raises(exceptions.HostNotReady, match=path.name),
            scratch.lend(str(path), nobody),
        ):
            pytest.fail("lent")


class _Bare:
    """An engine that has neither containers nor images."""

    def version(self) -> dict[str, str]:
        return {}

    def remove(self, name: str) -> None:
        """There is nothing to remove."""

    def find(self, reference: str) -> None:
        return None


def test_verifications_end_while_others_begin(tmp_path: pathlib.Path) -> None:
    engine: Any = _Bare()
    bare = scratch.Engine("unix:///bare", engine, engine)

    def verify(_number: int) -> None:
        with scratch.lend(str(tmp_path / "all"), bare) as place:
            assert os.path.isdir(place.directory)

    with futures.ThreadPoolExecutor(8) as threads:
        list(threads.map(verify, range(400)))
    assert os.listdir(tmp_path / "all") == ["lock"]


def test_whatever_a_sandbox_left_in_a_directory_is_removed(tmp_path: pathlib.Path) -> None:
    top, outside = tmp_path / "top", tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    (top / "p").mkdir(parents=True)
    (top / "lock").touch()
    (top / "p/link").symlink_to(outside)
    os.link(outside / "kept", top / "p/hard")
    os.mkfifo(top / "p/fifo")
    (top / "p/lock").mkdir()
    _dig(top / "p", 1200)
    scratch.empty(str(top))
    assert os.listdir(tmp_path) == ["outside"]
    assert os.listdir(outside) == ["kept"]


def _dig(path: pathlib.Path, depth: int) -> None:
    """Make directories in directories, until no path is long enough for them."""
    fd = os.open(path, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("deeper", 0o700, dir_fd=fd)
        below = os.open("deeper", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(os.open("file", os.O_CREAT, dir_fd=fd))
    os.fchmod(fd, 0)
    os.close(fd)


@pytest.mark.parametrize(
    ("text", "version"), [("2.36", (2, 36)), ("2.9-x", (2, 9)), ("x", None), ("2", None)]
)
def test_versions_are_two_numbers(text: str, version: native.Version | None) -> None:
    assert native.parsed(text) == version


@pytest.mark.parametrize("lacking", ["AGENT", "LIBRARY", "SYSLOG"])
def test_host_that_lacks_something_is_told_what(
    lacking: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "agent").mkdir()
    (tmp_path / "libsbus.so").write_bytes(b"\0GLIBC_2.2.5\0GLIBC_2.14\0GLIBC_2.9\0")
    monkeypatch.setattr(native, "AGENT", str(tmp_path / "agent"))
    monkeypatch.setattr(native, "LIBRARY", str(tmp_path / "libsbus.so"))
    monkeypatch.setattr(native, "_check_syslog", lambda: None)
    assert native.look().needed == (2, 14)
    monkeypatch.undo()
    monkeypatch.setattr(native, "AGENT", str(tmp_path / "agent"))
    monkeypatch.setattr(native, "LIBRARY", str(tmp_path / "libsbus.so"))
    monkeypatch.setattr(native, lacking, str(tmp_path / "nowhere"))
    with pytest.raises(exceptions.HostNotReady) as caught:
        native.look()
    assert str(caught.value).endswith(".")
