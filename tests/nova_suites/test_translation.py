# SPDX-License-Identifier: Apache-2.0
"""Nova's words as ours: ports, flavors, and what is waited for."""

import contextlib
import types
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from nova import exception, objects
from nova.network import model as network_model

from container_stack import exceptions
from container_stack.drivers.nova import gpus, limits, ports, resources, waiting
from container_stack.servers import model

IP = network_model.IP
MIB = 1024**2


def _vif(kind: str = "tap", **values: Any) -> Any:
    subnets = [
        network_model.Subnet(
            cidr=cidr,
            gateway=IP(gateway),
            ips=[network_model.FixedIP(address=own)],
            dns=[IP(dns)],
            routes=[network_model.Route(cidr=to, gateway=IP(gateway))],
        )
        for cidr, gateway, own, dns, to in (
            ("192.0.2.0/25", "192.0.2.1", "192.0.2.9", "192.0.2.53", "198.51.100.0/24"),
            ("2001:db8::/60", "2001:db8::1", "2001:db8::9", "2001:db8::53", "2001:db8:f::/64"),
        )
    ]
    network = network_model.Network(id="n", bridge="br-own", subnets=subnets, mtu=1432)
    return network_model.VIF(
        id=str(uuid.uuid4()), address="fa:16:3e:00:00:07", network=network, type=kind, **values
    )


def test_a_port_has_all_that_its_subnets_say() -> None:
    port = ports.port(_vif(devname="tap123"))
    assert (port.binding, port.device, port.mtu) == (model.Binding.TAP, "tap123", 1432)
    assert port.addresses == ("192.0.2.9/25", "2001:db8::9/60")
    assert port.gateways == ("192.0.2.1", "2001:db8::1")
    assert port.routes[0] == model.Route("198.51.100.0/24", "192.0.2.1")
    assert port.dns == ("192.0.2.53", "2001:db8::53")


@pytest.mark.parametrize(
    ("kind", "details", "binding", "bridge"),
    [
        ("ovs", {}, model.Binding.OVS, "br-own"),
        ("ovs", {"ovs_hybrid_plug": True}, model.Binding.OVS_HYBRID, "br-own"),
        ("ovs", {"bridge_name": "br-named"}, model.Binding.OVS, "br-named"),
        ("bridge", {}, model.Binding.BRIDGE, "br-own"),
        ("noop", {}, model.Binding.NOOP, ""),
        ("unbound", {}, model.Binding.UNBOUND, ""),
    ],
)
def test_a_binding_is_neutrons(
    kind: str, details: dict[str, Any], binding: model.Binding, bridge: str
) -> None:
    port = ports.port(_vif(kind, details=details))
    assert (port.binding, port.bridge) == (binding, bridge)


def test_a_binding_that_containers_cannot_have_is_named() -> None:
    with pytest.raises(exceptions.NotSupported, match="hw_veb"):
        ports.port(_vif("hw_veb"))


class VirtAPI:
    """Nova's part of a boot; one port never comes up."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []

    @contextlib.contextmanager
    def wait_for_instance_event(
        self, _instance: Any, events: list[tuple[str, str]], **_values: Any
    ) -> Iterator[None]:
        self.events = events
        yield
        raise exception.InstanceEventTimeout()


def test_a_port_that_never_comes_up_fails_the_boot() -> None:
    down, up, virtapi = _vif(active=False), _vif(active=True), VirtAPI()
    plugging = waiting.until_active(virtapi, None, [down, up])
    assert plugging is not None
    with pytest.raises(exception.VirtualInterfaceCreateException), plugging:
        pass
    assert virtapi.events == [("network-vif-plugged", down["id"])]


def test_nobody_waits_for_ports_that_are_up() -> None:
    assert waiting.until_active(VirtAPI(), None, [_vif(active=True)]) is None


def _instance(**specs: str) -> Any:
    extra = {name.replace("__", ":"): value for name, value in specs.items()}
    flavor = types.SimpleNamespace(memory_mb=96, swap=32, vcpus=3, root_gb=0)
    flavor.get = {"extra_specs": extra}.get
    return types.SimpleNamespace(flavor=flavor, numa_topology=None)


def test_a_flavor_is_a_limit() -> None:
    found = limits.limits(_instance(quota__cpu_quota="50000", docker__pids_limit="77"))
    assert (found.memory, found.swap) == (96 * MIB, 32 * MIB)
    assert (found.cpus, found.cpu_shares, found.pids, found.disk) == (0.5, 3072, 77, None)


def test_pci_devices_are_refused_with_the_way_to_have_others() -> None:
    none = objects.InstancePCIRequests(requests=[])
    for instance in (objects.Instance(), objects.Instance(pci_requests=none)):
        limits.refuse_pci(instance)
    wanted = objects.InstancePCIRequests(requests=[objects.InstancePCIRequest(count=1)])
    with pytest.raises(exceptions.InvalidRequest, match="resources:PGPU"):
        limits.refuse_pci(objects.Instance(pci_requests=wanted))


def test_an_extra_spec_that_is_no_number_is_named() -> None:
    with pytest.raises(exceptions.InvalidRequest, match="docker:pids_limit"):
        limits.limits(_instance(docker__pids_limit="many"))


class Engine:
    """What servers have by the labels of their containers."""

    def __init__(self, **devices: str) -> None:
        self._devices = devices

    def list(self, _labels: Any) -> list[Any]:
        return [
            types.SimpleNamespace(labels={"container_stack.id": owner, gpus.LABEL: names})
            for owner, names in self._devices.items()
        ]


def test_a_device_is_one_servers_alone() -> None:
    devices = gpus.Devices(Engine(old="b"), "nova-host", ["a", "b", "c"])  # type: ignore[arg-type]
    assert devices.choose("new", 1) == ("a",)
    assert devices.choose("other", 1) == ("c",)
    with pytest.raises(exceptions.NoSpace):
        devices.choose("third", 1)
    devices.give_back("other")
    assert devices.choose("third", 1) == ("c",)
    assert devices.choose("old", 1) == ("b",)


@pytest.mark.parametrize(
    ("text", "number"), [("20.10.24", 20010024), ("26.1.5+dfsg1", 26001005), ("dev", 0)]
)
def test_an_engines_version_is_a_number(text: str, number: int) -> None:
    assert resources.version(text) == number
