# SPDX-License-Identifier: Apache-2.0
"""The engine's own networks, and addresses of containers on them."""

import random
from collections.abc import Iterator, Mapping

import pytest

from container_stack import exceptions
from container_stack.host import containers

from .conftest import MakeSpec

Engine = containers.Engine


@pytest.fixture
def nets() -> tuple[containers.Subnet, containers.Subnet]:
    """An IPv4 and an IPv6 subnet, with a gateway that isn't the first address."""
    number = random.randrange(1, 255)
    return (
        containers.Subnet(f"10.251.{number}.0/24", f"10.251.{number}.77"),
        containers.Subnet(f"fd51:{number:x}::/64", f"fd51:{number:x}::77"),
    )


@pytest.fixture
def network(
    engine: Engine,
    name: str,
    nets: tuple[containers.Subnet, ...],
    test_labels: Mapping[str, str],
) -> Iterator[str]:
    """A network whose Linux bridge is named as the network's id says."""
    engine.create_network(
        name, nets, mtu=1400, bridge=f"cst{name[-8:]}", labels=test_labels, internal=True
    )
    yield name
    engine.remove_network(name)


def address(subnet: containers.Subnet, host: int) -> str:
    return subnet.cidr.partition("/")[0].removesuffix("0" if "." in subnet.cidr else "") + str(host)


def test_network_is_what_was_asked_for(
    engine: Engine,
    network: str,
    nets: tuple[containers.Subnet, ...],
    test_labels: Mapping[str, str],
) -> None:
    found = engine.inspect_network(network)
    assert (found.name, found.mtu, found.internal) == (network, 1400, True)
    assert (found.bridge, found.labels) == (f"cst{network[-8:]}", test_labels)
    assert found.subnets == nets
    assert found.containers == ()
    listed = engine.list_networks(test_labels)
    assert [each for each in listed if each.name == network] == [found]


def test_taken_names_and_subnets_are_refused(
    engine: Engine, network: str, nets: tuple[containers.Subnet, ...]
) -> None:
    with pytest.raises(exceptions.AlreadyExists, match=network):
        engine.create_network(network, [containers.Subnet("10.250.1.0/24")])
    with pytest.raises(exceptions.Busy, match="(?i)overlap"):  # noqa: RUF043
        engine.create_network(f"{network}-2", nets)
    with pytest.raises(exceptions.InvalidRequest, match="needs a subnet"):
        engine.create_network(f"{network}-2", [])
    with pytest.raises(exceptions.InvalidRequest, match="no subnet"):
        engine.create_network(f"{network}-2", [containers.Subnet("10.250.1.5/24")])
    assert [each.name for each in engine.list_networks() if each.name.startswith(network)] == [
        network
    ]


def test_fixed_addresses_hold_over_restarts_and_can_not_be_had_twice(
    engine: Engine,
    network: str,
    nets: tuple[containers.Subnet, ...],
    make_spec: MakeSpec,
    name: str,
) -> None:
    addresses = tuple(address(each, 42) for each in nets)
    mac = "02:42:0a:00:00:99"
    placed = {"network": network, "address4": addresses[0], "address6": addresses[1]}
    first = engine.run(make_spec(name=f"{name}-1", mac=mac, **placed))
    second = engine.create(make_spec(name=f"{name}-2", **placed))
    try:
        assert engine.inspect(first).addresses == {network: addresses}
        shown = engine.exec(first, ["cat", "/sys/class/net/eth0/address"]).stdout
        assert shown.decode().strip() == mac
        assert engine.inspect_network(network).containers == (f"{name}-1",)
        with pytest.raises(exceptions.Busy, match="in use"):
            engine.start(second)
        with pytest.raises(exceptions.Busy, match="active endpoints"):
            engine.remove_network(network)
        engine.stop(first)
        assert engine.inspect(first).addresses == {network: addresses}
        engine.start(first)
        listed = {each.id: each.addresses for each in engine.list()}
        assert listed[first] == {network: addresses}
    finally:
        engine.remove(first)
        engine.remove(second)


def test_container_joins_and_leaves_another_network(
    engine: Engine,
    network: str,
    nets: tuple[containers.Subnet, ...],
    make_spec: MakeSpec,
    test_labels: Mapping[str, str],
    name: str,
) -> None:
    other = f"{network}-other"
    number = nets[0].cidr.split(".")[2]
    engine.create_network(other, [containers.Subnet(f"10.252.{number}.0/24")], labels=test_labels)
    container_id = engine.run(make_spec(network=network, address4=address(nets[0], 43)))
    try:
        engine.connect(other, container_id, address4=f"10.252.{number}.9")
        joined = engine.inspect(container_id).addresses
        assert joined[other] == (f"10.252.{number}.9",)
        assert joined[network][0] == address(nets[0], 43)
        with pytest.raises(exceptions.AlreadyExists):
            engine.connect(other, container_id)
        engine.disconnect(other, container_id)
        engine.disconnect(other, container_id)
        assert set(engine.inspect(container_id).addresses) == {network}
        with pytest.raises(exceptions.NotFound, match="cstest-nosuch"):
            engine.connect("cstest-nosuch", container_id)
    finally:
        engine.remove(container_id)
        engine.remove_network(other)
        engine.remove_network(other)


def test_missing_network_is_named_and_leaves_no_container(
    engine: Engine, make_spec: MakeSpec, name: str
) -> None:
    with pytest.raises(exceptions.NotFound, match="cstest-nosuch"):
        engine.run(make_spec(network="cstest-nosuch"))
    assert name not in {each.name for each in engine.list()}
