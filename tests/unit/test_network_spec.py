# SPDX-License-Identifier: Apache-2.0
"""Networks and plugs that can't be are refused before anything is done."""

import pytest

from container_stack import exceptions
from container_stack.host import containers, network, plug

FOUR = containers.Subnet("10.1.2.0/24", "10.1.2.254")
SIX = containers.Subnet("fd00:1::/64", "fd00:1::1")


@pytest.mark.parametrize(
    ("subnets", "said"),
    [
        ((), "needs"),
        ((FOUR, containers.Subnet("10.9.0.0/24")), "needs"),
        ((containers.Subnet("10.1.2.3/24"),), "no subnet"),
        ((containers.Subnet("10.1.2.0/33"),), "no subnet"),
        ((containers.Subnet("tenant"),), "no subnet"),
        ((containers.Subnet("10.1.2.0/24", "10.1.3.1"),), "gateway"),
        ((containers.Subnet("10.1.2.0/24", "10.1.2.0"),), "gateway"),
        ((containers.Subnet("10.1.2.0/24", "10.1.2.255"),), "gateway"),
        ((containers.Subnet("10.1.2.0/24", "fd00::1"),), "gateway"),
        ((containers.Subnet("10.1.2.0/24", "router"),), "gateway"),
    ],
)
def test_subnets_and_gateways_that_cannot_be_are_refused(subnets, said):
    with pytest.raises(exceptions.InvalidRequest, match=said):
        network.NetworkSpec("n", subnets)


@pytest.mark.parametrize("network_id", ["", "-a", "a b", "a/b", "a\n", "ä", "x" * 64])
def test_an_id_that_cannot_be_in_a_name_is_refused(network_id):
    with pytest.raises(exceptions.InvalidRequest, match="id"):
        network.NetworkSpec(network_id, (FOUR,))


@pytest.mark.parametrize(("subnets", "mtu"), [((FOUR,), 67), ((FOUR, SIX), 1279), ((FOUR,), 65536)])
def test_an_mtu_that_the_family_does_not_allow_is_refused(subnets, mtu):
    with pytest.raises(exceptions.InvalidRequest, match=str(mtu)):
        network.NetworkSpec("n", subnets, mtu=mtu)


def test_names_at_the_host_are_always_the_same_and_fit():
    spec = network.NetworkSpec("5f0c1c8e-8f38-4cf3-a7c0-1d0b8a6dbb01", (FOUR, SIX))
    assert spec.bridge == "csnd669b1108f00"
    assert plug.host_interface("5f0c1c8e-8f38-4cf3-a7c0-1d0b8a6dbb01") == "cspd669b1108f00"


def make_plug(**values: object) -> plug.Plug:
    good = {
        "id": "port",
        "bridge": "br0",
        "mac": "02:00:00:00:00:01",
        "addresses": ("10.1.2.3/24",),
    }
    return plug.Plug(**{**good, **values})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "values",
    [
        {"addresses": ()},
        {"addresses": ("10.1.2.3/33",)},
        {"addresses": ("10.1.2.3/24\n",)},
        {"addresses": ("host",)},
        {"gateways": ("10.1.2.0/24",)},
        {"gateways": ("fd00::1",)},
        {"gateways": ("10.1.2.1", "10.1.2.2")},
        {"mtu": 67},
        {"mtu": 65536},
        {"addresses": ("fd00::5/64",), "mtu": 1279},
    ],
    ids=str,
)
def test_a_plug_that_cannot_be_is_refused(values):
    with pytest.raises(exceptions.InvalidRequest):
        make_plug(**values)


def test_a_gateway_need_not_lie_in_a_subnet():
    assert make_plug(gateways=("10.9.9.9",)).gateways == ("10.9.9.9",)
