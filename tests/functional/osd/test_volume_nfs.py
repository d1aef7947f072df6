# SPDX-License-Identifier: Apache-2.0
"""Directories as volumes: what tenants may put into them, and users who aren't root."""

import dataclasses
import os
import pathlib
import shutil
import stat
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator

import pytest

from container_stack import exceptions
from container_stack.rootwrap import executor
from container_stack.testing import privilege
from container_stack.volumes import backend, model
from container_stack.volumes.backends import nfs

from .. import segments, service_account

pytestmark = pytest.mark.skipif(segments.needs_root, reason="makes files of all kinds and owners")

MIB = 1024**2
SECRET = "nobody's business"


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    options: backend.Options
    made: nfs.NFS
    kept: pathlib.Path

    def create(self) -> tuple[str, pathlib.Path]:
        """Make a volume; return where its data are, which a tenant changes as root."""
        one = str(uuid.uuid4())
        self.made.create(one, model.Spec())
        return one, self.data(one)

    def data(self, one: str) -> pathlib.Path:
        return self.kept / one / "data"

    def copy(self, one: str) -> tuple[str, pathlib.Path]:
        other = str(uuid.uuid4())
        self.made.snapshot(one, other, read_only=False)
        return other, self.data(other)


@pytest.fixture
def place(tmp_path: pathlib.Path) -> Iterator[Place]:
    runner = privilege.make_executor(tmp_path / "state", drivers=["osd"])
    kept = tmp_path / "kept"
    kept.mkdir()
    options = backend.Options(
        "nfs", runner, str(tmp_path / "state" / "backends" / "nfs"), {"path": str(kept)}, "here"
    )
    made = nfs.NFS(options)
    made.start()
    yield Place(options, made, kept)
    runner.close()


def test_a_copy_is_like_its_original(place: Place) -> None:
    one, data = place.create()
    data.chmod(0o2751)
    os.chown(data, 1001, 1002)
    (data / "run").write_text("#!/bin/sh\n")
    os.chown(data / "run", 1003, 1004)
    (data / "run").chmod(0o4755)
    os.link(data / "run", data / "again")
    os.setxattr(data / "run", "user.mark", b"seen")
    os.utime(data / "run", ns=(1_000_000_007, 2_000_000_011))
    (data / "deep" / "er").mkdir(parents=True)
    os.symlink("../../run", data / "deep" / "er" / "link")
    os.mkfifo(data / "pipe", 0o640)
    os.mknod(data / "zero", stat.S_IFCHR | 0o600, os.makedev(1, 5))
    with (data / "sparse").open("wb") as file:
        file.truncate(700 * MIB)
        file.seek(300 * MIB)
        file.write(b"middle")
    _two, copy = place.copy(one)
    assert (copy.stat().st_mode, copy.stat().st_uid, copy.stat().st_gid) == (0o42751, 1001, 1002)
    run = (copy / "run").stat()
    assert (stat.S_IMODE(run.st_mode), run.st_uid, run.st_gid) == (0o4755, 1003, 1004)
    assert (run.st_nlink, run.st_mtime_ns) == (2, 2_000_000_011)
    assert os.getxattr(copy / "run", "user.mark") == b"seen"
    assert (copy / "again").samefile(copy / "run")
    assert os.readlink(copy / "deep" / "er" / "link") == "../../run"
    assert stat.S_ISFIFO((copy / "pipe").stat().st_mode)
    assert (copy / "zero").stat().st_rdev == os.makedev(1, 5)
    sparse = (copy / "sparse").stat()
    assert sparse.st_size == 700 * MIB
    assert sparse.st_blocks * 512 < 10 * MIB
    with (copy / "sparse").open("rb") as file:
        file.seek(300 * MIB)
        assert file.read(9) == b"middle\0\0\0"
    assert place.made.usage(one).used == pytest.approx(place.made.usage(_two).used, abs=MIB)


def test_links_that_a_tenant_plants_lead_nowhere(place: Place, tmp_path: pathlib.Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text(SECRET)
    one, data = place.create()
    (data / "to file").symlink_to(outside / "secret")
    (data / "to directory").symlink_to(outside)
    two, copy = place.copy(one)
    assert (copy / "to file").is_symlink()
    assert (copy / "to directory").is_symlink()
    assert place.made.usage(one).used < MIB
    place.made.restore(one, two)
    for each in (one, two):
        place.made.delete(each)
    assert (outside / "secret").read_text() == SECRET
    assert [*place.kept.iterdir()] == []


def test_who_exchanges_directories_for_links_while_they_are_copied_gains_nothing(
    place: Place, tmp_path: pathlib.Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text(SECRET)
    one, data = place.create()
    for number in range(150):
        (data / f"{number}").mkdir()
        (data / f"{number}" / "secret").write_text("mine")
    (data / "trap").symlink_to(outside)
    over = threading.Event()

    def exchange() -> None:
        number = 0
        while not over.is_set():
            name = data / f"{number % 150}"
            os.rename(name, data / "aside")
            os.rename(data / "trap", name)
            os.rename(name, data / "trap")
            os.rename(data / "aside", name)
            number += 7

    thread = threading.Thread(target=exchange)
    thread.start()
    try:
        copies = [place.copy(one) for _ in range(4)]
    finally:
        over.set()
        thread.join()
    for _two, copy in copies:
        found = {file.read_text() for file in copy.glob("*/secret") if not file.parent.is_symlink()}
        assert found == {"mine"}
    for two, _copy in copies:
        place.made.delete(two)
    place.made.delete(one)
    assert (outside / "secret").read_text() == SECRET


def test_directories_nested_without_end_are_deleted_and_not_copied(place: Place) -> None:
    one, data = place.create()
    # As deep as no path can name it.
    code = "import os\nfor _ in range(3000):\n os.mkdir('d')\n os.chdir('d')\nopen('f', 'w')"
    subprocess.run([sys.executable, "-c", code], cwd=data, check=True)
    for action in (lambda: place.copy(one), lambda: place.made.usage(one)):
        with pytest.raises(exceptions.NotSupported, match="deep"):
            action()
    assert place.made.list() == [one]
    place.made.delete(one)
    assert [*place.kept.iterdir()] == []


def test_others_on_the_host_do_not_come_to_what_tenants_make(place: Place) -> None:
    one, _data = place.create()
    two, _copy = place.copy(one)
    for each in (one, two):
        assert stat.S_IMODE((place.kept / each).stat().st_mode) == 0o700


def test_directory_that_others_may_change_is_refused(place: Place, tmp_path: pathlib.Path) -> None:
    place.kept.chmod(0o777)
    with pytest.raises(exceptions.HostNotReady, match="chmod"):
        place.made.start()
    place.kept.chmod(0o755)
    shutil.chown(place.kept, 12345)
    with pytest.raises(exceptions.HostNotReady, match="chown"):
        place.made.start()
    missing = dataclasses.replace(place.options, settings={"path": str(tmp_path / "missing")})
    with pytest.raises(exceptions.HostNotReady, match="missing"):
        nfs.NFS(missing).start()


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({}, "path"),
        ({"path": "relative"}, "path"),
        ({"server": "nas", "path": "/a,exec"}, "path"),
        ({"server": "nas", "path": "/a/../b"}, "path"),
        ({"server": "-o suid", "path": "/a"}, "server"),
        ({"server": "nas", "path": "/a", "version": "5"}, "version"),
        ({"server": "nas", "path": "/a", "wait": "soft,suid"}, "wait"),
    ],
)
def test_settings_that_can_not_be_meant_are_named(
    place: Place, settings: dict[str, str], named: str
) -> None:
    with pytest.raises(exceptions.InvalidRequest, match=f"nfs: {named}"):
        nfs.NFS(dataclasses.replace(place.options, settings=settings))


def test_addresses_of_both_kinds_are_servers(place: Place) -> None:
    for server in ("192.0.2.20", "fd00:1::5", "[fd00:1::5]", "nas-1.example.org"):
        nfs.NFS(dataclasses.replace(place.options, settings={"server": server, "path": "/nfs"}))


@pytest.mark.parametrize("moment", ["copied", "moved", "renamed"])
def test_crash_while_restoring_leaves_the_old_or_the_new_whole(place: Place, moment: str) -> None:
    one, data = place.create()
    (data / "text").write_text("old")
    work = place.kept / f"work.{place.made._node}.{one}"
    (work / "data").mkdir(parents=True)
    (work / "data" / "text").write_text("new")
    if moment != "copied":
        data.rename(place.kept / one / "old")
    if moment == "renamed":
        (work / "data").rename(data)
    before = place.made.list()
    # Another node, which may have the volume now.
    elsewhere = nfs.NFS(dataclasses.replace(place.options, node_id="there"))
    elsewhere.start()
    assert work.exists()
    nfs.NFS(place.options).start()
    assert [*place.kept.iterdir()] == [place.kept / one]
    assert before == place.made.list() == [one]
    assert (data / "text").read_text() == ("new" if moment == "renamed" else "old")
    assert not (place.kept / one / "old").exists()


def test_a_normal_user_keeps_volumes_of_which_he_owns_nothing() -> None:
    with service_account.account(driver="osd") as account:
        kept = account.state.parent / "kept"
        kept.mkdir()
        shutil.chown(kept, account.name)

        def life() -> list[str]:
            assert os.geteuid() != 0
            runner = executor.Executor(account.helper, state_dir=str(account.state))
            directory = str(account.state / "backends" / "nfs")
            made = nfs.NFS(backend.Options("nfs", runner, directory, {"path": str(kept)}))
            path, one, two = str(account.state / "mounts" / "nfs" / "a"), *_ids()
            try:
                made.start()
                made.create(one, model.Spec())
                made.mount(one, path)
                assert made.mounted([path]) == {path}
                with pytest.raises(exceptions.Busy):
                    made.delete(one)
                made.snapshot(one, two, read_only=True)
                made.unmount(one, path)
                made.restore(one, two)
                assert made.usage(one).used < MIB
                found = made.list()
                for each in (one, two):
                    made.delete(each)
                return [str(len(found)), *made.list()]
            finally:
                runner.close()

        assert account.call(life) == ["2"]
        assert [*kept.iterdir()] == []


def _ids() -> tuple[str, str]:
    return str(uuid.uuid4()), str(uuid.uuid4())
