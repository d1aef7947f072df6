# SPDX-License-Identifier: Apache-2.0
"""Volumes with real devices and mounts: their whole life, kills at each step, many at once."""

import contextlib
import multiprocessing
import os
import pathlib
import signal
import traceback

import pytest

from container_stack.host import mounts
from container_stack.testing import btrfs_disk, privilege
from container_stack.volumes import backend, model, ownership, service, sql
from container_stack.volumes.backends import btrfs, pooled

from .. import segments

pytestmark = pytest.mark.skipif(segments.needs_root, reason="makes file systems")

MIB = 1024**2
SIZE = 320 * MIB
MANY = 100


class Host:
    """A state directory on which services come and go."""

    def __init__(self, path, make, settings=None):
        self.state = path / "state"
        self._make = make
        self._settings = settings or {}

    @contextlib.contextmanager
    def service(self, fate=None):
        """Give a service as a new daemon has it.

        :param fate: wraps what runs commands.
        """
        runner = privilege.make_executor(self.state, drivers=["osd"])
        if fate is not None:
            runner.run = fate(runner.run)
        directory = str(self.state / "backends" / "one")
        registry = sql.open(f"sqlite:///{self.state}/osd.sqlite")
        volumes = service.VolumeService(
            "one",
            self._make(backend.Options("one", runner, directory, self._settings)),
            registry,
            ownership.Alone(registry, "node-1"),
            state_dir=str(self.state),
        )
        try:
            volumes.start()
            yield volumes
            volumes.stop()
        finally:
            registry.close()
            runner.close()

    def mounted(self):
        return sorted(each.path for each in mounts.below(str(self.state / "mounts")))

    def loops(self):
        found = pathlib.Path("/sys/block").glob("loop*/loop/backing_file")
        files = [each.read_text(encoding="utf-8").strip() for each in found]
        # Of the volumes, not the file system that subvolumes lie in.
        return [
            file for file in files if file.startswith(f"{self.state}/") and "/one.img" not in file
        ]

    def empty(self):
        """End and delete everything."""
        with self.service() as volumes:
            volumes.fence()
            volumes.tick()
            for volume in sorted(volumes.list(), key=lambda each: not each.read_only):
                volumes.delete(volume.id)
            assert volumes.backend.list() == []
        assert (self.mounted(), self.loops()) == ([], [])


@pytest.fixture
def loop(tmp_path):
    made = Host(tmp_path, pooled.Loop)
    yield made
    made.empty()


@pytest.fixture
def subvolumes(tmp_path):
    made = Host(tmp_path, btrfs.Subvolumes)
    with btrfs_disk.mounted(tmp_path / "state" / "backends" / "one"):
        yield made
        made.empty()


def write(path, text):
    pathlib.Path(path, "text").write_text(text, encoding="utf-8")


def content(volumes, volume):
    path = volumes.mount(volume.id, holder="reader")
    try:
        return pathlib.Path(path, "text").read_text(encoding="utf-8")
    finally:
        volumes.unmount(volume.id, holder="reader")


def room(path):
    found = os.statvfs(path)
    return found.f_blocks * found.f_frsize


def live(host):
    with host.service() as volumes:
        made = volumes.create("one", model.Spec(size=SIZE))
        path = volumes.mount(made.id, holder="a")
        write(path, "kept")
        taken = volumes.snapshot(made.id, "then")
        write(path, "later")
        volumes.grow(made.id, 2 * SIZE)
        assert room(path) > SIZE
        clone = volumes.create("two", source=model.Source(parent=taken.id))
        assert content(volumes, clone) == "kept"
        volumes.unmount(made.id, holder="a")
        assert volumes.usage(made.id).used > 0
        volumes.restore(made.id, taken.id)
        assert content(volumes, made) == "kept"
        with pytest.raises(OSError, match="Read-only"):
            write(volumes.mount(taken.id), "never")
        volumes.unmount(taken.id)
    assert host.mounted() == []


def test_life_of_a_volume_on_a_loop_device(loop):
    live(loop)
    assert loop.loops() == []


def test_life_of_a_subvolume(subvolumes):
    live(subvolumes)


def test_what_is_mounted_outlives_the_daemon(loop):
    with loop.service() as volumes:
        made = volumes.create("one", model.Spec(size=SIZE))
        path = volumes.mount(made.id, holder="a")
        write(path, "kept")
    with loop.service() as volumes:
        assert volumes.reconcile({"container": frozenset([path])}, grace=0) == []
        assert content(volumes, made) == "kept"
        assert loop.mounted() == [path]
        assert len(volumes.reconcile({}, grace=0)) == 1
    assert (loop.mounted(), loop.loops()) == ([], [])


def test_programs_run_and_devices_dont_on_a_volume(loop):
    with loop.service() as volumes:
        made = volumes.create("one", model.Spec(size=SIZE))
        path = volumes.mount(made.id)
        flags = os.statvfs(path).f_flag
        assert flags & os.ST_NOSUID
        assert flags & os.ST_NODEV
        assert not flags & os.ST_NOEXEC


# Kills --------------------------------------------------------------------------------------


def mount(volumes):
    volumes.mount(volumes.find("one").id, holder="a")


def unmount(volumes):
    volumes.unmount(volumes.find("used").id, holder="h")


def snapshot(volumes):
    volumes.snapshot(volumes.find("used").id, "taken")


@pytest.mark.parametrize("action", [mount, unmount, snapshot])
def test_daemon_killed_at_a_command_leaves_nothing_half_done(loop, action):
    for step in range(1, 60):
        with loop.service() as volumes:
            prepare(volumes)
        died = killed_at(loop, action, step)
        with loop.service() as volumes:
            check_whole(loop, volumes)
            if not died:
                break
    assert step > 2


def prepare(volumes):
    for name in ("one", "used"):
        volumes.create(name, model.Spec(size=SIZE), exist_ok=True)
    used = volumes.find("used")
    volumes.reconcile({"container": frozenset(used.mount_paths)}, grace=0)
    if not volumes.uses(used.id):
        write(volumes.mount(used.id, holder="h"), "kept")
    for taken in volumes.list(model.Query(name="taken")):
        volumes.delete(taken.id)


def check_whole(host, volumes):
    rows = volumes.list()
    assert {row.state for row in rows} <= {model.State.AVAILABLE, model.State.ATTACHED}
    assert volumes.backend.list() == sorted(row.id for row in rows)
    paths = sorted(use.path for use in volumes.uses())
    assert host.mounted() == paths
    assert sorted(path for row in rows for path in row.mount_paths) == paths
    assert len(host.loops()) == len(paths)
    assert content(volumes, volumes.find("used")) == "kept"


def killed_at(host, action, step):
    # Not forked: the root helper's connections aren't to be shared.
    context = multiprocessing.get_context("spawn")
    child = context.Process(target=live_and_die, args=(host.state.parent, action, step))
    child.start()
    child.join(120)
    assert child.exitcode in (0, -signal.SIGKILL)
    return child.exitcode != 0


def live_and_die(path, action, steps):
    left = None

    def step():
        nonlocal left
        if left is not None:
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)

    def fate(run):
        def stepping(*args, **kwargs):
            step()
            out = run(*args, **kwargs)
            step()
            return out

        return stepping

    try:
        with Host(path, pooled.Loop).service(fate) as volumes:
            left = steps
            action(volumes)
            left = None
    except BaseException:
        traceback.print_exc()
        os._exit(1)


# Many ---------------------------------------------------------------------------------------


def test_restart_with_many_mounts_runs_no_command(subvolumes):
    with subvolumes.service() as volumes:
        paths = [
            volumes.mount(volumes.create(f"v{number}", model.Spec(size=MIB)).id, holder=f"{number}")
            for number in range(MANY)
        ]
    ran = []

    def fate(run):
        return lambda command, **values: ran.append(command.name) or run(command, **values)

    with subvolumes.service(fate) as volumes:
        started = len(ran)
        assert volumes.reconcile({"container": frozenset(paths)}, grace=0) == []
        assert len(volumes.uses()) == MANY
    assert len(ran) == started < 10
    assert len(subvolumes.mounted()) == MANY
