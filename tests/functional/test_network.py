# SPDX-License-Identifier: Apache-2.0
"""The engine's networks: made once, kept while used, and closed to each other."""

import dataclasses
import ipaddress
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path

import pytest

from container_stack import exceptions
from container_stack.host import containers, locks, network
from container_stack.rootwrap import executor
from container_stack.testing import privilege

from . import segments

pytestmark = pytest.mark.skipif(segments.needs_root, reason="makes links to test with")

ENSURE = """
import sys
from container_stack.host import containers, locks, network
from container_stack.rootwrap import executor
url, directory, owner, network_id, cidr = sys.argv[1:]
networks = network.ContainerNetworks(
    containers.Engine(url), locks.ObjectLocks(directory), executor.Executor(), owner=owner
)
print("ready", flush=True)
sys.stdin.readline()
print(networks.ensure(network.NetworkSpec(network_id, (containers.Subnet(cidr),))).id)
"""


@pytest.fixture
def run(tmp_path: Path) -> Iterator[executor.Executor]:
    run = privilege.make_executor(tmp_path / "state")
    yield run
    run.close()


@pytest.fixture
def networks(
    engine: containers.Engine, run: executor.Executor, tmp_path: Path, name: str
) -> Iterator[network.ContainerNetworks]:
    made = network.ContainerNetworks(
        engine, locks.ObjectLocks(str(tmp_path / "locks")), run, owner=name
    )
    yield made
    for each in made.list():
        for container in engine.list():
            if each.name in container.addresses:
                engine.remove(container.id)
        engine.remove_network(each.id)
    assert not list((tmp_path / "locks").glob("*"))


@pytest.fixture
def stranger(
    engine: containers.Engine, run: executor.Executor, tmp_path: Path, name: str
) -> Iterator[network.ContainerNetworks]:
    """Another owner on the same host, with locks of his own."""
    made = network.ContainerNetworks(
        engine, locks.ObjectLocks(str(tmp_path / "others")), run, owner=f"{name}-stranger"
    )
    yield made
    for each in made.list():
        engine.remove_network(each.id)


def both(number: int = 1, **values: object) -> network.NetworkSpec:
    """Return a network of both families, whose gateways end in a number."""
    pools = tuple(
        containers.Subnet(cidr, segments.host(cidr, number)) for cidr in segments.subnets()
    )
    network_id = f"cstest-{uuid.uuid4().hex[:8]}"
    return network.NetworkSpec(network_id, pools, **values)  # type: ignore[arg-type]


def address(spec: network.NetworkSpec, family: int, number: int) -> str:
    return segments.host(spec.subnets[family].cidr, number)


@pytest.fixture
def join(
    engine: containers.Engine,
    networks: network.ContainerNetworks,
    make_spec: Callable[..., containers.ContainerSpec],
    name: str,
) -> Callable[..., containers.Container]:
    """A function that starts a container on a network, with addresses that end in a number."""

    def join(spec: network.NetworkSpec, number: int, *, start: bool = True) -> containers.Container:
        with networks.using(spec) as there:
            container_id = engine.create(
                make_spec(
                    name=f"{name}-{uuid.uuid4().hex[:4]}",
                    network=there.name,
                    address4=address(spec, 0, number),
                    address6=address(spec, 1, number),
                )
            )
        if start:
            engine.start(container_id)
        return engine.inspect(container_id)

    return join


def test_a_network_has_its_subnets_gateways_mtu_bridge_and_labels(networks, name):
    spec = both(254, mtu=1450)
    made = networks.ensure(spec)
    assert made.subnets == spec.subnets
    assert (made.mtu, made.internal, made.name) == (1450, False, f"cs-net-{spec.id}")
    assert made.bridge == spec.bridge
    assert len(spec.bridge) == 15
    assert made.labels == {
        "container_stack.kind": "network",
        "container_stack.owner": name,
        "container_stack.id": spec.id,
    }
    links = segments.ip("address", "show", "dev", spec.bridge)
    assert f"{address(spec, 0, 254)}/24" in links
    assert f"{address(spec, 1, 254)}/64" in links


def test_a_container_keeps_its_addresses_mtu_and_gateway_over_a_restart(engine, join):
    spec = both(254, mtu=1450)
    container = join(spec, 7)
    for _start in range(2):
        inside = engine.inspect(container.id).sandbox
        link = segments.ip("address", "show", "dev", "eth0", inside=inside)
        assert "mtu 1450" in link
        assert f"{address(spec, 0, 7)}/24" in link
        assert f"{address(spec, 1, 7)}/64" in link
        routes = segments.ip("route", inside=inside) + segments.ip("-6", "route", inside=inside)
        assert f"default via {address(spec, 0, 254)}" in routes
        assert f"default via {address(spec, 1, 254)}" in routes
        engine.stop(container.id, timeout=0)
        engine.start(container.id)


@pytest.mark.parametrize("family", [0, 1], ids=["IPv4", "IPv6"])
def test_a_network_may_have_one_family_alone(networks, family):
    spec = dataclasses.replace(both(), subnets=(both().subnets[family],))
    other = dataclasses.replace(both(), subnets=(both().subnets[family],))
    for each in (spec, other, spec):
        made = networks.ensure(each)
        assert made.subnets[-1] == each.subnets[0]
        fillers = [ipaddress.ip_network(subnet.cidr) for subnet in made.subnets[:-1]]
        assert len(fillers) == family
        assert all(filler.subnet_of(network.FILLER) for filler in fillers)
    assert networks.release(spec.id)


def test_a_repeated_ensure_returns_the_same_network(networks):
    spec = both()
    assert networks.ensure(spec) == networks.ensure(spec)
    assert [each.name for each in networks.list()] == [spec.name]


def test_another_shape_under_the_same_id_is_refused_and_nothing_changes(networks):
    spec = both(mtu=1450)
    made = networks.ensure(spec)
    for other in (
        dataclasses.replace(spec, mtu=1500),
        dataclasses.replace(spec, internal=True),
        dataclasses.replace(spec, subnets=both().subnets),
        dataclasses.replace(spec, subnets=spec.subnets[:1]),
    ):
        with pytest.raises(exceptions.AlreadyExists, match=spec.name):
            networks.ensure(other)
    assert networks.list() == [dataclasses.replace(made, containers=())]


def test_threads_that_want_one_network_get_one(networks, engine):
    spec = both()
    with futures.ThreadPoolExecutor(8) as pool:
        ids = {each.id for each in pool.map(networks.ensure, [spec] * 16)}
    assert len(ids) == 1
    assert [each.id for each in engine.list_networks() if each.name == spec.name] == list(ids)


@pytest.mark.parametrize("shared_locks", [True, False], ids=["one owner", "two owners"])
def test_processes_that_want_one_network_get_one(
    shared_locks, engine, networks, stranger, tmp_path, name
):
    spec = dataclasses.replace(both(), subnets=(containers.Subnet(segments.subnets()[0]),))
    owners = [("locks", name), ("locks", name) if shared_locks else ("others", f"{name}-stranger")]
    processes = [
        subprocess.Popen(
            [
                *(sys.executable, "-c", ENSURE, engine.connection.url, str(tmp_path / directory)),
                *(owner, spec.id, spec.subnets[0].cidr),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for directory, owner in owners * 2
    ]
    assert [each.stdout.readline() for each in processes] == ["ready\n"] * 4
    for each in processes:
        each.stdin.write("go\n")
        each.stdin.flush()
    ids = {each.communicate(timeout=30)[0].strip() for each in processes}
    assert [each.returncode for each in processes] == [0] * 4
    assert [each.id for each in engine.list_networks() if each.name == spec.name] == list(ids)


def test_a_subnet_that_another_network_has_is_refused_by_that_networks_name(networks):
    first, second = both(), both()
    networks.ensure(first)
    for family in (0, 1):
        overlapping = dataclasses.replace(second, subnets=(first.subnets[family],))
        with pytest.raises(exceptions.Busy, match=rf"{second.id} overlaps .*{first.name}"):
            networks.ensure(overlapping)
    wide = containers.Subnet(first.subnets[0].cidr.replace(".0/24", ".128/25"))
    with pytest.raises(exceptions.Busy, match=first.name):
        networks.ensure(dataclasses.replace(second, subnets=(wide,)))
    assert [each.name for each in networks.list()] == [first.name]


@pytest.mark.parametrize("family", [0, 1], ids=["IPv4", "IPv6"])
def test_a_subnet_that_the_host_is_on_is_refused_by_its_interface(networks, name, family):
    spec = both()
    with segments.Outside(name[:15]) as outside:
        taken = outside.addresses[family]
        cidr = taken[:-1] + ("/64" if ":" in taken else "0/24")
        with pytest.raises(exceptions.InvalidRequest, match=outside.name):
            networks.ensure(dataclasses.replace(spec, subnets=(containers.Subnet(cidr),)))
    assert networks.list() == []


def test_release_waits_until_no_container_is_on_it_running_or_not(engine, networks, join):
    spec = both()
    running, created = join(spec, 5), join(spec, 6, start=False)
    assert not networks.release(spec.id)
    engine.stop(running.id, timeout=0)
    engine.remove(created.id)
    assert not networks.release(spec.id)
    engine.start(running.id)
    engine.remove(running.id)
    assert networks.release(spec.id)
    assert not networks.release(spec.id)
    assert networks.list() == []
    assert networks.ensure(spec).name == spec.name


def test_a_network_is_not_released_between_its_making_and_its_first_container(
    engine, networks, join
):
    spec = both()
    with futures.ThreadPoolExecutor(4) as pool:
        releases = [pool.submit(networks.release, spec.id) for _ in range(8)]
        container = join(spec, 5)
        releases += [pool.submit(networks.release, spec.id) for _ in range(8)]
    assert not any(each.result() for each in releases[8:])
    assert engine.inspect(container.id).addresses == {
        spec.name: (address(spec, 0, 5), address(spec, 1, 5))
    }


def test_a_network_of_another_owner_is_used_and_left_to_him(networks, stranger):
    spec = both()
    made = stranger.ensure(spec)
    assert networks.ensure(spec).id == made.id
    assert not networks.release(spec.id)
    assert networks.recover() == ()
    assert networks.list() == []
    assert stranger.release(spec.id)


def test_recover_removes_networks_that_nobody_is_on(networks, join):
    used, unused = both(), both()
    join(used, 5)
    networks.ensure(unused)
    assert networks.recover() == (unused.id,)
    assert [each.name for each in networks.list()] == [used.name]


def test_a_network_that_another_left_last_goes_when_its_owner_looks_again(
    engine, networks, stranger, join
):
    spec = both()
    stranger.ensure(spec)
    guest = join(spec, 5)
    assert stranger.sweep() == ()
    engine.remove(guest.id)
    assert not networks.release(spec.id)
    assert stranger.sweep() == (spec.id,)
    assert stranger.list() == []


@pytest.mark.parametrize("internal", [False, True], ids=["plain", "internal"])
@pytest.mark.parametrize("family", [0, 1], ids=["IPv4", "IPv6"])
def test_who_reaches_a_container(join, name, internal, family):
    mine, theirs = both(internal=internal), both(internal=internal)
    server, neighbour, tenant = join(mine, 5), join(mine, 6), join(theirs, 5)
    here = address(mine, family, 5)
    with segments.Outside(name[:15]) as outside:
        assert segments.soon_reaches(here), "the host doesn't reach it"
        assert segments.reaches(here, inside=neighbour.sandbox)
        assert not segments.reaches(here, inside=tenant.sandbox), "another tenant reaches it"
        routed = not family and not internal and segments.forwards()
        assert segments.reaches(here, inside=outside.inside) == routed, "a routed client"
        out = segments.reaches(outside.addresses[family], inside=server.sandbox)
    # The engine (20.10) keeps an internal network from getting out by IPv4 alone.
    assert out != internal or family == 1


def test_the_rule_for_ipv6_stands_once_however_many_networks_there_are(networks):
    for _ in range(3):
        networks.ensure(both())
    networks.recover()
    rules = subprocess.run(
        ["ip6tables", "--wait", "-S", "FORWARD"], check=True, capture_output=True, text=True
    )
    assert rules.stdout.count("-o csn+ -m physdev") == 1


def test_an_operator_admits_routed_clients_by_a_rule_of_docker_user(join, name):
    spec = both()
    join(spec, 5)
    with segments.Outside(name[:15]) as outside:
        before = segments.reaches(address(spec, 0, 5), inside=outside.inside)
        assert before == segments.forwards()
        rule = ["-s", outside.addresses[0], "-d", spec.subnets[0].cidr]
        segments.allow(rule)
        try:
            assert segments.reaches(address(spec, 0, 5), inside=outside.inside)
        finally:
            segments.allow(rule, command="--delete")
