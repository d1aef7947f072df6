# SPDX-License-Identifier: Apache-2.0
"""What root's daemon does itself, without a program: subvolumes, and directories mounted."""

import contextlib
import os
import pathlib
import subprocess
import uuid
from collections.abc import Iterator

import pytest

from container_stack import exceptions
from container_stack.host import btrfs, mounts
from container_stack.rootwrap import cmd, commands, executor, mountinfo
from container_stack.testing import btrfs_disk, privilege

from . import segments

pytestmark = pytest.mark.skipif(segments.needs_root, reason="makes file systems")

SIZE = 16 * 1024**2


class Host:
    """A btrfs in a state directory, and where its volumes are mounted."""

    def __init__(self, state: pathlib.Path, runner: executor.Executor) -> None:
        self.runner = runner
        self.disk = state / "backends" / "disk"
        self.mounts = state / "mounts" / "disk"
        (self.disk / "volumes").mkdir()
        self.mounts.mkdir(parents=True)

    def kept(self) -> pathlib.Path:
        return self.disk / "volumes" / str(uuid.uuid4())

    def create(self) -> pathlib.Path:
        path = self.kept()
        self.runner.run(commands.btrfs.CREATE, path=str(path), size=SIZE)
        return path

    def delete(self, path: pathlib.Path) -> None:
        self.runner.run(commands.btrfs.DELETE, path=str(path))

    def bind(self, access: str, source: pathlib.Path) -> pathlib.Path:
        path = self.mounts / source.name
        path.mkdir()
        values = {"access": access, "source": str(source), "path": str(path)}
        self.runner.run(commands.fs.MOUNT_DIRECTORY, **values)
        return path

    def unbind(self, path: pathlib.Path) -> None:
        self.runner.run(commands.fs.UNMOUNT_DIRECTORY, path=str(path))


@contextlib.contextmanager
def hosting(state: pathlib.Path) -> Iterator[Host]:
    runner = privilege.make_executor(state, drivers=["osd"])
    with btrfs_disk.mounted(state / "backends" / "disk"):
        yield Host(state, runner)
    runner.close()


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with hosting(tmp_path_factory.mktemp("volume") / "state") as made:
        btrfs.Subvolumes(made.runner, str(made.disk)).prepare()
        yield made


def options(path: pathlib.Path) -> set[str]:
    """Return what the kernel says of a mount."""
    [found] = [mount.options for mount in mountinfo.table() if mount.path == str(path)]
    return set(found)


def test_a_subvolume_that_cannot_be_limited_is_not_made(tmp_path):
    with hosting(tmp_path / "state") as bare:  # nobody has let it count
        with pytest.raises(exceptions.CommandFailed, match=r"create: .*not connected"):
            bare.create()
        assert os.listdir(bare.disk / "volumes") == []


def test_a_subvolume_takes_no_more_than_it_may_and_goes_with_its_data(host):
    path = host.create()
    with pytest.raises(OSError, match="quota exceeded"):
        (path / "data").write_bytes(bytes(2 * SIZE))
    host.delete(path)
    assert not path.exists()


def test_a_subvolume_with_another_in_it_stays(host):
    path = host.create()
    subprocess.run(["btrfs", "-q", "subvolume", "create", path / "inner"], check=True)
    with pytest.raises(exceptions.CommandFailed, match="not empty"):
        host.delete(path)
    (path / "inner").rmdir()
    host.delete(path)


def test_a_directory_is_neither_made_nor_deleted_as_a_subvolume(host):
    path = host.kept()
    path.mkdir()
    with pytest.raises(exceptions.CommandFailed, match="File exists"):
        host.runner.run(commands.btrfs.CREATE, path=str(path), size=SIZE)
    with pytest.raises(exceptions.CommandFailed, match="Invalid argument"):
        host.delete(path)
    path.rmdir()


@pytest.mark.parametrize("access", ["rw", "ro"])
def test_a_directory_is_mounted_without_setuid_and_devices(host, access):
    source = host.create()
    path = host.bind(access, source)
    assert {access, "nosuid", "nodev"} <= options(path)
    assert os.path.samefile(path, source)
    host.unbind(path)
    assert mounts.at(str(path)) is None
    path.rmdir()
    host.delete(source)


def test_what_is_in_use_stays_mounted(host):
    source = host.create()
    path = host.bind("rw", source)
    with (
        open(path / "file", "w", encoding="utf-8"),
        pytest.raises(exceptions.CommandFailed, match=r"unbind: .*busy"),
    ):
        host.unbind(path)
    host.unbind(path)
    assert mounts.at(str(path)) is None
    host.unbind(path)  # nothing is left to do
    path.rmdir()
    host.delete(source)


def test_all_that_is_mounted_on_a_path_goes_at_once(host):
    sources = [host.create(), host.create()]
    path = host.bind("rw", sources[0])
    subprocess.run(["mount", "--bind", sources[1], path], check=True)
    host.unbind(path)
    assert mounts.at(str(path)) is None
    path.rmdir()
    for source in sources:
        host.delete(source)


def test_no_link_is_followed_to_what_is_mounted_or_kept_elsewhere(host, tmp_path):
    source = host.create()
    path, link = host.bind("rw", source), host.mounts / "link"
    link.symlink_to(path)
    host.unbind(link)
    assert mounts.at(str(path)) is not None
    host.unbind(path)
    elsewhere = host.disk.with_name("elsewhere")
    elsewhere.mkdir()
    (elsewhere / "volumes").symlink_to(host.disk / "volumes")
    with pytest.raises(exceptions.CommandFailed, match="Not a directory"):
        host.delete(elsewhere / "volumes" / source.name)
    assert source.is_dir()
    host.delete(source)


def test_what_no_filter_admits_is_refused(host):
    source = host.create()
    lines = ("delete {path:kept} {path:kept}", "remove {path:kept}", "unbind {path:kept}", "")
    for number, words in enumerate(lines):
        odd = commands.Command(f"test_{number}", f"container-stack-volume {words}")
        values = {"path": str(source)} if words else {}
        with pytest.raises(exceptions.RootHelperUnavailable, match="refuse"):
            host.runner.run(odd, **values)
    assert source.is_dir()
    host.delete(source)


def test_the_daemon_does_what_is_said_to_be_done_inside() -> None:
    said = {each.program for driver in commands.DRIVERS.values() for each in driver if each.inside}
    assert said == set(cmd.OWN)
