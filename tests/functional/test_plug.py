# SPDX-License-Identifier: Apache-2.0
"""Containers plugged into a Linux bridge that somebody else made."""

import dataclasses
import os
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path

import pytest

from container_stack import exceptions
from container_stack.host import containers, plug
from container_stack.rootwrap import commands, executor
from container_stack.testing import privilege

from . import segments

pytestmark = pytest.mark.skipif(segments.needs_root, reason="makes a bridge to plug into")


@pytest.fixture
def run(tmp_path: Path) -> Iterator[executor.Executor]:
    run = privilege.make_executor(tmp_path / "state")
    yield run
    run.close()


@pytest.fixture
def plugs(run: executor.Executor) -> plug.Plugs:
    return plug.Plugs(run)


@dataclasses.dataclass(frozen=True)
class Bridge:
    """A bridge with an address of this host, through which the engine's firewall lets packets."""

    name: str
    subnet4: str
    subnet6: str

    def plug(self, number: int = 5, **values: object) -> plug.Plug:
        good = {
            "id": str(uuid.uuid4()),
            "bridge": self.name,
            "mac": f"02:00:00:00:00:{number:02x}",
            "addresses": (
                f"{segments.host(self.subnet4, number)}/24",
                f"{segments.host(self.subnet6, number)}/64",
            ),
            "gateways": (segments.host(self.subnet4, 1), segments.host(self.subnet6, 1)),
            "mtu": 1450,
        }
        return plug.Plug(**{**good, **values})  # type: ignore[arg-type]


@pytest.fixture
def bridge(name: str) -> Iterator[Bridge]:
    made = Bridge(name[:15], *segments.subnets())
    segments.ip("link", "add", made.name, "type", "bridge")
    segments.ip("link", "set", made.name, "up")
    segments.ip("address", "add", f"{segments.host(made.subnet4, 1)}/24", "dev", made.name)
    address6 = f"{segments.host(made.subnet6, 1)}/64"
    segments.ip("address", "add", address6, "dev", made.name, "nodad")
    rule = ["-i", made.name, "-o", made.name]
    segments.allow(rule)
    yield made
    segments.allow(rule, command="--delete")
    segments.ip("link", "delete", made.name)


@pytest.fixture
def start(
    engine: containers.Engine, make_spec: Callable[..., containers.ContainerSpec], name: str
) -> Iterator[Callable[[], containers.Container]]:
    """A function that starts a container with nothing but its loopback."""
    started = []

    def start() -> containers.Container:
        started.append(engine.run(make_spec(name=f"{name}-{len(started)}")))
        return engine.inspect(started[-1])

    yield start
    for each in started:
        engine.remove(each)


def outer_ends() -> set[str]:
    return {each for each in os.listdir("/sys/class/net") if each.startswith("csp")}


def addresses(one: plug.Plug) -> tuple[str, ...]:
    return tuple(text.partition("/")[0] for text in one.addresses)


def test_a_plugged_container_is_reached_and_reaches_its_neighbour(bridge, plugs, start):
    first, second = start(), start()
    here, there = bridge.plug(5), bridge.plug(6)
    plugs.plug(here, first.sandbox)
    plugs.plug(there, second.sandbox)
    for address in addresses(here):
        assert segments.soon_reaches(address), f"the host doesn't reach {address}"
        assert segments.reaches(address, inside=second.sandbox), f"nor does the neighbour {address}"
    plugs.unplug(here.id)
    plugs.unplug(there.id)
    assert not segments.reaches(addresses(here)[0])


def test_the_interface_is_what_was_asked_for(bridge, plugs, start):
    inside = start().sandbox
    wanted = bridge.plug(mac="02:AB:00:00:00:07", interface="eth3")
    plugs.plug(wanted, inside)
    link = segments.ip("-d", "address", "show", "dev", "eth3", inside=inside)
    assert "mtu 1450" in link
    assert "link/ether 02:ab:00:00:00:07" in link
    assert all(f" {text} " in link for text in wanted.addresses)
    assert "LOWER_UP" in link
    outer = segments.ip("-d", "link", "show", "dev", plug.host_interface(wanted.id))
    assert "mtu 1450" in outer
    assert f"master {bridge.name}" in outer
    routes = segments.ip("route", inside=inside) + segments.ip("-6", "route", inside=inside)
    assert all(f"default via {text} dev eth3" in routes for text in wanted.gateways)
    plugs.unplug(wanted.id)


def test_a_gateway_outside_the_subnet_is_reached_on_the_link(bridge, plugs, start):
    inside = start().sandbox
    far4, far6 = segments.subnets()
    gateways = (segments.host(far4, 1), segments.host(far6, 1))
    segments.ip("address", "add", f"{gateways[0]}/32", "dev", bridge.name)
    segments.ip("address", "add", f"{gateways[1]}/128", "dev", bridge.name, "nodad")
    wanted = bridge.plug(gateways=gateways)
    plugs.plug(wanted, inside)
    assert segments.soon_reaches(addresses(wanted)[1])
    assert all(segments.reaches(gateway, inside=inside) for gateway in gateways)
    plugs.unplug(wanted.id)


def test_without_a_gateway_there_is_no_default_route(bridge, plugs, start):
    inside = start().sandbox
    wanted = bridge.plug(gateways=())
    plugs.plug(wanted, inside)
    routes = segments.ip("route", inside=inside) + segments.ip("-6", "route", inside=inside)
    assert "default" not in routes
    plugs.unplug(wanted.id)


def test_packets_of_the_whole_mtu_pass(bridge, plugs, start):
    inside = start().sandbox
    wanted = bridge.plug(mtu=1450)
    plugs.plug(wanted, inside)
    ping = ["nsenter", f"--net={inside}", "busybox", "ping", "-c", "1", "-W", "2", "-s"]
    target = wanted.gateways[0]
    assert subprocess.run([*ping, "1422", target], capture_output=True, check=False).returncode == 0
    plugs.unplug(wanted.id)


def test_a_repeated_plug_runs_no_command_and_keeps_the_link(bridge, plugs, start):
    inside = start().sandbox
    wanted = bridge.plug()
    plugs.plug(wanted, inside)
    before = outer_index(wanted)
    deaf = plug.Plugs(executor.Executor("/bin/false"))
    deaf.plug(wanted, inside)
    assert outer_index(wanted) == before
    plugs.unplug(wanted.id)


def outer_index(one: plug.Plug) -> str:
    return Path(f"/sys/class/net/{plug.host_interface(one.id)}/ifindex").read_text()


def test_plugged_again_after_a_restart_the_container_has_its_addresses(
    engine, bridge, plugs, start
):
    container = start()
    wanted = bridge.plug()
    plugs.plug(wanted, container.sandbox)
    for restart in (engine.stop, engine.kill):
        restart(container.id)
        wait_exited(engine, container.id)
        engine.start(container.id)
        again = engine.inspect(container.id).sandbox
        assert not segments.reaches(addresses(wanted)[0])
        plugs.plug(wanted, again)
        assert all(segments.soon_reaches(address) for address in addresses(wanted))
    plugs.unplug(wanted.id)


def wait_exited(engine: containers.Engine, container: str) -> None:
    deadline = time.monotonic() + 10
    while engine.inspect(container).state != "exited":
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_plug_that_has_moved_to_another_container_leaves_the_first(bridge, plugs, start):
    first, second = start(), start()
    wanted = bridge.plug()
    plugs.plug(wanted, first.sandbox)
    plugs.plug(wanted, second.sandbox)
    assert "eth1" not in segments.ip("link", inside=first.sandbox)
    assert "eth1" in segments.ip("link", inside=second.sandbox)
    plugs.unplug(wanted.id)


def test_a_bridge_that_was_made_anew_gets_its_plugs_back(bridge, plugs, start):
    inside = start().sandbox
    wanted = bridge.plug()
    plugs.plug(wanted, inside)
    segments.ip("link", "set", plug.host_interface(wanted.id), "nomaster")
    assert not segments.reaches(addresses(wanted)[0])
    plugs.plug(wanted, inside)
    assert segments.soon_reaches(addresses(wanted)[0])
    plugs.unplug(wanted.id)


def test_unplug_is_repeatable_with_the_container_gone_too(engine, bridge, plugs, start):
    container = start()
    wanted = bridge.plug()
    plugs.unplug(wanted.id)
    plugs.plug(wanted, container.sandbox)
    plugs.unplug(wanted.id)
    plugs.unplug(wanted.id)
    plugs.plug(wanted, container.sandbox)
    engine.remove(container.id)
    plugs.unplug(wanted.id)
    assert plug.host_interface(wanted.id) not in outer_ends()


STEPS = (
    commands.networks.PLUG_ADD,
    commands.networks.PLUG_UP,
    commands.networks.PLUG_ENABLE6,
    commands.networks.PLUG_ADDRESS4,
    commands.networks.PLUG_ADDRESS6,
    commands.networks.PLUG_ROUTE,
    commands.networks.PLUG_BRIDGE,
)


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_a_step_that_fails_leaves_no_link(step, bridge, start, tmp_path):
    inside = start().sandbox
    run = privilege.make_executor(tmp_path / "broken", drivers=["manila"])
    filters = tmp_path / "broken.rootwrap" / "rootwrap.d" / "manila.filters"
    kept = [each for each in filters.read_text().splitlines() if not each.startswith(step.name)]
    filters.write_text("\n".join(kept))
    wanted = bridge.plug()
    with pytest.raises(exceptions.RootHelperUnavailable, match=step.name):
        plug.Plugs(run).plug(wanted, inside)
    run.close()
    assert plug.host_interface(wanted.id) not in outer_ends()
    assert "eth1" not in segments.ip("link", inside=inside)


def test_a_half_made_plug_is_made_again(bridge, plugs, run, start):
    inside = start().sandbox
    wanted = bridge.plug()
    run.run(
        commands.networks.PLUG_ADD,
        host=plug.host_interface(wanted.id),
        mtu=1500,
        mac=wanted.mac,
        inside="eth1",
        sandbox=inside,
    )
    plugs.plug(wanted, inside)
    assert segments.soon_reaches(addresses(wanted)[0])
    plugs.unplug(wanted.id)


def test_a_taken_interface_in_the_container_is_an_error_that_says_so(bridge, plugs, start):
    inside = start().sandbox
    plugs.plug(first := bridge.plug(5), inside)
    with pytest.raises(exceptions.CommandFailed, match=r"plug_add.*File exists"):
        plugs.plug(second := bridge.plug(6), inside)
    plugs.plug(second := dataclasses.replace(bridge.plug(6), interface="eth2"), inside)
    plugs.unplug(first.id)
    plugs.unplug(second.id)


def test_a_missing_bridge_is_not_found_and_nothing_is_made(bridge, plugs, start):
    inside, before = start().sandbox, outer_ends()
    for other in ("cstest-none", "lo", "../net/" + bridge.name, ""):
        with pytest.raises(exceptions.NotFound, match="bridge"):
            plugs.plug(bridge.plug(bridge=other), inside)
    assert outer_ends() == before


@pytest.mark.parametrize(
    "sandbox",
    ["", "/proc/1/ns/net", "/var/run/docker/netns/default", "/run/netns/x", "1"],
)
def test_a_namespace_that_is_no_containers_is_refused(sandbox, bridge, plugs):
    with pytest.raises(exceptions.InvalidRequest):
        plugs.plug(bridge.plug(), sandbox)
    assert not segments.reaches(addresses(bridge.plug())[0])


def test_a_namespace_that_is_gone_is_an_error_and_leaves_nothing(engine, bridge, plugs, start):
    container, before = start(), outer_ends()
    engine.kill(container.id)
    wait_exited(engine, container.id)
    with pytest.raises(exceptions.CommandFailed, match="plug_add"):
        plugs.plug(bridge.plug(), container.sandbox)
    assert outer_ends() == before


def test_sixteen_plugs_at_once_all_work(bridge, plugs, start):
    insides = [start().sandbox for _ in range(4)]
    wanted = [bridge.plug(10 + i, interface=f"eth{1 + i // 4}", gateways=()) for i in range(16)]
    with futures.ThreadPoolExecutor(16) as pool:
        list(pool.map(plugs.plug, wanted, insides * 4))
    assert {plug.host_interface(each.id) for each in wanted} <= outer_ends()
    with futures.ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda each: plugs.unplug(each.id), wanted))
    assert not {plug.host_interface(each.id) for each in wanted} & outer_ends()
