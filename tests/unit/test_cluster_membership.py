# SPDX-License-Identifier: Apache-2.0
"""The record, the seat, the guard's looks, one host's lock, and what nodes say of themselves."""

import dataclasses
import datetime
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from container_stack import exceptions
from container_stack.host import abilities
from container_stack.testing import lease_contract
from container_stack.volumes import model, ownership, registry, sql
from container_stack.volumes.cluster import (
    clock,
    figures,
    guard,
    heart,
    leases,
    membership,
    opening,
    owners,
    record,
    single,
)

LATER = 1e9


@pytest.fixture
def file(tmp_path: Path) -> record.File:
    return record.File(str(tmp_path / "lease"))


@pytest.fixture
def volumes(tmp_path: Path) -> Iterator[registry.Registry]:
    opened = sql.open(f"sqlite:///{tmp_path}/osd.sqlite")
    yield opened
    opened.close()


def held(**more: object) -> record.Record:
    made = record.Record(record.Standing.HELD, abilities.boot_id(), "secret", clock.now(), LATER, 1)
    return dataclasses.replace(made, **more)  # type: ignore[arg-type]


# The record ---------------------------------------------------------------------------------


def test_what_was_written_is_read(file: record.File) -> None:
    assert not file.read().live
    file.write(held())
    assert file.read().live
    file.write(record.Record(record.Standing.LEFT, "", "", 0, 0, 0))
    assert file.read().standing is record.Standing.LEFT
    assert os.stat(os.path.join(file.directory, "record")).st_mode & 0o777 == 0o600
    assert os.stat(file.directory).st_mode & 0o777 == 0o700


def test_only_what_was_held_since_the_start_and_in_time_is_live() -> None:
    assert held().live
    assert not held(until=clock.now()).live
    assert not held(boot="another").live
    assert not held(standing=record.Standing.OUT).live


@pytest.mark.parametrize("damage", [b"", b"x", b"00000000 {}", b"\xff" * 512])
def test_what_cant_be_read_allows_nothing(file: record.File, damage: bytes) -> None:
    file.write(held())
    path = Path(file.directory, "record")
    path.write_bytes(path.read_bytes()[:20] + damage)
    assert file.read() == record.Record()


def test_writing_takes_no_more_space(file: record.File) -> None:
    sizes = set()
    for number in range(3):
        file.write(held(until=10.0 ** (5 * number)))
        sizes.add(os.stat(os.path.join(file.directory, "record")).st_size)
    assert len(sizes) == 1


# The seat, and the guard --------------------------------------------------------------------

SIT = (
    "import sys, time; from container_stack.volumes.cluster import record;"
    "record.Seat(sys.argv[1]).take(); print(flush=True); time.sleep(1e6)"
)


@pytest.fixture
def daemon(file: record.File) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has the seat."""
    process = subprocess.Popen([sys.executable, "-c", SIT, file.directory], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.read(1)
    yield process
    process.kill()
    process.wait()


class Ending:
    """Ends use that is a list."""

    def __init__(self) -> None:
        self.paths = ["/mounts/a"]
        self.fails = 0
        self.ended = 0

    def close(self) -> None:
        return

    def used(self) -> list[str]:
        return self.paths

    def end(self) -> None:
        self.fails -= 1
        if self.fails >= 0:
            raise exceptions.Busy("still used")
        self.ended += 1
        self.paths = []


def test_the_seat_is_for_one_and_tells_who(
    file: record.File, daemon: subprocess.Popen[bytes]
) -> None:
    seat = record.Seat(file.directory)
    assert seat.process() == daemon.pid
    with pytest.raises(exceptions.Busy):
        seat.take()
    daemon.kill()
    daemon.wait()
    assert seat.process() == 0
    seat.take()
    seat.leave()
    seat.leave()


def look(file: record.File, end: Ending) -> bool:
    return guard.Guard(file, record.Seat(file.directory), end).look()  # type: ignore[arg-type]


def test_while_the_lease_lasts_the_guard_does_nothing(file: record.File) -> None:
    end = Ending()
    file.write(held())
    assert look(file, end) is False
    assert end.ended == 0


def test_a_daemon_that_is_late_is_killed_before_use_is_ended(
    file: record.File, daemon: subprocess.Popen[bytes]
) -> None:
    end = Ending()
    daemon.send_signal(signal.SIGSTOP)
    file.write(held(until=clock.now(), process=daemon.pid))
    assert look(file, end) is False
    assert daemon.wait(5) == -signal.SIGKILL
    assert end.ended == 1
    assert file.read().standing is record.Standing.OUT
    assert look(file, end) is True


def test_a_daemon_that_came_since_is_not_killed(
    file: record.File, daemon: subprocess.Popen[bytes]
) -> None:
    end = Ending()
    file.write(held(until=clock.now(), process=daemon.pid + 1))
    assert look(file, end) is False
    assert daemon.poll() is None
    assert end.ended == 1
    assert look(file, end) is False, "there is a daemon to guard"


def test_a_daemon_that_came_since_and_has_the_same_number_is_not_killed(
    file: record.File, daemon: subprocess.Popen[bytes]
) -> None:
    class Seat(record.Seat):
        def process(self) -> int:
            file.write(record.Record(process=daemon.pid))
            return super().process()

    file.write(held(until=clock.now(), process=daemon.pid))
    end = Ending()
    guard.Guard(file, Seat(file.directory), end).look()  # type: ignore[arg-type]
    assert daemon.poll() is None
    assert end.ended == 1


def test_the_guard_doesnt_give_up(file: record.File) -> None:
    end = Ending()
    end.fails = 3
    file.write(held(until=clock.now()))
    for _each in range(3):
        assert look(file, end) is False
        assert file.read().standing is record.Standing.HELD
    assert look(file, end) is False
    assert file.read().standing is record.Standing.OUT


def test_what_is_mounted_without_the_right_to_it_is_ended(file: record.File) -> None:
    end = Ending()
    file.write(record.Record())
    assert look(file, end) is False
    assert end.ended == 1
    assert look(file, end) is True


def test_there_is_one_guard(file: record.File) -> None:
    assert not guard.is_there(file.directory)
    lock = guard.take(file.directory)
    assert lock is not None
    assert guard.is_there(file.directory)
    assert guard.take(file.directory, patience=0) is None
    os.close(lock)
    assert not guard.is_there(file.directory)


class Noting:
    """Notes how the node stands whenever there has to be a guard."""

    def __init__(self, file: record.File) -> None:
        self._file = file
        self.seen: list[record.Standing] = []

    def ensure(self) -> None:
        self.seen.append(self._file.read().standing)


@pytest.mark.parametrize(
    "before",
    [
        {"standing": record.Standing.LEFT},
        # He has the number of one who was late, as after a new start of a container.
        {"until": 0, "process": os.getpid()},
    ],
)
def test_who_comes_back_gives_his_guard_nobody_but_him_to_guard(
    file: record.File, before: dict[str, object]
) -> None:
    file.write(held(**before))
    end, noting = Ending(), Noting(file)
    end.paths = []
    member = membership.Membership(
        "n1",
        lease_contract.MemoryLeases(leases.Times(30)),
        file,
        noting,  # type: ignore[arg-type]
        end,  # type: ignore[arg-type]
        lambda: None,
    )
    member.start(lambda: None)
    member.check()
    member.stop(idle=True)
    assert noting.seen
    assert noting.seen[0] is record.Standing.OUT
    assert record.Standing.LEFT not in noting.seen
    assert file.read().standing is record.Standing.LEFT


def test_times_leave_room_for_each_station() -> None:
    times = leases.Times(30)
    stations = (times.request, times.renew, times.fence, times.guard, times.lasts)
    assert stations == (2, 6, 12, 18, 30)


# One host -----------------------------------------------------------------------------------


def one_host(volumes: registry.Registry, directory: Path, node_id: str = "n1") -> single.OneHost:
    place = opening.Place(node_id, str(directory))
    made = opening.open_(f"file://{directory}/locks", volumes, place)
    assert isinstance(made, single.OneHost)
    return made


def test_on_one_host_a_node_is_one_daemon(volumes: registry.Registry, tmp_path: Path) -> None:
    first = one_host(volumes, tmp_path)
    first.start(lambda: None)
    with pytest.raises(exceptions.HostNotReady, match="node n1"):
        one_host(volumes, tmp_path).start(lambda: None)
    other = one_host(volumes, tmp_path, "n2")
    other.start(lambda: None)
    other.stop()
    first.stop()
    again = one_host(volumes, tmp_path)
    again.start(lambda: None)
    again.stop()


def test_no_coordination_means_nobody_else(volumes: registry.Registry, tmp_path: Path) -> None:
    made = opening.open_("", volumes, opening.Place("n1", str(tmp_path)))
    assert type(made) is ownership.Alone


@pytest.mark.parametrize(
    "url",
    ["redis://h", "etcd3+http://", "etcd3+http://h?timeout=3", "etcd3+https://h?cert_key=/k", "x"],
)
def test_a_coordination_that_cant_be_had_is_refused(
    volumes: registry.Registry, tmp_path: Path, url: str
) -> None:
    with pytest.raises(exceptions.HostNotReady):
        opening.open_(url, volumes, opening.Place("n1", str(tmp_path)))


@pytest.mark.parametrize("lease", [0, 9.9, 3601, float("nan")])
def test_a_lease_that_leaves_no_time_is_refused(
    volumes: registry.Registry, tmp_path: Path, lease: float
) -> None:
    with pytest.raises(exceptions.HostNotReady, match="10 to 3600"):
        opening.open_("etcd3+http://h", volumes, opening.Place("n1", str(tmp_path)), lease=lease)


def test_many_hosts_are_a_cluster(volumes: registry.Registry, tmp_path: Path) -> None:
    made = opening.open_("etcd3+http://a,b:4001", volumes, opening.Place("n1", str(tmp_path)))
    assert isinstance(made, owners.Cluster)
    with pytest.raises(exceptions.ServiceUnavailable, match="hasn't joined"):
        made.check()


# What nodes say of themselves ---------------------------------------------------------------


def test_a_node_is_told_of_and_its_generation_grows(volumes: registry.Registry) -> None:
    described = figures.Figures("n1", "192.0.2.1", "198.51.100.1")
    for generation in (1, 2):
        beat = heart.Heart(volumes, described.node, lambda: {"n1"}, 60)
        beat.start(lambda: None)
        end = time.monotonic() + 20
        while not volumes.nodes() or volumes.nodes()[0].generation < generation:
            assert time.monotonic() < end
            time.sleep(0.02)
        (node,) = volumes.nodes()
        assert (node.status, node.management_ip) == (model.Status.UP, "192.0.2.1")
        beat.stop()
        (node,) = volumes.nodes()
        assert (node.status, node.generation) == (model.Status.DOWN, generation)
        assert 0 < node.memory_used < node.memory_total
        assert 0 <= node.cpu <= 100
        assert node.timestamp is not None
        assert node.timestamp.tzinfo is datetime.UTC


def test_a_node_without_a_lease_is_said_to_be_down(volumes: registry.Registry) -> None:
    for name in ("n1", "n2", "n3"):
        volumes.put_node(model.Node(name))
    beat = heart.Heart(volumes, lambda: model.Node("n1"), lambda: {"n1", "n3"}, 60)
    beat._round()
    beat._round()
    assert [str(node.status) for node in volumes.nodes()] == ["Up", "Down", "Up"]
    assert [event.node_id for event in volumes.events() if event.kind == "node_down"] == ["n2"]
