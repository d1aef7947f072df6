# SPDX-License-Identifier: Apache-2.0
"""Servers' ports: what the kernel makes of them, and who reaches whom."""

import dataclasses
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path

import pytest

from container_stack import exceptions
from container_stack.host import containers, locks
from container_stack.rootwrap import commands, executor
from container_stack.servers import interfaces, model
from container_stack.testing import kill_steps, privilege

from .. import segments, service_account
from . import network_host

pytestmark = pytest.mark.skipif(segments.needs_root, reason="enters network namespaces")

Binding = model.Binding


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("interfaces")


@pytest.fixture(scope="module")
def run(directory: Path) -> Iterator[executor.Executor]:
    run = privilege.make_executor(directory / "state", drivers=["nova"])
    yield run
    run.close()


def make(directory: Path, run: executor.Executor, **options: bool) -> interfaces.Interfaces:
    object_locks = locks.ObjectLocks(str(directory / "locks"))
    return interfaces.Interfaces(
        run, object_locks, directory=str(directory / "interfaces"), **options
    )


@pytest.fixture
def net(directory: Path, run: executor.Executor) -> Iterator[interfaces.Interfaces]:
    """Interfaces; what a test leaves is told, and taken away."""
    made = make(directory, run)
    yield made
    left = made.recover(())
    assert not left


@dataclasses.dataclass
class Guest:
    """A server's container, with nothing but its loopback, and the server's id."""

    id: str
    container: str
    sandbox: str


@pytest.fixture(scope="module")
def guests(
    engine: containers.Engine, busybox_image: str, test_labels: dict[str, str]
) -> Iterator[tuple[Guest, ...]]:
    """Three of them, who lose their interfaces with each test."""
    made = []
    for _ in range(3):
        name = f"cstest-{uuid.uuid4().hex[:12]}"
        labels = dict(test_labels)
        container = engine.run(
            containers.ContainerSpec(name, busybox_image, labels=labels, init=True, network="none")
        )
        sandbox = engine.inspect(container).sandbox
        assert sandbox
        made.append(Guest(str(uuid.uuid4()), container, sandbox))
    yield tuple(made)
    for each in made:
        engine.remove(each.container)


Plugged = Callable[..., None]


@pytest.fixture
def plugged(net: interfaces.Interfaces) -> Iterator[Plugged]:
    """A function that plugs ports, which are unplugged when the test ends; nothing is left."""
    known: dict[str, list[model.Port]] = {}

    def plug(guest: Guest, *ports: model.Port) -> None:
        known.setdefault(guest.id, []).extend(ports)
        net.plug(guest.id, guest.sandbox, ports)

    yield plug
    for server_id, ports in known.items():
        net.unplug_all(server_id)
        assert [network_host.traces(port) for port in ports if network_host.traces(port)] == []


def tap() -> network_host.Segment:
    return network_host.Segment(Binding.TAP)


def link(guest: Guest, name: str) -> str:
    return segments.ip("-d", "address", "show", "dev", name, inside=guest.sandbox)


def routes(guest: Guest) -> str:
    parts = [segments.ip(family, "route", inside=guest.sandbox) for family in ("-4", "-6")]
    return "".join(parts)


def test_neighbours_on_a_network_reach_each_other_and_nobody_else(guests, plugged):
    here, other = tap(), tap()
    ports = [here.port(), here.port(), other.port(addresses=here.port().addresses)]
    for guest, port in zip(guests, ports, strict=True):
        plugged(guest, port)
    with network_host.admitted(here.made_bridge), network_host.admitted(other.made_bridge):
        assert network_host.soon_reach(ports[1], guests[0].sandbox)
        assert network_host.soon_reach(ports[0], guests[1].sandbox)
        assert not segments.reaches(network_host.addresses(ports[0])[0], inside=guests[2].sandbox)


def test_the_host_is_nobodys_neighbour(guests, plugged):
    address = network_host.own_address()
    segment = tap()
    plugged(guests[0], segment.port(gateways=(address,)), network_host.Segment(Binding.NOOP).port())
    assert "inet" not in segments.ip("address", "show", "dev", segment.made_bridge)
    assert not segments.reaches(address, inside=guests[0].sandbox)


def test_an_interface_is_what_its_port_says(guests, plugged):
    segment = tap()
    gateways = (segments.host(segment.subnet4, 1), segments.host(segment.subnet6, 1))
    ways = (
        model.Route("198.51.100.0/24", segments.host(segment.subnet4, 2)),
        model.Route("2001:db8:9::/48", segments.host(segment.subnet6, 2)),
        model.Route("203.0.113.0/24", "0.0.0.0"),
    )
    port = segment.port(mac="02:AB:00:00:00:07", gateways=gateways, routes=ways)
    plugged(guests[0], port)
    told = link(guests[0], "eth0")
    assert "mtu 1442" in told
    assert "link/ether 02:ab:00:00:00:07" in told
    assert all(f" {each} " in told for each in port.addresses)
    led = routes(guests[0])
    assert all(f"default via {each} dev eth0" in led for each in gateways)
    assert f"198.51.100.0/24 via {ways[0].gateway} dev eth0" in led
    assert f"2001:db8:9::/48 via {ways[1].gateway} dev eth0" in led
    assert "203.0.113.0/24 dev eth0 scope link" in led
    outer = segments.ip("-d", "link", "show", "dev", f"tap{port.id[:11]}")
    assert f"master {segment.made_bridge}" in outer
    assert "mtu 1442" in outer


def test_a_port_without_ipv6_has_none_and_one_without_addresses_has_none(guests, plugged):
    segment = tap()
    old = segment.port(addresses=(f"{segments.host(segment.subnet4, 9)}/24",), mtu=None)
    bare = segment.port(addresses=())
    plugged(guests[0], old, bare)
    assert "inet6" not in link(guests[0], "eth0")
    assert "mtu 1500" in link(guests[0], "eth0")
    assert "inet" not in link(guests[0], "eth1")


def test_names_stay_as_ports_come_and_go(guests, net, plugged):
    segment, guest = tap(), guests[0]
    ports = [segment.port(addresses=()) for _ in range(12)]
    plugged(guest, *ports)
    assert list(net.plugged(guest.id).values()) == [f"eth{number}" for number in range(12)]
    net.unplug(guest.id, [ports[1], ports[4]])
    new = segment.port(addresses=())
    plugged(guest, new)
    assert net.plugged(guest.id)[new.id] == "eth1"
    assert net.plugged(guest.id)[ports[11].id] == "eth11"
    assert net.ports(guest.id) == [ports[0], *ports[2:4], *ports[5:], new]


def test_of_several_default_routes_the_first_ports_counts(guests, net, plugged):
    first, second = tap(), tap()
    ports = [
        each.port(gateways=(segments.host(each.subnet4, 1), segments.host(each.subnet6, 1)))
        for each in (first, second)
    ]
    plugged(guests[0], *ports)
    used = segments.ip("route", "get", "192.0.2.1", inside=guests[0].sandbox)
    assert "dev eth0" in used
    net.unplug(guests[0].id, ports[:1])
    for family, far in (("-4", "192.0.2.1"), ("-6", "2001:db8::1")):
        used = segments.ip(family, "route", "get", far, inside=guests[0].sandbox)
        assert "dev eth1" in used


def test_a_port_that_is_not_bound_is_passed_over_and_noop_leads_nowhere(guests, net, plugged):
    unbound = network_host.Segment(Binding.UNBOUND).port()
    nowhere = network_host.Segment(Binding.NOOP).port()
    plugged(guests[0], unbound, nowhere)
    assert net.plugged(guests[0].id) == {nowhere.id: "eth0"}
    assert nowhere.addresses[0] in link(guests[0], "eth0")
    assert "master" not in segments.ip("link", "show", "dev", f"tap{nowhere.id[:11]}")
    outer = f"/proc/sys/net/ipv6/conf/tap{nowhere.id[:11]}/disable_ipv6"
    assert Path(outer).read_text() == "1\n"


def test_a_bridge_of_the_operators_is_joined_and_stays(name, guests, net, plugged):
    segment = network_host.Segment(Binding.BRIDGE, name[:15])
    with pytest.raises(exceptions.NotFound, match="bridge"):
        plugged(guests[0], segment.port())
    assert net.plugged(guests[0].id) == {}
    segments.ip("link", "add", "name", segment.bridge, "type", "bridge")
    segments.ip("link", "set", segment.bridge, "up")
    ports = [segment.port(), segment.port()]
    with network_host.admitted(segment.bridge):
        for guest, port in zip(guests, ports, strict=False):
            plugged(guest, port)
        assert network_host.soon_reach(ports[1], guests[0].sandbox)
        net.unplug(guests[1].id, ports[1:])
        assert not segments.reaches(network_host.addresses(ports[1])[0], inside=guests[0].sandbox)
    net.unplug_all(guests[0].id)
    segments.ip("link", "delete", segment.bridge)


def test_the_bridge_that_neutrons_agent_waits_for_is_made(guests, plugged):
    bridge = f"brq{str(uuid.uuid4())[:11]}"
    segment = network_host.Segment(Binding.BRIDGE, bridge)
    plugged(guests[0], port := segment.port())
    assert f"master {bridge}" in segments.ip("link", "show", "dev", f"tap{port.id[:11]}")
    segments.ip("link", "delete", bridge)


def test_a_bridge_of_a_network_goes_with_its_last_port(guests, net, plugged):
    segment = tap()
    bridge = network_host.LINKS / segment.made_bridge
    ports = [segment.port(), segment.port()]
    plugged(guests[0], ports[0])
    plugged(guests[1], ports[1])
    net.unplug(guests[0].id, ports[:1])
    assert bridge.exists()
    net.unplug(guests[1].id, ports[1:])
    assert not bridge.exists()


def test_a_repeated_plug_changes_nothing(guests, net, plugged):
    port = tap().port()
    plugged(guests[0], port)
    index = network_host.LINKS / f"tap{port.id[:11]}" / "ifindex"
    before = index.read_text()
    net.plug(guests[0].id, guests[0].sandbox, [port])
    assert index.read_text() == before


def test_a_port_whose_addresses_changed_is_plugged_anew(guests, net, plugged):
    segment, guest = tap(), guests[0]
    port = segment.port()
    plugged(guest, port)
    changed = dataclasses.replace(port, addresses=(f"{segments.host(segment.subnet4, 99)}/24",))
    net.plug(guest.id, guest.sandbox, [changed])
    assert f"{segments.host(segment.subnet4, 99)}/24" in link(guest, "eth0")
    assert port.addresses[0] not in link(guest, "eth0")
    moved = dataclasses.replace(changed, binding=Binding.NOOP)
    net.plug(guest.id, guest.sandbox, [moved])
    assert not (network_host.LINKS / segment.made_bridge).exists()


def test_a_plug_that_fails_halfway_leaves_what_there_was(guests, net, plugged):
    segment, guest = tap(), guests[0]
    before, good = segment.port(), segment.port()
    plugged(guest, before)
    bad = network_host.Segment(Binding.BRIDGE, "cstest-none").port()
    with pytest.raises(exceptions.NotFound, match="cstest-none"):
        net.plug(guest.id, guest.sandbox, [good, bad])
    assert net.plugged(guest.id) == {before.id: "eth0"}
    assert network_host.traces(good) == set()
    assert "eth1" not in segments.ip("link", inside=guest.sandbox)
    assert network_host.traces(before)


@pytest.mark.parametrize(
    "values",
    [
        {"mac": "01:00:5e:00:00:01"},
        {"mac": "02:00:00:00:00:01\n"},
        {"addresses": ("192.0.2.5/33",)},
        {"addresses": ("host",)},
        {"mtu": 20},
        {"device": "docker0"},
        {"device": "../eth0"},
        {"id": "../../etc"},
        {"routes": (model.Route("2001:db8::/32", "192.0.2.1"),)},
    ],
    ids=str,
)
def test_what_a_port_cannot_be_is_refused_and_nothing_is_left(values, guests, net):
    segment = tap()
    port = segment.port(**values)
    with pytest.raises(exceptions.InvalidRequest):
        net.plug(guests[0].id, guests[0].sandbox, [port])
    assert net.plugged(guests[0].id) == {}
    assert not (network_host.LINKS / segment.made_bridge).exists()
    assert "eth0" not in segments.ip("link", inside=guests[0].sandbox)


@pytest.mark.parametrize("filtered", [False, True], ids=["ours to filter", "others filter"])
def test_nobody_speaks_for_others_unless_his_mechanism_lets_him(filtered, guests, plugged):
    segment = tap()
    ports = [segment.port(filtered=filtered) for _ in range(2)]
    for guest, port in zip(guests, ports, strict=False):
        plugged(guest, port)
    own, theirs = (network_host.addresses(port)[0] for port in ports)
    said = [
        ("eth0", ports[0].mac, theirs, theirs, "another's address"),
        ("eth0", "02:00:00:00:09:09", own, theirs, "another's card"),
        ("eth0", ports[0].mac, own, theirs, "himself END"),
    ]
    with (
        network_host.admitted(segment.made_bridge),
        network_host.started(guests[1].sandbox, network_host.HEAR, "eth0") as ear,
    ):
        for words in said:
            network_host.speak(guests[0].sandbox, *words)
        heard, _ = ear.communicate(timeout=60)
    assert heard.splitlines() == (["another's address", "another's card"] if filtered else [])


@pytest.mark.parametrize("free", ["filter_taps", "filtered"])
def test_who_is_filtered_elsewhere_is_not_filtered_here(free, directory, run, guests):
    segment, guest = tap(), guests[0]
    net = make(directory, run, filter_taps=free != "filter_taps")
    port = segment.port(filtered=free == "filtered")
    net.plug(guest.id, guest.sandbox, [port])
    assert not any("cs-" in each for each in network_host.traces(port))
    net.unplug_all(guest.id)


def test_a_tap_is_left_to_an_agent_that_routes(directory, run, guests):
    segment, guest = tap(), guests[0]
    net = make(directory, run, bridge_taps=False)
    port = segment.port()
    net.plug(guest.id, guest.sandbox, [port])
    assert network_host.traces(port) == {f"tap{port.id[:11]}"}
    assert "master" not in segments.ip("link", "show", "dev", f"tap{port.id[:11]}")
    net.unplug_all(guest.id)
    assert network_host.traces(port) == set()


def test_counters_are_the_containers(guests, net, plugged):
    segment = tap()
    ports = [segment.port(), segment.port()]
    for guest, port in zip(guests, ports, strict=False):
        plugged(guest, port)
    with network_host.admitted(segment.made_bridge):
        assert network_host.soon_reach(ports[1], guests[0].sandbox)
        before = net.statistics(guests[1].id, ports[1:])[0]
        size = 1 << 20
        address = network_host.addresses(ports[1])[0]
        assert network_host.transferred(guests[1].sandbox, address, guests[0].sandbox) == size
    after = net.statistics(guests[1].id, ports[1:])[0]
    assert after.mac == ports[1].mac
    assert after.tx_bytes - before.tx_bytes >= size
    assert after.rx_bytes - before.rx_bytes < size
    assert net.statistics(guests[0].id, [segment.port()]) == []


def test_after_a_restart_it_is_plugged_again_by_its_record(
    engine, net, busybox_image, test_labels, name, guests, plugged
):
    segment = tap()
    labels = dict(test_labels)
    container = engine.run(
        containers.ContainerSpec(name, busybox_image, labels=labels, init=True, network="none")
    )
    server_id, port, neighbour = str(uuid.uuid4()), segment.port(), segment.port()
    plugged(guests[0], neighbour)
    plugged(Guest(server_id, container, engine.inspect(container).sandbox or ""), port)
    with network_host.admitted(segment.made_bridge):
        assert network_host.soon_reach(port, guests[0].sandbox)
        engine.restart(container)
        deadline = time.monotonic() + 20
        while segments.reaches(network_host.addresses(port)[0], inside=guests[0].sandbox):
            assert time.monotonic() < deadline
        sandbox = engine.inspect(container).sandbox
        assert sandbox
        net.plug(server_id, sandbox, net.ports(server_id))
        assert network_host.soon_reach(port, guests[0].sandbox)
    engine.remove(container)
    net.unplug(server_id, [port])


def test_what_servers_have_left_that_are_no_more_is_unplugged(guests, net, plugged):
    port, kept = tap().port(), tap().port()
    plugged(guests[0], port)
    plugged(guests[1], kept)
    assert net.recover({guests[1].id}) == [guests[0].id]
    assert network_host.traces(port) == set()
    assert network_host.traces(kept)


#: Commands that it takes to plug these.
STEPS = 26


def all_kinds() -> list[model.Port]:
    gateway = ("192.0.2.1",)
    segment = tap()
    return [
        segment.port(addresses=("192.0.2.5/24", "2001:db8::5/64"), gateways=gateway),
        network_host.Segment(Binding.NOOP).port(),
    ]


def test_plugging_that_fails_at_any_step_leaves_nothing(guests, net, run):
    guest, failed = guests[0], 0
    for step in range(1, STEPS + 1, 2):
        ports = all_kinds()

        def plug(ports: list[model.Port] = ports) -> None:
            net.plug(guest.id, guest.sandbox, ports)

        # A filter's steps are tried again.
        if kill_steps.fails_at(run, step, plug):
            failed += 1
            assert net.plugged(guest.id) == {}
        else:
            net.unplug_all(guest.id)
        assert [network_host.traces(each) for each in ports] == [set(), set()]
    assert failed > STEPS // 4


def test_plugging_that_is_killed_at_any_step_can_be_repeated_or_undone(guests, net, run):
    guest = guests[0]
    ports = all_kinds()
    for step in kill_steps.kills(run, lambda: net.plug(guest.id, guest.sandbox, ports), every=11):
        if step % 2:
            net.plug(guest.id, guest.sandbox, ports)
            assert list(net.plugged(guest.id).values()) == ["eth0", "eth1"]
        net.recover(())
        assert [network_host.traces(each) for each in ports] == [set(), set()]
        assert "eth" not in segments.ip("link", inside=guest.sandbox)
    net.unplug_all(guest.id)


def test_unplugging_that_is_killed_at_any_step_can_be_repeated(guests, net, run):
    guest = guests[0]
    ports = all_kinds()
    net.plug(guest.id, guest.sandbox, ports)
    for _ in kill_steps.kills(run, lambda: net.unplug_all(guest.id), every=9):
        net.unplug_all(guest.id)
        assert [network_host.traces(each) for each in ports] == [set(), set()]
        net.plug(guest.id, guest.sandbox, ports)
    assert [network_host.traces(each) for each in ports] == [set(), set()]


def test_many_ports_on_one_network_at_once(guests, net):
    segment = tap()
    servers = [(str(uuid.uuid4()), segment.port(addresses=())) for _ in range(12)]

    def there_and_back(number: int) -> None:
        server_id, port = servers[number]
        # Each in a container of three: their names differ by what is taken there.
        net.plug(guests[number % 3].id, guests[number % 3].sandbox, [port])
        net.unplug(guests[number % 3].id, [port])
        net.unplug_all(server_id)

    with futures.ThreadPoolExecutor(12) as pool:
        list(pool.map(there_and_back, range(12)))
    assert not (network_host.LINKS / segment.made_bridge).exists()
    assert [network_host.traces(port) for _, port in servers if network_host.traces(port)] == []


def test_the_rule_past_dockers_firewall_is_set_once_where_docker_has_its_chain(tmp_path):
    run = privilege.make_executor(tmp_path / "state", drivers=["nova"])
    daemon = ["ip", "netns", "exec", f"cstest-{uuid.uuid4().hex[:6]}"]
    inside = executor.Executor([*daemon, *run._helper], state_dir=run.state_dir)
    net = make(tmp_path, inside, admit_taps=True)
    segments.ip("netns", "add", daemon[-1])
    try:
        net.start()
        for program in ("iptables", "ip6tables"):
            subprocess.run([*daemon, program, "-N", "DOCKER-USER"], check=True)
        for _ in range(2):
            net.start()
        for program in (commands.ports.ADMIT_LIST4, commands.ports.ADMIT_LIST6):
            rules = inside.run(program).splitlines()
            assert len([each for each in rules if "csb+" in each and "ACCEPT" in each]) == 1
    finally:
        inside.close()
        run.close()
        segments.ip("netns", "delete", daemon[-1])


def test_a_services_own_user_needs_the_shipped_filters_and_no_more(guests):
    guest, segment = guests[0], tap()
    port = segment.port(gateways=(segments.host(segment.subnet4, 1),))
    with service_account.account(driver="nova") as account:

        def there_and_back() -> tuple[list[str], int]:
            run = executor.Executor(account.helper, state_dir=str(account.state))
            net = make(account.state, run)
            net.plug(guest.id, guest.sandbox, [port])
            names = list(net.plugged(guest.id).values())
            count = len(net.statistics(guest.id, [port]))
            net.unplug_all(guest.id)
            run.close()
            return names, count

        assert account.call(there_and_back) == (["eth0"], 1)
    assert network_host.traces(port) == set()
