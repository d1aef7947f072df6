# SPDX-License-Identifier: Apache-2.0
"""Scheduled snapshots, measurements and alerts: what a tick does at which time."""

import datetime
import os

import pytest

from container_stack import exceptions
from container_stack.volumes import measures, model, schedules

from .volume_world import World

KIB = 1024


class Clock:
    """Ticks at moments of its own."""

    def __init__(self, volumes):
        self._volumes = volumes
        self.now = datetime.datetime.now(datetime.UTC)

    def tick(self, minutes=0.0):
        self.now += datetime.timedelta(minutes=minutes)
        self._volumes.tick()


def scheduled(volumes, volume):
    query = model.Query(parents=(volume.id,), config_labels=schedules.MARK)
    return sorted(each.name for each in volumes.list(query))


@pytest.fixture
def clock(volumes, monkeypatch):
    made = Clock(volumes)

    # Volumes are made at the clock's time, too.
    monkeypatch.setattr(volumes._driver, "now", lambda: made.now)
    return made


def test_snapshot_is_taken_when_its_time_has_come(volumes, clock):
    made = volumes.create("one", model.Spec(snapshot_interval=60), labels={"app": "db"})
    clock.tick(59)
    assert scheduled(volumes, made) == []
    clock.tick(2)
    (name,) = scheduled(volumes, made)
    assert name == f"one.{clock.now:%Y%m%dT%H%M%SZ}"
    taken = volumes.find(name)
    assert (taken.read_only, taken.labels, taken.spec.snapshot_interval) == (True, {"app": "db"}, 0)
    clock.tick(30)
    assert scheduled(volumes, made) == [name]
    clock.tick(31)
    assert len(scheduled(volumes, made)) == 2


def test_newest_are_kept_and_others_left_alone(volumes, clock):
    made = volumes.create("one", model.Spec(snapshot_interval=10, snapshot_keep=2))
    mine = volumes.snapshot(made.id, "mine")
    for _ in range(5):
        clock.tick(11)
    kept = scheduled(volumes, made)
    assert len(kept) == 2
    assert kept[-1] == f"one.{clock.now:%Y%m%dT%H%M%SZ}"
    assert volumes.find("mine") == mine


def test_mounted_snapshot_is_kept_until_it_is_free(volumes, clock):
    made = volumes.create("one", model.Spec(snapshot_interval=10, snapshot_keep=1))
    clock.tick(11)
    (old,) = scheduled(volumes, made)
    volumes.mount(volumes.find(old).id)
    clock.tick(11)
    assert len(scheduled(volumes, made)) == 2
    volumes.unmount(volumes.find(old).id)
    clock.tick(1)
    assert old not in scheduled(volumes, made)


def test_missed_snapshots_are_made_up_for_by_one(volumes, clock):
    made = volumes.create("one", model.Spec(snapshot_interval=10))
    clock.tick(1000)
    assert len(scheduled(volumes, made)) == 1


def test_clock_set_back_doesnt_stop_the_schedule(volumes, clock):
    made = volumes.create("one", model.Spec(snapshot_interval=10))
    clock.tick(11)
    clock.tick(1000)
    clock.tick(-950)
    assert len(scheduled(volumes, made)) == 3


def test_schedule_can_be_changed_and_ended(volumes, clock):
    made = volumes.create("one")
    assert volumes.set_schedule(made.id, 5, 3).spec.snapshot_interval == 5
    clock.tick(6)
    volumes.set_schedule(made.id, 0, 3)
    clock.tick(60)
    assert len(scheduled(volumes, made)) == 1
    for interval, keep in ((-1, 1), (5, 0), (10**9, 1)):
        with pytest.raises(exceptions.InvalidRequest):
            volumes.set_schedule(made.id, interval, keep)


def test_snapshot_that_fails_is_told_of_until_one_succeeds(world, volumes, clock):
    made = volumes.create("one", model.Spec(snapshot_interval=10))

    def refuse(words):
        if words == "backend snapshot":
            raise exceptions.NoSpace("full")

    world.step = refuse
    clock.tick(11)
    clock.tick(1)
    assert [alert.text for alert in volumes.alerts(made.id)] == [schedules.FAILED]
    assert "full" in {event.text for event in volumes.events(made.id)}
    world.step = lambda words: None
    clock.tick(1)
    assert volumes.alerts() == []
    assert len(scheduled(volumes, made)) == 1


def test_one_node_takes_care_of_a_volume(tmp_path, monkeypatch):
    world = World(tmp_path, shared=True)
    other = world.other("node-2")
    volumes, there = world.service(), other.service()
    made = volumes.create("one", model.Spec(snapshot_interval=10))
    later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(minutes=11)
    for each in (volumes, there):
        monkeypatch.setattr(each._driver, "now", lambda: later)
    there.tick()
    assert scheduled(volumes, made) == []
    there.mount(made.id)
    volumes.tick()
    assert scheduled(volumes, made) == []
    there.tick()
    assert len(scheduled(volumes, made)) == 1
    there.unmount(made.id)
    world.close()
    other.close()


def fill(path, size):
    with open(os.path.join(path, "data"), "wb") as file:
        file.write(bytes(size))


def test_used_volumes_are_measured_and_once_after_their_use(volumes, clock):
    made = volumes.create("one", model.Spec(size=100 * KIB))
    idle = volumes.create("idle")
    fill(volumes.mount(made.id), 30 * KIB)
    clock.tick(6)
    assert [sample.used for sample in volumes.samples(made.id)] == [30 * KIB]
    assert (volumes.get(made.id).usage, volumes.get(made.id).last_scan) == (30 * KIB, clock.now)
    clock.tick(1)
    assert len(volumes.samples(made.id)) == 1
    fill(volumes.mount(made.id), 40 * KIB)
    volumes.unmount(made.id)
    clock.tick(6)
    clock.tick(6)
    assert [sample.used for sample in volumes.samples(made.id)] == [30 * KIB, 40 * KIB]
    assert volumes.samples(idle.id) == []
    assert volumes.usage(made.id) == model.Usage(40 * KIB, 100 * KIB)


def test_many_volumes_are_measured_a_part_at_a_time(volumes, clock, monkeypatch):
    monkeypatch.setattr(measures, "AT_ONCE", 2)
    made = [volumes.create(name) for name in ("one", "two", "three")]
    for each in made:
        volumes.mount(each.id)
    counts = []
    for _ in range(3):
        clock.tick(1)
        counts.append(sum(len(volumes.samples(each.id)) for each in made))
    assert counts == [2, 3, 3]
    for each in made:
        volumes.unmount(each.id)


def test_alert_says_how_full_it_is(volumes, clock):
    made = volumes.create("one", model.Spec(size=100 * KIB))
    path = volumes.mount(made.id)
    said = []
    for used in (50, 90, 91, 99, 90, 20):
        fill(path, used * KIB)
        clock.tick(6)
        said.append([alert.text for alert in volumes.alerts()])
    (_, _, full), (_, _, filling) = measures.LEVELS
    assert said == [[], [filling], [filling], [full], [filling], []]
    volumes.unmount(made.id)


def test_alert_outlives_a_restart_and_is_raised_once(world, volumes, clock):
    made = volumes.create("one", model.Spec(size=100 * KIB))
    fill(volumes.mount(made.id), 99 * KIB)
    clock.tick(6)
    again = world.service()
    again.tick()
    assert len(again.alerts(made.id)) == 1
    fill(volumes.mount(made.id), 1)
    world.service().tick()
    assert again.alerts() == []
    volumes.unmount(made.id)


def test_tick_never_fails(world, volumes, clock):
    made = volumes.create("one", model.Spec(snapshot_interval=1))
    volumes.mount(made.id)

    def refuse(words):
        raise exceptions.ServiceUnavailable(words)

    world.step = refuse
    clock.tick(60)
    world.step = lambda words: None
    clock.tick(1)
    assert len(scheduled(volumes, made)) == 1
    volumes.unmount(made.id)
