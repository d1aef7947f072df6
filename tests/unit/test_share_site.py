# SPDX-License-Identifier: Apache-2.0
import pytest

from container_stack import exceptions
from container_stack.shares import site


def test_server_is_the_same_for_an_owner_wherever_it_is():
    one, other = site.spec("manila-a", ["192.0.2.5"]), site.spec("manila-a", ["2001:DB8::5"])
    assert one.id == other.id != site.spec("manila-b", ["192.0.2.5"]).id
    assert [each.address for each in other.interfaces] == ["2001:db8::5"]


def test_addresses_keep_their_order():
    made = site.spec("manila-a", ["2001:db8::5", "192.0.2.5"])
    assert [each.address for each in made.interfaces] == ["2001:db8::5", "192.0.2.5"]


@pytest.mark.parametrize(
    "address", ["0.0.0.0", "::", "224.0.0.1", "fe80::1", "fe80::1%eth0", "host", "", "192.0.2.0/24"]
)
def test_what_no_client_can_connect_to_is_refused(address):
    with pytest.raises(exceptions.InvalidRequest):
        site.spec("manila-a", [address])


@pytest.mark.parametrize("addresses", [[], ["192.0.2.5", "192.0.2.5"]])
def test_no_address_and_one_address_twice_are_refused(addresses):
    with pytest.raises(exceptions.InvalidRequest):
        site.spec("manila-a", addresses)
