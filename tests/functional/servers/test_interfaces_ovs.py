# SPDX-License-Identifier: Apache-2.0
"""Servers' ports on Open vSwitch, which runs in user space here: plain, and through a bridge."""

import dataclasses
import os
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from container_stack import exceptions
from container_stack.host import containers, locks
from container_stack.rootwrap import executor
from container_stack.servers import interfaces, model
from container_stack.testing import kill_steps, privilege

from .. import segments
from . import network_host

pytestmark = [
    pytest.mark.skipif(segments.needs_root, reason="starts Open vSwitch"),
    pytest.mark.skipif(not network_host.has_switch(), reason="no Open vSwitch on this machine"),
]

Binding = model.Binding


@pytest.fixture(scope="module")
def bridge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    name = f"cst{uuid.uuid4().hex[:8]}"
    with network_host.running_switch(tmp_path_factory.mktemp("switch")):
        network_host.vsctl("add-br", name, "--", "set", "Bridge", name, "datapath_type=netdev")
        yield name
        network_host.vsctl("del-br", name)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[executor.Executor]:
    run = privilege.make_executor(tmp_path_factory.mktemp("ovs") / "state", drivers=["nova"])
    yield run
    run.close()


@pytest.fixture
def net(run: executor.Executor) -> interfaces.Interfaces:
    object_locks = locks.ObjectLocks(os.path.join(run.state_dir, "locks"))
    return interfaces.Interfaces(
        run, object_locks, directory=os.path.join(run.state_dir, "interfaces")
    )


@pytest.fixture(scope="module")
def sandboxes(
    engine: containers.Engine, busybox_image: str, test_labels: dict[str, str]
) -> Iterator[list[str]]:
    """The network namespaces of two containers."""
    made = []
    for _ in range(2):
        name, labels = f"cstest-{uuid.uuid4().hex[:12]}", dict(test_labels)
        spec = containers.ContainerSpec(
            name, busybox_image, labels=labels, init=True, network="none"
        )
        made.append(engine.run(spec))
    yield [engine.inspect(each).sandbox or "" for each in made]
    for each in made:
        engine.remove(each)


def traces(port: model.Port) -> set[str]:
    rows = network_host.vsctl("--bare", "--columns=name", "find", "Interface")
    return network_host.traces(port) | {each for each in rows.split() if port.id[:11] in each}


@pytest.mark.parametrize("binding", [Binding.OVS, Binding.OVS_HYBRID])
def test_neighbours_reach_each_other_with_whole_checksums(binding, bridge, net, sandboxes):
    segment = network_host.Segment(binding, bridge)
    ports = [segment.port(), segment.port()]
    servers = [str(uuid.uuid4()) for _ in ports]
    hybrids = [f"qbr{port.id[:11]}" for port in ports]
    for name in hybrids:
        segments.allow(["-i", name, "-o", name])
    try:
        for server_id, sandbox, port in zip(servers, sandboxes, ports, strict=True):
            net.plug(server_id, sandbox, [port])
        assert network_host.soon_reach(ports[1], sandboxes[0])
        address = network_host.addresses(ports[1])[0]
        assert network_host.transferred(sandboxes[1], address, sandboxes[0]) == 1 << 20
    finally:
        for server_id in servers:
            net.unplug_all(server_id)
        for name in hybrids:
            segments.allow(["-i", name, "-o", name], command="--delete")
    assert [traces(port) for port in ports] == [set(), set()]


@pytest.mark.parametrize(("binding", "prefix"), [(Binding.OVS, "tap"), (Binding.OVS_HYBRID, "qvo")])
def test_the_controller_is_told_whose_port_it_is(binding, prefix, bridge, net, sandboxes):
    port, server_id = network_host.Segment(binding, bridge).port(), str(uuid.uuid4())
    for _ in range(2):
        net.plug(server_id, sandboxes[0], [port])
    name = prefix + port.id[:11]
    told = network_host.vsctl("get", "Interface", name, "external_ids")
    assert f'iface-id="{port.id}"' in told
    assert f'attached-mac="{port.mac}"' in told
    assert f'vm-uuid="{server_id}"' in told
    assert "iface-status=active" in told
    assert network_host.vsctl("iface-to-br", name) == bridge
    net.unplug(server_id, [port])
    assert traces(port) == set()


def test_an_agent_finds_the_port_on_a_bridge_of_its_own(bridge, net, sandboxes):
    port, server_id = network_host.Segment(Binding.OVS_HYBRID, bridge).port(), str(uuid.uuid4())
    net.plug(server_id, sandboxes[0], [port])
    short = port.id[:11]
    on_bridge = {each.name for each in (network_host.LINKS / f"qbr{short}" / "brif").iterdir()}
    assert on_bridge == {f"tap{short}", f"qvb{short}"}
    assert (network_host.LINKS / f"qbr{short}/bridge/ageing_time").read_text() == "0\n"
    assert Path(f"/proc/sys/net/ipv6/conf/qbr{short}/disable_ipv6").read_text() == "1\n"
    for name in (f"qvb{short}", f"qvo{short}", f"tap{short}"):
        assert (network_host.LINKS / name / "mtu").read_text() == "1442\n"
    net.unplug_all(server_id)


def test_a_missing_switch_is_not_found_and_what_was_on_it_is_still_unplugged(
    bridge, net, sandboxes
):
    server_id = str(uuid.uuid4())
    for binding in (Binding.OVS, Binding.OVS_HYBRID):
        port = network_host.Segment(binding, "br-none").port()
        with pytest.raises(exceptions.NotFound, match="br-none"):
            net.plug(server_id, sandboxes[0], [port])
        net.unplug(server_id, [port])
        assert traces(port) == set()


def test_a_row_that_outlived_its_link_is_taken_again(bridge, net, sandboxes):
    port, server_id = network_host.Segment(Binding.OVS, bridge).port(), str(uuid.uuid4())
    net.plug(server_id, sandboxes[0], [port])
    segments.ip("link", "delete", f"tap{port.id[:11]}")
    net.plug(server_id, sandboxes[0], [port])
    assert "eth0" in segments.ip("link", inside=sandboxes[0])
    net.unplug_all(server_id)
    assert traces(port) == set()


def test_a_hybrid_that_is_killed_at_any_step_can_be_repeated_or_undone(bridge, net, run, sandboxes):
    port, server_id = network_host.Segment(Binding.OVS_HYBRID, bridge).port(), str(uuid.uuid4())
    changed = dataclasses.replace(port, mtu=1400)

    def plug() -> None:
        net.plug(server_id, sandboxes[0], [port])

    for step in kill_steps.kills(run, plug, every=9):
        if step % 2:
            net.plug(server_id, sandboxes[0], [changed])
        net.recover(())
        assert traces(port) == set()
    net.unplug_all(server_id)
    assert traces(port) == set()


def test_a_firewall_of_an_agent_sees_the_taps_packets(bridge, net, sandboxes):
    """Neutron's agent filters by the tap's name in FORWARD: the tap's packets must get there."""
    segment = network_host.Segment(Binding.OVS_HYBRID, bridge)
    ports, servers = [segment.port(), segment.port()], [str(uuid.uuid4()) for _ in range(2)]
    for server_id, sandbox, port in zip(servers, sandboxes, ports, strict=True):
        net.plug(server_id, sandbox, [port])
    rule = ["-m", "physdev", "--physdev-in", f"tap{ports[0].id[:11]}", "--physdev-is-bridged"]
    segments.allow(rule)
    try:
        segments.reaches(network_host.addresses(ports[1])[0], inside=sandboxes[0])
        seen = subprocess.run(
            ["iptables", "--wait", "-nvxL", "DOCKER-USER"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        lines = [line.split() for line in seen.splitlines() if ports[0].id[:11] in line]
        assert int(lines[0][0]) > 0
    finally:
        segments.allow(rule, command="--delete")
        for server_id in servers:
            net.unplug_all(server_id)
