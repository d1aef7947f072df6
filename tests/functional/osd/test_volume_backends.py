# SPDX-License-Identifier: Apache-2.0
"""Open Storage's backends as a service's own user runs them, with hostile tenants and crashes."""

import dataclasses
import os
import pathlib
import shutil
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator

import pytest

from container_stack import exceptions
from container_stack.host import abilities
from container_stack.rootwrap import executor
from container_stack.testing import btrfs_disk, privilege
from container_stack.volumes import backend, model
from container_stack.volumes.backends import btrfs, pooled

from .. import segments, service_account

pytestmark = pytest.mark.skipif(segments.needs_root, reason="makes file systems, and a user")

MIB = 1024**2
SIZE = 320 * MIB


def new_id() -> str:
    return str(uuid.uuid4())


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """A btrfs backend of root's, with what a tenant sees of a volume."""

    made: btrfs.Subvolumes
    options: backend.Options
    mounts: pathlib.Path

    def create(self) -> str:
        volume_id = new_id()
        self.made.create(volume_id, model.Spec(size=SIZE))
        return volume_id

    def mount(self, volume_id: str) -> pathlib.Path:
        path = self.mounts / volume_id
        self.made.mount(volume_id, str(path))
        return path

    def unmount(self, volume_id: str) -> None:
        self.made.unmount(volume_id, str(self.mounts / volume_id))

    def kept(self, *names: str) -> pathlib.Path:
        return pathlib.Path(self.options.directory, *names)


@pytest.fixture
def place(tmp_path: pathlib.Path) -> Iterator[Place]:
    state = tmp_path / "state"
    runner = privilege.make_executor(state, drivers=["osd"])
    with btrfs_disk.mounted(state / "backends" / "btrfs") as directory:
        options = backend.Options("btrfs", runner, str(directory))
        made = btrfs.Subvolumes(options)
        made.start()
        found = Place(made, options, state / "mounts" / "btrfs")
        yield found
        for volume_id in made.list():
            found.unmount(volume_id)
            made.delete(volume_id)
    runner.close()


def run(*argv: str | pathlib.Path) -> None:
    subprocess.run(argv, check=True, capture_output=True)


@pytest.fixture(scope="module")
def account() -> Iterator[service_account.Account]:
    with service_account.account(driver="osd") as made:
        yield made


def live(make: Callable[[backend.Options], backend.Backend], options: backend.Options) -> str:
    """Let a volume and a snapshot live their lives; return what was read in the end."""
    assert os.geteuid() != 0
    made = make(options)
    made.start()
    one, then, path = new_id(), new_id(), f"{options.executor.state_dir}/mounts/x/One"
    blocks = isinstance(made, backend.BlockBackend)
    made.create(one, model.Spec(size=SIZE))
    try:
        for text in ("before", "after"):
            if blocks:
                made.attach(one)
            made.mount(one, path)
            assert os.path.ismount(path), text
            assert made.usage(one).limit > SIZE // 2
            if text == "before":
                made.snapshot(one, then, read_only=True)
                made.grow(one, SIZE + 64 * MIB)
            made.unmount(one, path)
            if blocks:
                made.detach(one)
        made.restore(one, then)
        assert made.list() == sorted([one, then])
        return "lived"
    finally:
        made.unmount(one, path)
        for each in made.list():
            if blocks:
                made.detach(each)
            made.delete(each)
        assert made.list() == []
        options.executor.close()


def test_loop_volume_lives_its_life_by_a_normal_users_commands(account):
    runner = executor.Executor(account.helper, state_dir=str(account.state))
    options = backend.Options("loop", runner, f"{account.state}/backends/loop")
    assert account.call(lambda: live(pooled.Loop, options)) == "lived"


def test_subvolume_lives_its_life_by_a_normal_users_commands(account):
    runner = executor.Executor(account.helper, state_dir=str(account.state))
    with btrfs_disk.mounted(pathlib.Path(account.state.parent, "disk"), owner=account.name) as disk:
        options = backend.Options(
            "btrfs", runner, f"{account.state}/backends/btrfs", {"root_vol": str(disk)}
        )
        assert account.call(lambda: live(btrfs.Subvolumes, options)) == "lived"
        os.unlink(options.directory)


def test_normal_users_root_volume_that_is_not_his_is_named(account):
    runner = executor.Executor(account.helper, state_dir=str(account.state))

    def start(options: backend.Options) -> str:
        with pytest.raises(exceptions.HostNotReady) as caught:
            btrfs.Subvolumes(options).start()
        return str(caught.value)

    with btrfs_disk.mounted(pathlib.Path(account.state.parent, "disk")) as disk:
        directory = f"{account.state}/backends/theirs"
        options = backend.Options("theirs", runner, directory, {"root_vol": str(disk)})
        said = account.call(lambda: start(options))
        os.unlink(directory)
    assert str(disk) in said
    assert "must belong to the daemon's user" in said


def test_root_volume_that_is_not_on_btrfs_is_refused_with_a_cure(tmp_path):
    runner = privilege.make_executor(tmp_path / "state", drivers=["osd"])
    directory = str(tmp_path / "state" / "backends" / "btrfs")
    with pytest.raises(exceptions.HostNotReady, match="root_vol"):
        btrfs.Subvolumes(backend.Options("btrfs", runner, directory)).start()
    missing = backend.Options("b", runner, directory + "2", {"root_vol": str(tmp_path / "none")})
    with pytest.raises(exceptions.HostNotReady, match="none"):
        btrfs.Subvolumes(missing).start()
    relative = backend.Options("b", runner, directory + "3", {"root_vol": "../../etc"})
    with pytest.raises(exceptions.InvalidRequest, match="absolute"):
        btrfs.Subvolumes(relative)
    runner.close()


def test_directory_that_is_another_already_is_not_replaced_by_a_root_volume(place, tmp_path):
    other = dataclasses.replace(place.options, settings={"root_vol": str(tmp_path)})
    with pytest.raises(exceptions.HostNotReady, match="already"):
        btrfs.Subvolumes(other).start()


def test_programs_run_in_a_volume_but_setuid_and_devices_do_not_count(place):
    one = place.create()
    path = place.mount(one)
    script = path / "script"
    script.write_text("#!/bin/sh\necho ran\n")
    script.chmod(0o755)
    assert subprocess.run([script], check=True, capture_output=True).stdout == b"ran\n"
    options = subprocess.run(
        ["findmnt", "-no", "OPTIONS", path], check=True, capture_output=True, text=True
    ).stdout
    assert {"nosuid", "nodev", "rw"} <= set(options.strip().split(","))


def test_read_only_mount_and_read_only_snapshot_refuse_writers(place):
    one, then, path = place.create(), new_id(), place.mounts / "ro"
    place.made.mount(one, str(path), read_only=True)
    with pytest.raises(OSError, match="Read-only"):
        (path / "text").write_text("x")
    with pytest.raises(exceptions.Busy):
        place.made.mount(one, str(path))
    place.made.unmount(one, str(path))
    place.made.snapshot(one, then, read_only=True)
    place.made.mount(then, str(path))
    with pytest.raises(OSError, match="Read-only"):
        (path / "text").write_text("x")
    place.made.unmount(then, str(path))


def test_snapshot_may_take_as_much_as_its_volume(place):
    one, two = place.create(), new_id()
    place.made.snapshot(one, two, read_only=False)
    assert place.made.usage(two).limit == SIZE


def test_size_that_the_file_system_does_not_have_is_refused(place):
    one = place.create()
    with pytest.raises(exceptions.NoSpace, match="file system"):
        place.made.create(new_id(), model.Spec(size=2**50))
    with pytest.raises(exceptions.NoSpace, match="file system"):
        place.made.grow(one, 2**50)
    with pytest.raises(exceptions.InvalidRequest, match="at least"):
        place.made.create(new_id(), model.Spec(size=1))
    assert place.made.list() == [one]
    assert place.made.usage(one).limit == SIZE


def test_tenant_who_shuts_himself_in_does_not_stop_snapshots_nor_deletion(place):
    one, then = place.create(), new_id()
    path = place.mount(one)
    os.chown(path, 12345, 12345)
    path.chmod(0)
    place.made.snapshot(one, then, read_only=True)
    assert place.made.usage(one).limit == SIZE
    place.unmount(one)
    place.made.restore(one, then)
    place.made.delete(one)
    assert place.made.list() == [then]


def test_subvolumes_that_a_tenant_made_go_with_his_volume_and_no_others(place):
    one, other = place.create(), place.create()
    stranger = subprocess.run(
        ["btrfs", "inspect-internal", "rootid", place.kept("volumes", other)],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    path = place.mount(one)
    run("btrfs", "subvolume", "create", path / "a")
    run("btrfs", "subvolume", "create", path / "a" / "b c")
    mine = subprocess.run(
        ["btrfs", "inspect-internal", "rootid", path], check=True, capture_output=True, text=True
    ).stdout.strip()
    # It looks like a line that says that the other volume lies in this one.
    forged = f"x\nID {stranger} gen 1 top level {mine} path y"
    run("btrfs", "subvolume", "create", path / forged)
    (path / "link").symlink_to(place.kept("volumes", other))
    place.unmount(one)
    place.made.delete(one)
    assert place.made.list() == [other]
    left = subprocess.run(
        ["btrfs", "subvolume", "list", place.kept()], check=True, capture_output=True, text=True
    ).stdout
    assert len(left.splitlines()) == 1


TENANT = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")


def as_tenant(path: pathlib.Path, *words: str) -> int:
    """Run a command as a tenant, who has no rights, where he comes by a volume only."""
    return subprocess.run(
        [*TENANT, *words], cwd=path, check=False, capture_output=True, timeout=300
    ).returncode


def fill(path: pathlib.Path, size: int) -> int:
    """Write as a tenant until so much more is there or nothing goes in; return what is there."""
    words = ("if=/dev/urandom", "of=much", "bs=1M", "oflag=append", "conv=notrunc,fsync")
    as_tenant(path, "dd", *words, f"count={size // MIB}")
    return (path / "much").stat().st_size if (path / "much").exists() else 0


def tree(path: pathlib.Path, name: str, *options: str) -> pathlib.Path:
    """Make a subvolume as a tenant."""
    os.chown(path, 65534, 65534)
    assert as_tenant(path, "btrfs", "subvolume", "create", *options, name) == 0
    return path / name


def test_subvolumes_that_a_tenant_makes_share_the_limit_of_his_volume(place):
    one, other = place.create(), place.create()
    path, size = place.mount(one), 0
    inner = tree(path, "inner")
    place.made.watch()
    assert place.made.usage(one).limit == SIZE == place.made.usage(other).limit
    for _look in range(5):
        size = fill(inner, SIZE)
        place.made.watch()
    assert SIZE * 3 // 4 < size <= SIZE
    made = not as_tenant(inner, "btrfs", "subvolume", "create", "deep")
    place.made.watch()
    after = fill(path, SIZE) + size + (fill(inner / "deep", SIZE) if made else 0)
    assert after <= SIZE + 16 * MIB
    assert place.made.usage(one).used <= SIZE + 16 * MIB
    with pytest.raises(exceptions.InvalidRequest):
        place.made.grow(one, SIZE - 1)
    place.made.grow(one, SIZE + 64 * MIB)
    assert place.made.usage(one).limit == SIZE + 64 * MIB
    assert fill(inner, SIZE) > size
    # Whoever starts now knows the same.
    fresh = btrfs.Subvolumes(place.options)
    fresh.start()
    fresh.watch()
    assert fresh.usage(one).limit == SIZE + 64 * MIB
    for each in (inner / "deep", inner):
        if each.exists():
            run("btrfs", "subvolume", "delete", each)
    run("btrfs", "filesystem", "sync", path)
    for _look in range(3):
        fresh.watch()
    assert fresh.usage(one).limit == SIZE + 64 * MIB
    assert os.listdir(place.kept("limits")) == []
    (path / "much").unlink(missing_ok=True)
    os.sync()
    assert fill(path, SIZE) > SIZE // 2
    place.unmount(one)


def test_container_does_not_exceed_its_volumes_limit_by_subvolumes(
    place: Place, name: str, busybox_image: str
) -> None:
    one = place.create()
    path = place.mount(one)
    os.chown(path, 65534, 65534)
    tools = [f"{os.path.realpath(each)}:{each}:ro" for each in ("/usr", "/lib", "/lib64")]
    tools += [f"{os.path.realpath(str(shutil.which('btrfs')))}:/btrfs:ro", f"{path}:/data"]
    binds = [word for each in tools for word in ("-v", each)]
    # No rights are needed: who writes in a directory makes subvolumes there.
    program = (
        "sh",
        "-c",
        "for n in 1 2 3; do /btrfs subvolume create /data/$n; sleep 3; for m in 1 2 3 4 5; do"
        " dd if=/dev/zero of=/data/$n/$m bs=1M count=400; sleep 1; done; done",
    )
    rights = ("--user=65534:65534", "--cap-drop=all", "--network=none")
    with subprocess.Popen(
        ["docker", "run", "--rm", f"--name={name}", *rights, *binds, busybox_image, *program],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as container:
        while container.poll() is None:
            place.made.watch()
            time.sleep(0.1)
    os.sync()
    found = place.made.usage(one)
    assert SIZE // 2 < found.used <= found.limit == SIZE
    assert (path / "1" / "1").exists()
    place.unmount(one)


def test_tenants_subvolume_that_says_it_counts_nowhere_counts(place):
    one = place.create()
    run("btrfs", "qgroup", "create", "1/77", place.kept())
    path = place.mount(one)
    inner = tree(path, "inner", "-i", "1/77")
    place.made.watch()
    assert fill(inner, SIZE) < SIZE
    place.unmount(one)


def test_restored_or_deleted_volume_has_no_subvolumes_to_share_with(place):
    one, then = place.create(), new_id()
    place.made.snapshot(one, then, read_only=True)
    path = place.mount(one)
    tree(path, "inner")
    place.made.watch()
    assert len(os.listdir(place.kept("limits"))) == 1
    place.unmount(one)
    place.made.restore(one, then)
    assert place.made.usage(one).limit == SIZE
    place.made.watch()
    assert os.listdir(place.kept("limits")) == []
    assert place.made.usage(one).limit == SIZE
    tree(place.mount(one), "inner")
    place.made.watch()
    place.unmount(one)
    place.made.delete(one)
    place.made.watch()
    assert os.listdir(place.kept("limits")) == []


@pytest.mark.parametrize("moment", ["new", "gone", "both"])
def test_crash_while_restoring_leaves_the_old_or_the_new_whole(place, moment):
    one, then = place.create(), new_id()
    (place.mount(one) / "text").write_text("before")
    place.made.snapshot(one, then, read_only=True)
    (place.mounts / one / "text").write_text("after")
    place.unmount(one)
    top = place.kept("volumes")
    run("btrfs", "subvolume", "snapshot", top / then, top / f"new.{one}")
    if moment != "new":
        (top / one).rename(top / f"old.{one}")
    if moment == "both":
        (top / f"new.{one}").rename(top / one)
    fresh = btrfs.Subvolumes(place.options)
    fresh.start()
    assert fresh.list() == sorted([one, then])
    assert sorted(os.listdir(top)) == sorted([one, then])
    text = (place.mount(one) / "text").read_text()
    assert text == ("before" if moment == "both" else "after")


def test_crash_while_creating_leaves_nothing(place):
    one = new_id()
    run("btrfs", "subvolume", "create", place.kept("volumes", f"new.{one}"))
    assert place.made.list() == []
    place.made.create(one, model.Spec(size=SIZE))
    assert place.made.list() == [one]
    run("btrfs", "subvolume", "create", place.kept("volumes", f"new.{one}"))
    btrfs.Subvolumes(place.options).start()
    assert os.listdir(place.kept("volumes")) == [one]


def test_snapshots_travel_whole_and_as_what_changed(place, tmp_path):
    one, first, second = place.create(), new_id(), new_id()
    streams = pathlib.Path(place.options.executor.state_dir, "streams")
    path = place.mount(one)
    (path / "much").write_bytes(os.urandom(9 * MIB))
    place.made.snapshot(one, first, read_only=True)
    (path / "text").write_text("new")
    place.made.snapshot(one, second, read_only=True)
    whole, change = streams / new_id(), streams / new_id()
    place.made.send(first, str(whole))
    place.made.send(second, str(change), since=first)
    assert change.stat().st_size < MIB < whole.stat().st_size
    with pytest.raises(exceptions.AlreadyExists):
        place.made.send(first, str(whole))
    with pytest.raises(exceptions.InvalidRequest):
        place.made.send(first, "/etc/cron.d/evil")

    state = tmp_path / "there"
    runner = privilege.make_executor(state, drivers=["osd"])
    with btrfs_disk.mounted(state / "backends" / "btrfs") as directory:
        there = btrfs.Subvolumes(backend.Options("btrfs", runner, str(directory)))
        there.start()
        (state / "streams").mkdir()
        for stream, snapshot in ((whole, first), (change, second)):
            copy = state / "streams" / stream.name
            copy.write_bytes(stream.read_bytes())
            there.receive(snapshot, str(copy), SIZE)
        assert there.list() == sorted([first, second])
        assert (directory / "volumes" / second / "text").read_text() == "new"
        assert there.usage(second).limit == SIZE
        broken = state / "streams" / new_id()
        broken.write_bytes(whole.read_bytes()[: 5 * MIB])
        with pytest.raises(exceptions.InvalidRequest):
            there.receive(new_id(), str(broken), SIZE)
        assert there.list() == sorted([first, second])
        assert os.listdir(directory / "inbox") == []
        for snapshot in (first, second):
            there.delete(snapshot)
    runner.close()


class TestLoop:
    """What a pool adds."""

    @pytest.fixture
    def options(self, tmp_path: pathlib.Path) -> Iterator[backend.Options]:
        runner = privilege.make_executor(tmp_path / "state", drivers=["osd"])
        yield backend.Options("loop", runner, str(tmp_path / "state" / "backends" / "loop"))
        runner.close()

    def test_two_drivers_share_a_pool_and_see_their_own(self, options):
        one, two = pooled.Loop(options), pooled.Loop(dataclasses.replace(options, name="other"))
        mine, theirs = new_id(), new_id()
        one.create(mine, model.Spec(size=SIZE))
        two.create(theirs, model.Spec(size=SIZE))
        two.start()
        assert (one.list(), two.list()) == ([mine], [theirs])
        one.delete(mine)
        two.delete(theirs)

    def test_crash_while_restoring_leaves_one_volume_the_newer(self, options):
        made, one, then = pooled.Loop(options), new_id(), new_id()
        made.create(one, model.Spec(size=SIZE))
        made.snapshot(one, then, read_only=True)
        raw = made._storage
        raw.snapshot(then, f"{one}.r")
        raw.clone(f"{one}.r", f"{one}.r", owner="loop", labels={"turn": "1"})
        raw.deactivate(f"{one}.r")
        fresh = pooled.Loop(options)
        fresh.start()
        assert fresh.list() == sorted([one, then])
        assert [volume.id for volume in raw.list()] == sorted([f"{one}.r", then])
        assert raw.list_snapshots() == []
        fresh.restore(one, then)
        assert [volume.id for volume in raw.list()] == sorted([one, then])
        for each in (one, then):
            fresh.delete(each)

    def test_odd_settings_are_refused(self, options):
        for settings in ({"limit": "many"}, {"limit": "-1"}, {"filesystem": "minix"}):
            with pytest.raises(exceptions.InvalidRequest):
                pooled.Loop(dataclasses.replace(options, settings=settings))

    def test_full_pool_leaves_nothing(self, options):
        made = pooled.Loop(dataclasses.replace(options, settings={"limit": str(500 * MIB)}))
        one = new_id()
        made.create(one, model.Spec(size=SIZE))
        for action in (
            lambda: made.create(new_id(), model.Spec(size=SIZE)),
            lambda: made.snapshot(one, new_id(), read_only=True),
            lambda: made.grow(one, 900 * MIB),
        ):
            with pytest.raises(exceptions.NoSpace):
                action()
        assert made.list() == [one]
        made.delete(one)

    def test_device_of_before_a_restart_of_the_host_is_not_taken_for_its_own(
        self, options, monkeypatch
    ):
        made, one, two = pooled.Loop(options), new_id(), new_id()
        for each in (one, two):
            made.create(each, model.Spec(size=SIZE))
        before = made.attach(one)
        made._storage.deactivate(one)  # as the kernel does
        path = f"{options.executor.state_dir}/mounts/loop/two"
        monkeypatch.setattr(abilities, "boot_id", lambda: "another")
        assert made.attach(two) == before
        made.mount(two, path)
        assert made.usage(one).used == 0 < made.usage(two).used
        with pytest.raises(exceptions.NotSupported):
            made.stats(one)
        made.unmount(two, path)
        for each in (one, two):
            made.delete(each)
