# SPDX-License-Identifier: Apache-2.0
"""What a driver's volumes do for those who make, mount and delete them."""

import concurrent.futures
import dataclasses
import multiprocessing
import os
import threading

import pytest

from container_stack import exceptions
from container_stack.volumes import model

from . import volume_world
from .volume_world import World

GIB = 1024**3


def write(path, text):
    with open(os.path.join(path, "text"), "w", encoding="utf-8") as file:
        file.write(text)


def read(path):
    with open(os.path.join(path, "text"), encoding="utf-8") as file:
        return file.read()


def content(volumes, volume):
    path = volumes.mount(volume.id)
    try:
        return read(path)
    finally:
        volumes.unmount(volume.id)


def new(volumes, name="one", text="kept", **fields):
    made = volumes.create(name, model.Spec(**fields))
    write(volumes.mount(made.id), text)
    volumes.unmount(made.id)
    return made


# Making -------------------------------------------------------------------------------------


def test_volume_is_as_it_was_asked_for(volumes):
    spec = model.Spec(size=3 * GIB, cos=5, labels={"tier": "gold"})
    made = volumes.create("one", spec, labels={"app": "db"})
    assert volumes.get(made.id.upper()) == volumes.find("one") == made
    assert (made.spec, made.labels, made.state) == (spec, {"app": "db"}, model.State.AVAILABLE)
    assert made.node_id == "node-1"
    assert [event.kind for event in volumes.events()] == ["create"]


@pytest.mark.parametrize("name", ["", "..", "a/b", "-a", "a\n", "a" * 129, None])
def test_odd_name_makes_nothing(volumes, name):
    with pytest.raises(exceptions.InvalidRequest):
        volumes.create(name)
    assert volumes.list() == []


@pytest.mark.parametrize("fields", [{"size": 0}, {"size": 2**63}, {"filesystem": "ntfs"}])
def test_odd_specification_makes_nothing(volumes, fields):
    with pytest.raises(exceptions.InvalidRequest):
        volumes.create("one", model.Spec(**fields))
    assert volumes.list() == []


def test_name_is_taken_once(volumes):
    made = volumes.create("one", model.Spec(size=2 * GIB))
    with pytest.raises(exceptions.AlreadyExists):
        volumes.create("one", model.Spec(size=2 * GIB))
    volumes.grow(made.id, 3 * GIB)
    assert volumes.create("one", model.Spec(size=2 * GIB), exist_ok=True).id == made.id
    with pytest.raises(exceptions.AlreadyExists):
        volumes.create("one", model.Spec(size=2 * GIB, ha_level=2), exist_ok=True)


def test_six_threads_that_create_one_volume_get_the_same(world, volumes):
    seen = []
    world.step = lambda words: seen.append(words)
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        futures = [pool.submit(volumes.create, "one", exist_ok=True) for _ in range(6)]
        made = {future.result().id for future in futures}
    assert len(made) == 1
    assert seen.count("backend create") == 1


def test_six_processes_that_create_one_volume_get_the_same(world):
    world.service()
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(6, context) as pool:
        futures = [pool.submit(create, world.path, world.kind) for _ in range(6)]
        made = {future.result() for future in futures}
    assert len(made) == 1
    world.check_whole(world.service())


def create(path, kind):
    world = World(path, kind)
    try:
        return world.service(start=False).create("one", exist_ok=True).id
    finally:
        world.close()


# Mounting -----------------------------------------------------------------------------------


def test_mount_is_where_the_name_says_and_goes_with_its_last_use(world, volumes):
    made = volumes.create("one")
    path = volumes.mount(made.id, holder="a")
    assert path == os.path.join(world.state_dir, "mounts", "one", "one")
    assert volumes.mount(made.id, holder="b") == path
    write(path, "kept")
    row = volumes.get(made.id)
    assert (row.attached_on, row.mount_paths) == ("node-1", (path,))
    volumes.unmount(made.id, holder="a")
    assert read(path) == "kept"
    volumes.unmount(made.id, holder="b")
    assert not os.path.lexists(path)
    assert volumes.uses() == []
    assert volumes.get(made.id).attached_on == ""
    assert content(volumes, made) == "kept"


def test_each_mount_of_a_holder_counts(volumes):
    # docker cp mounts, and unmounts, with the ID of the container that runs.
    made = volumes.create("one")
    path = volumes.mount(made.id, holder="a")
    volumes.mount(made.id, holder="a")
    assert [use.count for use in volumes.uses(made.id)] == [2]
    volumes.unmount(made.id, holder="a")
    assert os.path.exists(path)
    volumes.unmount(made.id, holder="a")
    assert not os.path.lexists(path)


def test_who_has_no_id_mounts_once_however_often(volumes):
    made = volumes.create("one")
    volumes.mount(made.id)
    path = volumes.mount(made.id)
    volumes.unmount(made.id)
    assert not os.path.lexists(path)
    volumes.unmount(made.id)


def test_unmount_of_another_holder_changes_nothing(volumes):
    made = volumes.create("one")
    path = volumes.mount(made.id, holder="a")
    volumes.unmount(made.id, holder="b")
    volumes.unmount(made.id)
    assert os.path.exists(path)
    volumes.unmount(made.id, holder="a")


def test_volume_is_mounted_at_several_paths(world, volumes):
    made = new(volumes)
    other = os.path.join(world.state_dir, "mounts", "other", "place")
    volumes.mount(made.id, holder="a")
    assert volumes.mount(made.id, other) == other
    assert read(other) == "kept"
    volumes.unmount(made.id, holder="a")
    assert read(other) == "kept"
    volumes.unmount(made.id, other)
    assert world.mounted() == []


ELSEWHERE = [
    "/etc",
    "relative",
    "{mounts}",
    "{mounts}/",
    "{mounts}/../escaped",
    "{mounts}/a/../../escaped",
    "{mounts}/a/./b",
    "{mounts}//a",
    "{mounts}/a\0b",
    "{mounts}/a\n",
    "{mounts}/.hidden",
    "{state}/mounts-of-mine/a",
    "{mounts}/one/another",
]


@pytest.mark.parametrize("path", ELSEWHERE)
def test_path_elsewhere_is_refused(world, volumes, path):
    made = volumes.create("one")
    mounts = os.path.join(world.state_dir, "mounts")
    with pytest.raises(exceptions.InvalidRequest):
        volumes.mount(made.id, path.format(mounts=mounts, state=world.state_dir))
    assert not os.path.exists(os.path.join(world.state_dir, "escaped"))


def test_path_through_a_symbolic_link_is_refused(world, volumes, tmp_path):
    made = volumes.create("one")
    mounts = os.path.join(world.state_dir, "mounts")
    os.mkdir(tmp_path / "target")
    os.symlink(tmp_path / "target", os.path.join(mounts, "link"))
    for path in ("link", "link/inside"):
        with pytest.raises(exceptions.InvalidRequest):
            volumes.mount(made.id, os.path.join(mounts, path))
    assert os.listdir(tmp_path / "target") == []
    os.unlink(os.path.join(mounts, "link"))


def test_path_inside_above_or_on_another_mount_is_refused(world, volumes):
    first, second = volumes.create("first"), volumes.create("second")
    mounts = os.path.join(world.state_dir, "mounts")
    volumes.mount(first.id, f"{mounts}/a/b")
    for path in ("a", "a/b", "a/b/c"):
        with pytest.raises(exceptions.Busy):
            volumes.mount(second.id, f"{mounts}/{path}")
    with pytest.raises(exceptions.InvalidRequest):
        volumes.mount(second.id, f"{mounts}/one")
    volumes.mount(second.id, f"{mounts}/a/bb")
    volumes.unmount(second.id, f"{mounts}/a/bb")
    volumes.unmount(first.id, f"{mounts}/a/b")


def test_busy_mount_stays_used(volumes):
    made = volumes.create("one")
    path = volumes.mount(made.id, holder="a")
    volumes.backend.busy.add(path)
    with pytest.raises(exceptions.Busy):
        volumes.unmount(made.id, holder="a")
    assert volume_world.held_by(volumes) == {"a": 1}
    volumes.backend.busy.clear()
    volumes.unmount(made.id, holder="a")


def test_looking_waits_for_no_mount_that_hangs(world, volumes):
    one, two = volumes.create("one"), volumes.create("two")
    hanging, go_on = threading.Event(), threading.Event()

    def hang(words):
        if words == "backend mount" and not hanging.is_set():
            hanging.set()
            assert go_on.wait(60)

    world.step = hang
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        mounted = pool.submit(volumes.mount, one.id, holder="a")
        assert hanging.wait(60)
        try:
            looks = pool.submit(
                lambda: (volumes.get(one.id), volumes.find("one"), volumes.list(), volumes.uses())
            )
            assert len(looks.result(30)[2]) == 2
            assert pool.submit(volumes.mount, two.id, holder="b").result(30)
            assert pool.submit(volumes.tick).result(30) is None
            assert not mounted.done()
        finally:
            go_on.set()
        assert mounted.result(60)
    assert volume_world.held_by(volumes) == {"a": 1, "b": 1}
    volumes.unmount(one.id, holder="a")
    volumes.unmount(two.id, holder="b")


def test_many_threads_count_right(volumes):
    made = volumes.create("one")

    def use(holder):
        for _ in range(10):
            path = volumes.mount(made.id, holder=holder)
            assert os.path.exists(path)
            volumes.unmount(made.id, holder=holder)
        volumes.mount(made.id, holder=holder)

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        list(pool.map(use, "abcdef"))
    assert volume_world.held_by(volumes) == dict.fromkeys("abcdef", 1)
    for holder in "abcdef":
        volumes.unmount(made.id, holder=holder)


def test_many_processes_count_right(world):
    volumes = world.service()
    made = volumes.create("one")
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(3, context) as pool:
        futures = [
            pool.submit(use_often, world.path, world.kind, made.id, holder) for holder in "abc"
        ]
        for future in futures:
            future.result()
    assert volume_world.held_by(volumes) == dict.fromkeys("abc", 1)
    for holder in "abc":
        volumes.unmount(made.id, holder=holder)
    world.check_whole(volumes)


def use_often(path, kind, volume_id, holder):
    world = World(path, kind)
    volumes = world.service(start=False)
    for _ in range(10):
        assert os.path.exists(volumes.mount(volume_id, holder=holder))
        volumes.unmount(volume_id, holder=holder)
    volumes.mount(volume_id, holder=holder)
    world.close()


def test_second_mount_needs_no_registry(world, volumes):
    made = volumes.create("one")
    path = volumes.mount(made.id, holder="a")

    def refuse(words):
        if words.startswith("registry"):
            raise exceptions.ServiceUnavailable(words)

    world.step = refuse
    assert volumes.mount(made.id, holder="b") == path
    volumes.unmount(made.id, holder="a")
    world.step = lambda words: None
    volumes.unmount(made.id, holder="b")


# Devices ------------------------------------------------------------------------------------


def test_file_volumes_refuse_what_is_for_devices(world, volumes):
    if world.kind == "block":
        return
    made = volumes.create("one")
    for refused in (volumes.attach, volumes.detach, volumes.format, volumes.stats):
        with pytest.raises(exceptions.NotSupported, match=r"^Operation not supported$"):
            refused(made.id)


def test_attached_volume_stays_attached_when_it_is_unmounted(world, volumes):
    if world.kind == "file":
        return
    made = volumes.create("one", model.Spec(filesystem="xfs"))
    assert made.format == ""
    device = volumes.attach(made.id)
    assert volumes.attach(made.id) == device
    row = volumes.get(made.id)
    assert (row.state, row.device_path) == (model.State.ATTACHED, device)
    assert volumes.stats(made.id).reads == 3
    volumes.format(made.id)
    assert volumes.get(made.id).format == "xfs"
    volumes.mount(made.id)
    for refused in (volumes.detach, volumes.format, volumes.delete):
        with pytest.raises(exceptions.Busy):
            refused(made.id)
    volumes.unmount(made.id)
    assert volumes.get(made.id).device_path == device
    with pytest.raises(exceptions.Busy, match=r"^Volume is attached$"):
        volumes.delete(made.id)
    volumes.detach(made.id)
    volumes.detach(made.id)
    assert volumes.get(made.id).state == model.State.AVAILABLE


def test_volume_is_formatted_once(world, volumes):
    if world.kind == "file":
        return
    made = volumes.create("one")
    volumes.format(made.id, "xfs")
    seen = []
    world.step = lambda words: seen.append(words)
    volumes.mount(made.id)
    volumes.unmount(made.id)
    assert "backend format" not in seen
    with pytest.raises(exceptions.InvalidRequest):
        volumes.format(made.id, "ext4")


# Copies -------------------------------------------------------------------------------------


def test_snapshot_keeps_what_was(volumes):
    made = new(volumes, snapshot_interval=60)
    taken = volumes.snapshot(made.id, labels={"kind": "nightly"})
    assert taken.source.parent == made.id
    assert taken.read_only
    assert (taken.spec.size, taken.spec.snapshot_interval) == (made.spec.size, 0)
    assert taken.name.startswith("one.")
    write(volumes.mount(made.id), "later")
    volumes.unmount(made.id)
    assert content(volumes, taken) == "kept"
    assert volume_world.names(volumes.list(model.Query(parents=(made.id,)))) == [taken.name]
    with pytest.raises(exceptions.AlreadyExists):
        volumes.snapshot(made.id, taken.name)


def test_volume_with_snapshots_stays_until_they_are_gone(volumes):
    made = new(volumes)
    taken = volumes.snapshot(made.id)
    with pytest.raises(exceptions.Busy, match=r"^Volume has snapshots associated$"):
        volumes.delete(made.id)
    volumes.delete(taken.id)
    volumes.delete(made.id)
    with pytest.raises(exceptions.NotFound, match=r"^Volume does not exist"):
        volumes.delete(made.id)


def test_clone_of_a_snapshot_lives_on_its_own(volumes):
    made = new(volumes, size=GIB)
    taken = volumes.snapshot(made.id)
    same = volumes.create("same", source=model.Source(parent=taken.id))
    source = model.Source(parent=made.id)
    larger = volumes.create("larger", model.Spec(size=2 * GIB), source=source)
    assert (same.spec.size, larger.spec.size) == (GIB, 2 * GIB)
    assert volumes.usage(larger.id).limit == 2 * GIB
    assert not same.read_only
    volumes.delete(taken.id)
    volumes.delete(made.id)
    assert content(volumes, same) == content(volumes, larger) == "kept"


def test_clone_of_nothing_is_refused(volumes):
    for parent in ("11111111-1111-4111-8111-111111111111", "../etc"):
        with pytest.raises(exceptions.NotFound):
            volumes.create("one", source=model.Source(parent=parent))
    assert volumes.list() == []


def test_restored_volume_is_as_it_was(volumes):
    made = new(volumes, size=GIB)
    taken = volumes.snapshot(made.id)
    volumes.grow(made.id, 2 * GIB)
    write(volumes.mount(made.id), "later")
    with pytest.raises(exceptions.Busy):
        volumes.restore(made.id, taken.id)
    volumes.unmount(made.id)
    assert volumes.restore(made.id, taken.id).spec.size == GIB
    assert content(volumes, made) == "kept"
    other = volumes.create("other")
    with pytest.raises(exceptions.InvalidRequest):
        volumes.restore(other.id, taken.id)


def test_volume_grows_and_never_shrinks(volumes):
    made = volumes.create("one", model.Spec(size=GIB))
    volumes.mount(made.id)
    assert volumes.grow(made.id, 2 * GIB).spec.size == 2 * GIB
    assert volumes.grow(made.id, 2 * GIB).spec.size == 2 * GIB
    volumes.unmount(made.id)
    for size in (GIB, 0, 2**63):
        with pytest.raises(exceptions.InvalidRequest):
            volumes.grow(made.id, size)
    assert volumes.get(made.id).spec.size == 2 * GIB


def test_labels_are_set_and_removed(volumes):
    made = volumes.create("one", labels={"a": "1", "b": "2"})
    assert volumes.set_labels(made.id, {"a": None, "c": "3"}).labels == {"b": "2", "c": "3"}
    with pytest.raises(exceptions.InvalidRequest):
        volumes.set_labels(made.id, {"": "x"})
    assert volumes.get(made.id).labels == {"b": "2", "c": "3"}


# Two hosts ----------------------------------------------------------------------------------


def test_volume_that_another_node_uses_is_left_alone(tmp_path):
    world = World(tmp_path, shared=True)
    volumes, other = world.service(), world.other("node-2")
    there = other.service()
    made = new(volumes)
    taken = volumes.snapshot(made.id)
    volumes.mount(made.id)
    for refused in (
        lambda: there.mount(made.id),
        lambda: there.delete(made.id),
        lambda: there.grow(made.id, 5 * GIB),
        lambda: there.restore(made.id, taken.id),
        lambda: there.snapshot(made.id),
    ):
        with pytest.raises(exceptions.Busy, match="node-1"):
            refused()
    assert there.uses() == []
    assert other.mounted() == []
    volumes.unmount(made.id)
    assert content(there, made) == "kept"
    world.check_whole(volumes)
    world.close()
    other.close()


def test_volume_that_only_another_node_reaches_is_refused(tmp_path):
    world = World(tmp_path)
    made = new(world.service())
    other = world.other("node-2")
    there = other.service()
    for refused in (there.mount, there.delete, there.snapshot, there.usage):
        with pytest.raises(exceptions.NotSupported, match="node-1"):
            refused(made.id)
    assert there.get(made.id).status == model.Status.UP
    world.close()
    other.close()


def test_volume_of_another_driver_is_unknown(world, volumes):
    registry = world.registry()
    made = volumes.create("one")
    registry.add(
        dataclasses.replace(
            made, id="11111111-1111-4111-8111-111111111111", driver="two", name="other"
        )
    )
    for refused in (volumes.get, volumes.mount, volumes.delete, volumes.usage):
        with pytest.raises(exceptions.NotFound):
            refused("11111111-1111-4111-8111-111111111111")
    assert volumes.alerts() == []
