# SPDX-License-Identifier: Apache-2.0
"""Where an array is and who we are to it."""

import pytest

from container_stack import exceptions
from container_stack.imagestore import edf


def endpoint(**values):
    return edf.Endpoint("edf.example.org", "admin", "swordfish", **values)


@pytest.mark.parametrize(
    ("tenant", "path"),
    [
        ("/root", "/root"),
        ("root", "/root"),
        ("", "/root"),
        ("/root/images", "/root/images"),
        ("images", "/root/images"),
        ("root/images", "/root/images"),
        ("/root/a/b", "/root/a/b"),
        ("chroot", "/root/chroot"),
        ("/root/chroot", "/root/chroot"),
        ("rootless", "/root/rootless"),
        ("my.tenant-1_x", "/root/my.tenant-1_x"),
    ],
)
def test_every_form_of_a_tenant_leads_to_its_path(tenant, path):
    assert endpoint(tenant=tenant).tenant_path == path


@pytest.mark.parametrize("tenant", ["/images", "/chroot", "a b", "/root//b", "a\r\nX: y", "ä"])
def test_what_is_no_tenant_is_refused(tenant):
    with pytest.raises(exceptions.InvalidRequest, match="is no tenant"):
        _ = endpoint(tenant=tenant).tenant_path


def test_only_port_7717_is_plain_http():
    assert endpoint().url == "https://edf.example.org:7718"
    assert endpoint(port=7717).url == "http://edf.example.org:7717"
    assert endpoint(port=443).url == "https://edf.example.org:443"


@pytest.mark.parametrize("address", ["2001:db8::7", "[2001:db8::7]"])
def test_ipv6_addresses_come_with_and_without_brackets(address):
    assert edf.Endpoint(address, "admin", "x").url == "https://[2001:db8::7]:7718"


def test_the_password_does_not_show():
    assert "swordfish" not in repr(endpoint())
