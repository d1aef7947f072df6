# SPDX-License-Identifier: Apache-2.0
"""Interfaces over the life of a server: from its boot to its end, and through a crash."""

import dataclasses
import uuid

import pytest

from container_stack.servers import assembly, model

from .. import segments
from . import network_host, server_host

pytestmark = pytest.mark.skipif(segments.needs_root, reason="enters network namespaces")


def sandbox(service: assembly.Service, server_id: str) -> str:
    return service.engine.inspect(service.servers.get(server_id).container_id).sandbox or ""


def boot(
    service: assembly.Service, host: server_host.Host, *ports: model.Port
) -> tuple[model.Plan, str]:
    plan = host.plan(str(uuid.uuid4()), ports=ports)
    service.servers.spawn(plan, host.image_id)
    return plan, sandbox(service, plan.id)


def test_servers_reach_each_other_from_boot_to_end(service, host):
    segment, other = (network_host.Segment(model.Binding.TAP) for _ in range(2))
    first = dataclasses.replace(segment.port(), dns=("192.0.2.53", "2001:db8::53"))
    second, late = segment.port(), other.port(dns=("192.0.2.53", "192.0.2.54"))
    with network_host.admitted(segment.made_bridge), network_host.admitted(other.made_bridge):
        here, inside = boot(service, host, first)
        there, beside = boot(service, host, second)
        assert network_host.soon_reach(second, inside)
        container = service.servers.get(here.id).container_id
        told = service.engine.exec(container, ["cat", "/etc/resolv.conf"]).stdout.decode()
        assert [line for line in told.splitlines() if line.startswith("nameserver")] == [
            "nameserver 192.0.2.53",
            "nameserver 2001:db8::53",
        ]
        service.servers.attach_port(there.id, late)
        assert late.addresses[0] in segments.ip("address", "show", "dev", "eth1", inside=beside)
        service.servers.detach_port(there.id, late.id)
        assert "eth1" not in segments.ip("link", inside=beside)
        service.servers.power_off(there.id)
        assert not segments.reaches(network_host.addresses(second)[0], inside=inside)
        service.servers.power_on(there)
        assert network_host.soon_reach(second, inside)
        service.servers.reboot(here, hard=True, timeout=0)
        assert network_host.soon_reach(first, sandbox(service, there.id))
    for plan in (here, there):
        service.servers.destroy(plan.id, ports=plan.ports)
    assert [network_host.traces(port) for port in (first, second, late)] == [set()] * 3
    assert not (network_host.LINKS / segment.made_bridge).exists()


def test_who_restarted_while_nobody_looked_is_plugged_again_at_the_next_start(service, host):
    segment = network_host.Segment(model.Binding.TAP)
    ports = [segment.port(), segment.port()]
    with network_host.admitted(segment.made_bridge):
        (here, inside), (there, _) = (boot(service, host, port) for port in ports)
        service.engine.restart(service.servers.get(there.id).container_id)
        service.servers.start()
        assert network_host.soon_reach(ports[1], inside)
    for plan in (here, there):
        service.servers.destroy(plan.id, ports=plan.ports)
    assert [network_host.traces(port) for port in ports] == [set(), set()]
