# SPDX-License-Identifier: Apache-2.0
import pytest

from container_stack import exceptions
from container_stack.shares import model

SUBNET = model.Subnet("subnet-1", "10.254.7.0/24", gateway="10.254.7.1", mtu=1450)


def test_spec_survives_its_label():
    spec = model.ServerSpec("srv-1", SUBNET, "10.254.7.9", mac="02:00:00:00:00:09", port_id="p")
    assert model.ServerSpec.from_json(spec.to_json()) == spec


@pytest.mark.parametrize("bad", ["", "A", "a/b", "..", "a\n", "-a", "a" * 49, "٣"])
def test_id_that_could_be_a_path_or_an_option_is_refused(bad):
    with pytest.raises(exceptions.InvalidRequest):
        model.check_id(bad, "share")


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"cidr": "10.254.7.3/24"}, "subnet"),
        ({"cidr": "nonsense"}, "subnet"),
        ({"gateway": "10.1.1.1"}, "Gateway"),
        ({"gateway": "router"}, "gateway"),
        ({"mtu": 100}, "MTU"),
    ],
)
def test_impossible_subnet_is_refused_with_the_reason(change, word):
    values = {"id": "s", "cidr": "10.254.7.0/24", **change}
    with pytest.raises(exceptions.InvalidRequest, match=word):
        model.Subnet(**values)


@pytest.mark.parametrize("address", ["10.254.8.1", "10.254.7.1", "host", "fd00::1"])
def test_address_must_be_a_free_one_of_the_subnet(address):
    with pytest.raises(exceptions.InvalidRequest):
        model.ServerSpec("srv-1", SUBNET, address)


def test_ipv6_subnet_is_fine():
    subnet = model.Subnet("s6", "fd00:7::/64", gateway="fd00:7::1")
    assert model.ServerSpec("srv-6", subnet, "fd00:7::9").address == "fd00:7::9"


ALSO = model.Interface(model.Subnet("s6", "fd00:7::/64"), "fd00:7::9", port_id="q")


def test_spec_with_several_addresses_survives_its_label():
    spec = model.ServerSpec("srv-1", SUBNET, "10.254.7.9", also=(ALSO,))
    assert model.ServerSpec.from_json(spec.to_json()) == spec
    assert [each.address for each in spec.interfaces] == ["10.254.7.9", "fd00:7::9"]
    assert [each.version for each in spec.interfaces] == [4, 6]


def test_label_of_a_version_without_further_addresses_is_understood():
    text = '{"address": "10.254.7.9", "id": "s", "mac": null, "port_id": null, "subnet": '
    text += '{"cidr": "10.254.7.0/24", "gateway": null, "id": "n", "mtu": null}}'
    assert model.ServerSpec.from_json(text).also == ()


@pytest.mark.parametrize(
    "subnet",
    [model.Subnet("subnet-1", "10.9.0.0/16"), model.Subnet("other", "10.254.0.0/16")],
)
def test_two_addresses_in_one_subnet_are_refused(subnet):
    address = subnet.cidr.replace("0/16", "9")
    with pytest.raises(exceptions.InvalidRequest, match="two addresses"):
        model.ServerSpec("s", SUBNET, "10.254.7.9", also=(model.Interface(subnet, address),))
