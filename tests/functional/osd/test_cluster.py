# SPDX-License-Identifier: Apache-2.0
"""Three hosts that come apart: at no time two write, and nothing acknowledged is lost."""

import contextlib
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from . import cluster_hosts
from .cluster_hosts import LEASE, Host, Refused, World, Writer, eventually

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces of hosts need root")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with cluster_hosts.running(tmp_path_factory.mktemp("cluster")) as world:
        yield world


@pytest.fixture
def hosts(world: World) -> Iterator[list[Host]]:
    """All three, whole again, each with a daemon that is in the cluster."""
    for host in world.hosts:
        _repair(host)
    for host in world.hosts:
        eventually(lambda host=host: _serves(host), 6 * LEASE)
    yield world.hosts
    for writer in world.writers:
        writer.end()


@pytest.fixture
def volume(world: World, hosts: list[Host], request: pytest.FixtureRequest) -> Iterator[str]:
    """A volume's name; in the end its log is read."""
    with _volumes(world, hosts[0], request.node.name) as (name,):
        yield name


@pytest.fixture
def two(world: World, hosts: list[Host], request: pytest.FixtureRequest) -> Iterator[list[str]]:
    """Two of them."""
    with _volumes(world, hosts[0], request.node.name, f"{request.node.name}.2") as names:
        yield names


@contextlib.contextmanager
def _volumes(world: World, host: Host, *titles: str) -> Iterator[list[str]]:
    names = [title.replace("[", "-").replace("]", "") for title in titles]
    assert host.daemon is not None
    logs = [world.shared / host.daemon.ask("create", name) / "log" for name in names]
    first = len(world.writers)
    yield names
    writers = world.writers[first:]
    for writer in writers:
        writer.end()
    for log in logs:
        _check_log(log)
    there = {line for log in logs for line in log.read_text().splitlines()}
    for writer in writers:
        missing = [line for line in writer.acknowledged() if line not in there]
        assert not missing, f"{writer.name}: {len(missing)} lines are lost"


def _repair(host: Host, *, network: bool = True) -> None:
    if host.etcd is None:
        host.boot()
    if network:
        host.plug(up=True)
    if host.daemon is not None and not host.daemon.lives:
        host.daemon.end()
        host.daemon = None
    if host.daemon is None:
        host.start()


def _serves(host: Host) -> bool:
    assert host.daemon is not None
    try:
        host.daemon.ask("check")
    except Refused as exc:
        if exc.kind == "EOFError":
            host.start()
        return False
    return True


def _check_log(path: Path) -> None:
    """Each wrote in one piece, after the one before him had ended."""
    lines = path.read_text().splitlines()
    who = [line.split()[0] for line in lines]
    turns = [each for number, each in enumerate(who) if number == 0 or who[number - 1] != each]
    assert len(turns) == len(set(turns)), f"they wrote at the same time: {turns}"
    times = [float(line.split()[2]) for line in lines]
    assert times == sorted(times)


def _begin(host: Host, volume: str, *, contained: bool = True) -> Writer:
    assert host.daemon is not None
    writer = host.write(host.daemon.ask("mount", volume), contained=contained)
    eventually(writer.acknowledged)
    return writer


def _begin_both(host: Host, two: list[str]) -> list[Writer]:
    """Write as a process of the host's, and as a container."""
    return [_begin(host, two[0], contained=False), _begin(host, two[1], contained=True)]


def _move(host: Host, volume: str, seconds: float = 8 * LEASE) -> float:
    """Mount and write elsewhere as soon as that is allowed, and return how long that took."""
    assert host.daemon is not None
    daemon, begun = host.daemon, time.monotonic()
    while not (path := _mounted(daemon, volume)):
        assert time.monotonic() < begun + seconds
        time.sleep(0.05)
    took = time.monotonic() - begun
    writer = host.write(path, contained=True)
    eventually(lambda: len(writer.acknowledged()) > 100)
    return took


def _mounted(daemon: cluster_hosts.Daemon, volume: str) -> str:
    try:
        return str(daemon.ask("mount", volume))
    except Refused as exc:
        if exc.kind not in ("Busy", "ServiceUnavailable"):
            raise
        return ""


def test_a_host_off_the_network_stops_writing_before_another_begins(
    hosts: list[Host], two: list[str]
) -> None:
    writers = _begin_both(hosts[0], two)
    hosts[0].plug(up=False)
    took = _move(hosts[1], two[0])
    _move(hosts[2], two[1])
    assert not any(writer.lives for writer in writers)
    assert not hosts[0].mounts()
    assert took > LEASE / 2, "the lease had not ended"
    hosts[0].plug(up=True)
    eventually(lambda: _serves(hosts[0]))
    assert hosts[0].daemon is not None
    with pytest.raises(Refused, match=r"Busy: Volume is attached on host2\."):
        hosts[0].daemon.ask("mount", two[0])


def test_a_host_that_reaches_the_database_and_no_etcd_stops_writing(
    hosts: list[Host], volume: str
) -> None:
    writer = _begin(hosts[0], volume)
    for port in (2379, 2380):
        hosts[0].drop(port=port, insert=True)
    try:
        _move(hosts[2], volume)
        assert not writer.lives
    finally:
        for port in (2379, 2380):
            hosts[0].drop(port=port, insert=False)


def test_a_dead_hosts_volume_moves(hosts: list[Host], volume: str) -> None:
    _begin(hosts[2], volume)
    hosts[2].cut_power()
    took = _move(hosts[1], volume)
    assert took < 4 * LEASE


def test_a_daemon_that_is_killed_and_comes_back_disturbs_nobody(
    hosts: list[Host], volume: str
) -> None:
    writer = _begin(hosts[0], volume)
    assert hosts[0].daemon is not None
    hosts[0].daemon.end()
    daemon = hosts[0].start()
    before = len(writer.acknowledged())
    time.sleep(0.75 * LEASE)  # the guard's time would come at 0.6 of it
    assert writer.lives
    assert len(writer.acknowledged()) > before
    daemon.ask("check")
    assert daemon.ask("owner_of", volume)[0] == "host1"


def test_the_guard_ends_what_a_killed_daemon_leaves(hosts: list[Host], two: list[str]) -> None:
    writers = _begin_both(hosts[0], two)
    assert hosts[0].daemon is not None
    hosts[0].daemon.end()
    _move(hosts[1], two[0])
    _move(hosts[2], two[1])
    assert not any(writer.lives for writer in writers)
    assert not hosts[0].mounts()
    eventually(lambda: not hosts[0].processes("cluster.guard"))


def test_a_daemon_stopped_for_longer_than_its_lease_never_comes_to_itself(
    hosts: list[Host], volume: str
) -> None:
    writer = _begin(hosts[0], volume)
    assert hosts[0].daemon is not None
    hosts[0].daemon.signal(signal.SIGSTOP)
    _move(hosts[1], volume)
    assert not writer.lives
    eventually(lambda: not hosts[0].daemon.lives)


def test_a_killed_guard_is_replaced(hosts: list[Host], volume: str) -> None:
    writer = _begin(hosts[0], volume)
    killed = hosts[0].processes("cluster.guard")
    _signal(killed, signal.SIGKILL)
    eventually(lambda: {*hosts[0].processes("cluster.guard")} - {*killed}, 2 * LEASE)
    assert hosts[0].daemon is not None
    eventually(lambda: _serves(hosts[0]))
    assert writer.lives
    assert hosts[0].daemon is not None
    hosts[0].daemon.signal(signal.SIGSTOP)
    _move(hosts[1], volume)
    assert not writer.lives


def test_without_a_majority_nobody_writes(world: World, hosts: list[Host], volume: str) -> None:
    writer = _begin(hosts[0], volume)
    for host in hosts[1:]:
        host.cut_power()
    eventually(lambda: not writer.lives, 2 * LEASE)
    assert hosts[0].daemon is not None
    with pytest.raises(Refused, match="ServiceUnavailable: Node host1 may not use volumes"):
        hosts[0].daemon.ask("mount", volume)
    # Writers are killed first.
    eventually(lambda: not hosts[0].mounts())
    for host in hosts[1:]:
        _repair(host)
    _move(hosts[0], volume)


def test_a_frozen_leader_of_etcd_costs_nobody_his_lease(
    world: World, hosts: list[Host], volume: str
) -> None:
    leader = world.leader()
    assert leader is not None
    other = next(host for host in hosts if host is not leader)
    writer = _begin(other, volume)
    (etcd,) = leader.processes("etcd --name")
    os.kill(etcd, signal.SIGSTOP)
    time.sleep(1.1 * LEASE)
    os.kill(etcd, signal.SIGCONT)
    time.sleep(LEASE / 4)
    assert writer.lives


def test_a_database_gone_for_a_minute_stops_claims_only(
    world: World, hosts: list[Host], volume: str
) -> None:
    writer = _begin(hosts[0], volume)
    daemon, other = hosts[0].daemon, hosts[1].daemon
    assert daemon is not None
    assert other is not None
    world.database.freeze()
    try:
        begun = time.monotonic()
        while time.monotonic() < begun + 60:
            asked = time.monotonic()
            with pytest.raises(Refused, match="ServiceUnavailable"):
                other.ask("mount", volume)
            assert time.monotonic() < asked + 40, "claims hang"
            daemon.ask("check")
    finally:
        world.database.thaw()
    assert writer.lives
    eventually(lambda: _is_busy(other, volume))
    writer.end()
    daemon.ask("unmount", volume)
    _move(hosts[1], volume)


def _is_busy(daemon: cluster_hosts.Daemon, volume: str) -> bool:
    try:
        daemon.ask("mount", volume)
    except Refused as exc:
        return exc.kind == "Busy"
    raise AssertionError("it was mounted twice")


def test_a_wall_clock_that_jumps_changes_nothing(
    world: World, hosts: list[Host], volume: str, tmp_path: Path
) -> None:
    clock = tmp_path / "clock"
    clock.write_text("+0\n")
    assert hosts[0].daemon is not None
    hosts[0].daemon.end()
    daemon = hosts[0].start(faketime=str(clock))
    eventually(lambda: _serves(hosts[0]))
    writer = _begin(hosts[0], volume)
    for jump in ("+1d", "-1d", "+3650d"):
        before = daemon.ask("wall_clock")
        clock.write_text(f"{jump}\n")
        assert abs(daemon.ask("wall_clock") - before) > 3600
        time.sleep(LEASE / 4)  # it is renewed at a fifth
        assert writer.lives
        daemon.ask("check")
    hosts[0].plug(up=False)
    _move(hosts[1], volume)
    assert not writer.lives
    daemon.end()


def test_who_leaves_in_good_order_is_waited_for_by_nobody(hosts: list[Host], volume: str) -> None:
    writer = _begin(hosts[0], volume)
    writer.end()
    daemon = hosts[0].daemon
    assert daemon is not None
    daemon.ask("unmount", volume)
    daemon.ask("stop")
    daemon.end()
    assert _move(hosts[1], volume) < LEASE / 2
    eventually(lambda: not hosts[0].processes("cluster.guard"))


def _use(host: Host, volume: str, chance: random.Random, ended: threading.Event) -> None:
    """Have the volume, and write, whenever that is allowed, as a user would who doesn't look."""
    while not ended.is_set():
        assert host.daemon is not None
        try:
            _repair(host, network=False)
            path = host.daemon.ask("mount", volume)
        except Refused:
            ended.wait(0.3)
            continue
        writer = host.write(path, contained=chance.random() < 0.5)
        end = time.monotonic() + chance.uniform(3, LEASE)
        while writer.lives and time.monotonic() < end and not ended.is_set():
            time.sleep(0.05)
        writer.end()
        with contextlib.suppress(Refused):
            host.daemon.ask("unmount", volume)


def _trouble(world: World, host: Host, kind: str, seconds: float) -> None:
    """Let something be broken for a while."""
    daemon = host.daemon
    assert daemon is not None
    breaks = {
        "network": lambda: host.plug(up=False),
        "etcd": lambda: _signal(host.processes("etcd --name"), signal.SIGSTOP),
        "database": world.database.freeze,
        "guard": lambda: _signal(host.processes("cluster.guard"), signal.SIGKILL),
        "killed": lambda: daemon.signal(signal.SIGKILL),
        "stopped": lambda: daemon.signal(signal.SIGSTOP),
    }
    with contextlib.suppress(ProcessLookupError):
        breaks[kind]()
    time.sleep(seconds)
    host.plug(up=True)
    world.database.thaw()
    with contextlib.suppress(ProcessLookupError):
        _signal(host.processes("etcd --name"), signal.SIGCONT)
        daemon.signal(signal.SIGCONT)


def _signal(processes: list[int], number: int) -> None:
    for each in processes:
        os.kill(each, number)


@pytest.mark.parametrize("seed", [21])
def test_whatever_breaks_nobody_writes_beside_another(
    world: World, hosts: list[Host], volume: str, seed: int
) -> None:
    chance, ended = random.Random(seed), threading.Event()
    kinds = ("network", "network", "etcd", "database", "guard", "killed", "stopped")
    threads = [
        threading.Thread(target=_use, args=(host, volume, random.Random(seed), ended))
        for host in hosts
    ]
    for thread in threads:
        thread.start()
    try:
        end = time.monotonic() + 4 * LEASE
        while time.monotonic() < end:
            kind, host = chance.choice(kinds), chance.choice(hosts)
            _trouble(world, host, kind, chance.uniform(1, 1.2 * LEASE))
            time.sleep(chance.uniform(0, LEASE / 3))
    finally:
        ended.set()
        for thread in threads:
            thread.join(6 * LEASE)
    wrote = {writer.name[:5] for writer in world.writers if writer.acknowledged()}
    assert len(wrote) > 1
