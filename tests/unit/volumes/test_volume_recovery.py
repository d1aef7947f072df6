# SPDX-License-Identifier: Apache-2.0
"""A step fails, or the process is killed at it; the engine, the host or another node change."""

import concurrent.futures
import dataclasses
import json
import multiprocessing
import os
import pathlib
import signal
import sys
import threading
import time

import pytest

from container_stack import exceptions
from container_stack.host import abilities
from container_stack.volumes import backend, model, uses

from . import volume_world
from .volume_world import World

ONE = "11111111-1111-4111-8111-111111111111"
MIB = 1024**2


# Actions ------------------------------------------------------------------------------------
# Each takes what is prepared a step further; idempotent, or prepared anew each time.


def create(volumes):
    volumes.create("made", exist_ok=True)


def clone(volumes):
    source = model.Source(parent=volumes.find("one").id)
    volumes.create("made", model.Spec(size=2000 * MIB), source=source, exist_ok=True)


def snapshot(volumes):
    volumes.snapshot(volumes.find("one").id)


def delete(volumes):
    volumes.delete(volumes.find("gone").id)


def mount(volumes):
    volumes.mount(volumes.find("one").id, holder="a")


def mount_more(volumes):
    volumes.mount(volumes.find("used").id, volumes_path(volumes, "more"), holder="a")


def unmount(volumes):
    volumes.unmount(volumes.find("used").id, holder="h")


def restore(volumes):
    (taken,) = volumes.list(model.Query(name="taken"))
    volumes.restore(taken.source.parent, taken.id)


def grow(volumes):
    volumes.grow(volumes.find("one").id, 3000 * MIB)


def attach(volumes):
    volumes.attach(volumes.find("one").id)


def detach(volumes):
    volumes.detach(volumes.find("attached").id)


def make_filesystem(volumes):
    volumes.format(volumes.find("one").id, "xfs")


FILE = [create, clone, snapshot, delete, mount, mount_more, unmount, restore, grow]
BLOCK = [*FILE, attach, detach, make_filesystem]
CASES = [*(("file", action) for action in FILE), *(("block", action) for action in BLOCK)]
cases = pytest.mark.parametrize(
    ("kind", "action"), CASES, ids=[f"{kind}-{action.__name__}" for kind, action in CASES]
)


def volumes_path(volumes, name):
    used = volumes.find("used").mount_paths[0]
    return os.path.join(os.path.dirname(os.path.dirname(used)), name)


def prepare(volumes):
    """Make what the actions need and isn't there: after a kill, some of it is."""
    clear(volumes)
    for name in ("one", "gone", "used", "restored", "attached"):
        volumes.create(name, exist_ok=True)
    used = volumes.find("used").id
    if not volumes.uses(used):
        volumes.mount(used, holder="h")
    if isinstance(volumes.backend, backend.BlockBackend):
        volumes.attach(volumes.find("attached").id)
        volumes.detach(volumes.find("one").id)
    if not volumes.list(model.Query(name="taken")):
        volumes.snapshot(volumes.find("restored").id, "taken")


def clear(volumes):
    """Take away what an action made."""
    for use in volumes.uses():
        if use.holder == "a":
            volumes.unmount(use.volume_id, use.path, holder="a")
    for volume in volumes.list():
        if volume.name == "made" or (volume.is_snapshot and volume.name != "taken"):
            volumes.delete(volume.id)


# Failures -----------------------------------------------------------------------------------


class Failure:
    """Fails at one step, in the way of who takes it."""

    def __init__(self, at):
        self.left = at
        self.words = ""

    def __call__(self, words):
        self.left -= 1
        if self.left == 0:
            self.words = words
            if words.startswith("registry"):
                raise exceptions.ServiceUnavailable(words)
            raise exceptions.CommandFailed(words, 1, "the test wants it so")


@cases
def test_whichever_step_fails_nothing_is_left_half_done(tmp_path, kind, action):
    world = World(tmp_path, kind)
    volumes = world.service()
    for step in range(1, 100):
        prepare(volumes)
        world.step = failure = Failure(step)
        try:
            action(volumes)
            failed = False
        except exceptions.ContainerStackError:
            failed = True
        world.step = lambda words: None
        if failure.left > 0:
            break
        # What couldn't be undone at once is undone when the daemon gets round to it.
        volumes.tick()
        world.check_whole(volumes)
        if failed and action not in (delete, detach, unmount):
            check_unchanged(volumes, action, failure.words)
    assert step > 3
    world.close()


def check_unchanged(volumes, action, words):
    held = volume_world.held_by(volumes)
    assert held == {"h": 1}, words
    made = {"made", "snapshot"} & set(volume_world.names(volumes.list()))
    assert not made or action in (create, clone), words


def test_registry_that_fails_for_long_is_told_in_the_end(world, volumes):
    made = volumes.create("one")
    path = volumes.mount(made.id, holder="a")

    def refuse(words):
        if words.startswith("registry"):
            raise exceptions.ServiceUnavailable(words)

    world.step = refuse
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        pool.submit(volumes.tick).result(60)
    world.step = lambda words: None
    assert volumes.get(made.id).mount_paths == (path,)
    volumes.unmount(made.id, holder="a")


# Kills --------------------------------------------------------------------------------------


def live_and_die(path, kind, action, steps):
    """Take an action in this process, and die at a step."""
    world = World(path, kind)
    volumes = world.service(start=False)
    left = steps

    def step(_words):
        nonlocal left
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(event, args):
        if event in ("os.rename", "os.remove") and "/uses/" in str(args[0]):
            step(event)

    sys.addaudithook(watch)
    world.step = step
    action(volumes)


def killed_at(world, action, steps):
    # A fork must find no thread of the registry's, and nothing that SQLite has open.
    world.close()
    context = multiprocessing.get_context("fork")
    child = context.Process(target=live_and_die, args=(world.path, world.kind, action, steps))
    child.start()
    child.join(120)
    assert child.exitcode in (0, -signal.SIGKILL)
    return child.exitcode != 0


@cases
def test_whenever_it_is_killed_the_next_start_puts_things_right(tmp_path, kind, action):
    world = World(tmp_path, kind)
    for steps in range(1, 100):
        prepare(world.service())
        died = killed_at(world, action, steps)
        volumes = world.service()
        world.check_whole(volumes)
        held = volume_world.held_by(volumes)
        assert {holder: count for holder, count in held.items() if holder == "h"} in (
            {"h": 1},
            {} if action is unmount else {"h": 1},
        )
        assert held.get("a", 0) <= 1
        if not died:
            break
    assert steps > 3
    world.close()


def test_killed_call_leaves_no_lock(world):
    world.service().create("one")
    killed_at(world, mount, 5)
    volumes = world.service()
    assert volume_world.locks(pathlib.Path(world.state_dir)) == []
    volumes.mount(volumes.find("one").id)
    volumes.unmount(volumes.find("one").id)


# Restarts -----------------------------------------------------------------------------------


def test_restart_keeps_what_is_mounted(world):
    volumes = world.service()
    made = volumes.create("one")
    path = volumes.mount(made.id, holder="a")
    volumes.mount(made.id, holder="a")
    seen = []
    world.step = seen.append
    again = world.service()
    assert [step for step in seen if not step.startswith("backend start")] == []
    assert os.path.exists(path)
    assert volume_world.held_by(again) == {"a": 2}
    again.unmount(made.id, holder="a")
    again.unmount(made.id, holder="a")
    world.check_whole(again)


def reboot(world, monkeypatch):
    """Take away what a host loses, and give it another boot's name."""
    for path in world.mounted():
        os.unlink(path)
    for device in world.path.rglob("device"):
        device.unlink()
    monkeypatch.setattr(abilities, "boot_id", lambda: "another")


def test_reboot_ends_what_docker_mounts_again_and_keeps_the_rest(world, monkeypatch):
    volumes = world.service()
    one, two = volumes.create("one"), volumes.create("two")
    volumes.mount(one.id, holder="a")
    path = volumes.mount(two.id)
    volumes.mount(two.id, holder="a")
    reboot(world, monkeypatch)
    again = world.service()
    assert volume_world.held_by(again) == {"": 1}
    assert world.mounted() == []
    assert again.reconcile() == [f"two: mounted again at {path}."]
    assert again.reconcile() == []
    world.check_whole(again)
    again.unmount(two.id)
    world.check_whole(again)


def test_missing_data_are_told_of(world):
    volumes = world.service()
    made = volumes.create("one")
    os.rename(world.path / "node-1", world.path / "elsewhere")
    again = world.service()
    assert again.get(made.id).status == model.Status.NOT_PRESENT
    assert [alert.text for alert in again.alerts(made.id)] == ["Its data aren't there."]
    os.rename(world.path / "node-1", world.path / "empty")
    os.rename(world.path / "elsewhere", world.path / "node-1")
    found = world.service()
    assert found.get(made.id).status == model.Status.UP
    assert found.alerts() == []


def test_damaged_record_stops_nothing(world):
    volumes = world.service()
    made = volumes.create("one")
    directory = pathlib.Path(world.state_dir, "uses", "one")
    directory.mkdir(exist_ok=True)
    (directory / f"{made.id}.json").write_text("{", encoding="utf-8")
    again = world.service()
    assert again.uses() == []
    again.mount(made.id)
    again.unmount(made.id)
    world.check_whole(again)


def test_record_of_a_later_release_is_read(world):
    volumes = world.service()
    made = volumes.create("one")
    volumes.mount(made.id)
    path = pathlib.Path(world.state_dir, "uses", "one", f"{made.id}.json")
    record = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**record, "novelty": 1}), encoding="utf-8")
    again = world.service()
    assert volume_world.held_by(again) == {"": 1}
    again.unmount(made.id)


# Reconciling --------------------------------------------------------------------------------


def test_uses_of_the_dead_end(volumes):
    one, two = volumes.create("one"), volumes.create("two")
    first, second = volumes.mount(one.id, holder="a"), volumes.mount(two.id, holder="b")
    volumes.mount(two.id, holder="b")
    done = volumes.reconcile(volume_world.live(first), grace=0)
    assert done == [f"two: b lives no more; ended its use of {second}."]
    assert volume_world.held_by(volumes) == {"a": 1}
    assert not os.path.lexists(second)
    assert len(volumes.reconcile({}, grace=0)) == 1
    assert volumes.uses() == []


def test_use_without_an_id_outlives_all_containers(volumes):
    made = volumes.create("one")
    volumes.mount(made.id)
    assert volumes.reconcile({}, grace=0) == []
    assert volume_world.held_by(volumes) == {"": 1}
    volumes.unmount(made.id)


def test_new_use_lives_until_its_container_must_be_seen(volumes):
    made = volumes.create("one")
    volumes.mount(made.id, holder="a")
    assert volumes.reconcile({}) == []
    assert volumes.reconcile(None, grace=0) == []
    assert volume_world.held_by(volumes) == {"a": 1}
    assert volumes.reconcile({}, grace=0) != []


def test_lost_mount_is_mounted_again(world, volumes):
    made = volumes.create("one")
    path = volumes.mount(made.id, holder="a")
    os.unlink(path)
    volumes.tick()
    assert world.mounted() == [path]
    os.unlink(path)
    world.step = Failure(1)
    (said,) = volumes.reconcile(volume_world.live(path))
    assert "couldn't be mounted again" in said
    world.step = lambda words: None
    assert volumes.reconcile(volume_world.live(path)) == [f"one: mounted again at {path}."]
    volumes.unmount(made.id, holder="a")


def test_lost_mount_is_seen_by_who_mounts_next(world, volumes):
    made = volumes.create("one")
    path = volumes.mount(made.id, holder="a")
    os.unlink(path)
    volumes.mount(made.id, holder="b")
    assert world.mounted() == [path]
    volumes.unmount(made.id, holder="a")
    volumes.unmount(made.id, holder="b")


def test_dead_use_that_is_busy_ends_later(world, volumes):
    made = volumes.create("one")
    path = volumes.mount(made.id, holder="a")
    volumes.backend.busy.add(path)
    assert len(volumes.reconcile({}, grace=0)) == 2
    assert world.mounted() == [path]
    volumes.backend.busy.clear()
    volumes.tick()
    assert world.mounted() == []


def test_thousand_mounts_cost_a_restart_one_look(tmp_path):
    world = World(tmp_path)
    volumes = world.service()
    first = volumes.create("one")
    path = volumes.mount(first.id, holder="a")
    multiply(world, first, path, 1000)
    paths = [path, *(f"{path}-{number}" for number in range(1000))]
    seen = []
    world.step = seen.append
    start = time.monotonic()
    again = world.service()
    looks = []
    looking = again.backend.mounted
    again.backend.mounted = lambda asked: looks.append(1) or looking(asked)
    assert again.reconcile(volume_world.live(*paths), grace=0) == []
    took = time.monotonic() - start
    assert len(again.uses()) == 1001
    assert [step for step in seen if not step.startswith("backend start")] == []
    assert len(looks) == 1
    assert took < 30
    world.close()


def multiply(world, volume, path, number):
    """Have many more volumes mounted, without the time that takes."""
    registry = world.registry()
    records = uses.Uses(os.path.join(world.state_dir, "uses", "one"))
    data = pathlib.Path(world.state_dir, "backends", "one", "volumes")
    held = records.get(volume.id)
    for each in range(number):
        volume_id = f"22222222-2222-4222-8222-{each:012x}"
        there = f"{path}-{each}"
        row = dataclasses.replace(volume, id=volume_id, name=f"one-{each}", mount_paths=(there,))
        registry.add(dataclasses.replace(row, attached_on="node-1", fence=1))
        records.put(
            dataclasses.replace(held, volume_id=volume_id, name=row.name, paths={there: {"a": 1}})
        )
        os.symlink(data / volume.id, data / volume_id)
        os.symlink(data / volume_id, there)


# Other nodes --------------------------------------------------------------------------------


def test_volume_that_another_node_took_over_ends_here(tmp_path):
    world = World(tmp_path, shared=True)
    other = world.other("node-2")
    volumes, there = world.service(), other.service()
    made = volumes.create("one")
    volumes.mount(made.id, holder="a")
    # What the cluster does with the volumes of a node that is dead.
    world.registry().release_all("node-1")
    path = there.mount(made.id)
    again = world.service()
    assert again.uses() == []
    assert world.mounted() == []
    assert there.get(made.id).mount_paths == (path,)
    there.unmount(made.id)
    world.check_whole(again)
    world.close()
    other.close()


def test_fence_ends_all_use(world, volumes):
    made = [volumes.create(name) for name in ("one", "two", "three")]
    for each in made:
        volumes.mount(each.id, holder="a")
        volumes.mount(each.id)
    if world.kind == "block":
        volumes.attach(made[0].id)

    def refuse(words):
        if words.startswith("registry"):
            raise exceptions.ServiceUnavailable(words)

    world.step = refuse
    volumes.fence()
    assert world.mounted() == []
    assert list(world.path.rglob("device")) == []
    assert volumes.uses() == []
    volumes.fence()
    world.step = lambda words: None
    volumes.tick()


def test_fence_waits_for_what_is_busy_and_for_mounts_on_their_way(world, volumes, monkeypatch):
    one, two = volumes.create("one"), volumes.create("two")
    path = volumes.mount(one.id, holder="a")
    volumes.backend.busy.add(path)
    hanging, go_on, fenced = threading.Event(), threading.Event(), threading.Event()

    def hang(words):
        if words == "backend mount":
            hanging.set()
            assert go_on.wait(60)

    def check():
        if fenced.is_set():
            raise exceptions.ServiceUnavailable("This node is fenced.")

    monkeypatch.setattr(volumes._driver.ownership, "check", check)
    world.step = hang
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        mounted = pool.submit(volumes.mount, two.id, holder="b")
        assert hanging.wait(60)
        fenced.set()
        fence = pool.submit(volumes.fence)
        with pytest.raises(concurrent.futures.TimeoutError):
            fence.result(1)
        volumes.backend.busy.clear()
        go_on.set()
        with pytest.raises(exceptions.ServiceUnavailable):
            mounted.result(60)
        fence.result(60)
    assert world.mounted() == []
    assert volumes.uses() == []
    with pytest.raises(exceptions.ServiceUnavailable):
        volumes.mount(two.id)
    fenced.clear()
    volumes.tick()
