# SPDX-License-Identifier: Apache-2.0
"""One share server on the host's own addresses."""

import dataclasses
import os
import socket
import subprocess
from collections.abc import Iterator

import pytest
from smbprotocol import exceptions as smb_exceptions

from container_stack import exceptions
from container_stack.host import locks, records
from container_stack.shares import assembly, cifs, model, service, site
from container_stack.testing import kill_steps

from . import segments, shares_host
from .smb_client import Client

host = shares_host.host
samba_image = shares_host.samba_image

ALICE = cifs.Rule("user", "alice")


@pytest.fixture
def outside(host: shares_host.Host) -> Iterator[segments.Outside]:
    """A machine elsewhere, to which this host has addresses of its own."""
    with segments.Outside(f"cst{host.owner[-8:]}") as made:
        yield made


@pytest.fixture
def addresses(host: shares_host.Host, outside: segments.Outside) -> tuple[str, str]:
    """The host's own addresses, as that machine calls them."""
    four, six = (each[:-1] + "1" for each in outside.addresses)
    host.settings = dataclasses.replace(host.settings, site_addresses=(four, six))
    return four, six


def started(host: shares_host.Host) -> tuple[service.ShareService, model.Server]:
    """Do what a driver does at its start."""
    shares = host.service()
    shares.start()
    server = site.ensure(shares.servers, site.spec(host.owner, host.settings.site_addresses))
    assert shares.recover() == model.Health()
    return shares, server


def kept(address: str, password: str) -> bytes:
    client = Client(address, "share-1", "alice", password)
    found = client.open("log", write=False).read(4)
    client.close()
    return found


def test_share_is_served_on_each_address_of_the_host(host, outside, addresses):
    shares, server = started(host)
    share = shares.create("share-1", server.id, shares_host.SMALL)
    assert share.export_locations == tuple(
        cifs.Samba.export_location(each, "share-1") for each in addresses
    )
    for each in addresses:
        with pytest.raises(smb_exceptions.SMBException):
            Client(each, "share-1", "alice", "")
    password = shares.set_rules("share-1", [ALICE])["alice"]
    client = Client(addresses[0], "share-1", "alice", password)
    client.open("log").write(b"calm")
    client.close()
    assert kept(addresses[1], password) == b"calm"
    assert all(segments.reaches(each, inside=outside.inside) for each in addresses)

    host.power_off()
    shares, again = started(host)
    assert again.spec == server.spec
    assert kept(addresses[0], password) == b"calm"
    shares.delete("share-1")
    shares.delete_server(server.id)
    assert host.things() == shares_host.nothing()


def test_rule_of_an_address_knows_clients_from_elsewhere(host, outside, addresses, tmp_path):
    shares, server = started(host)
    shares.create("share-1", server.id, shares_host.SMALL)
    theirs = cifs.Rule("ip", outside.addresses[0])
    password = shares.set_rules("share-1", [ALICE, theirs])["alice"]
    login = tmp_path / "login"
    login.write_text(f"username = alice\npassword = {password}\n")
    argv = ["smbclient", f"//{addresses[0]}/share-1", "-A", str(login), "-c", "ls"]
    enter = ["nsenter", f"--net={outside.inside}"]

    assert subprocess.run([*enter, *argv], capture_output=True, timeout=60).returncode == 0
    here = subprocess.run(argv, capture_output=True, timeout=60, text=True)
    assert "NT_STATUS_ACCESS_DENIED" in here.stdout + here.stderr


def test_change_of_addresses_keeps_users_rules_and_files(host, addresses):
    shares, server = started(host)
    shares.create("share-1", server.id, shares_host.SMALL)
    password = shares.set_rules("share-1", [ALICE])["alice"]
    client = Client(addresses[0], "share-1", "alice", password)
    client.open("log").write(b"calm")
    client.close()
    runner = host.new_executor()
    orders = [addresses[:1], addresses[::-1]]

    def change() -> None:
        wanted = site.spec(host.owner, orders[0])
        host.settings = dataclasses.replace(host.settings, site_addresses=orders[0])
        site.ensure(host.service(run=runner).servers, wanted)

    for _step in kill_steps.kills(runner, change, every=5):
        host.settings = dataclasses.replace(host.settings, site_addresses=orders[0])
        shares, server = started(host)
        assert shares.set_rules("share-1", [ALICE])["alice"] == password
        assert kept(orders[0][0], password) == b"calm"
        orders.reverse()


def test_user_name_belongs_to_the_tenant_whose_rules_name_it(host, addresses):
    shares, server = started(host)
    for each in ("share-1", "share-2", "share-3"):
        shares.create(each, server.id, shares_host.SMALL)
    users = site.Users(
        shares.servers,
        locks.ObjectLocks(str(host.state_dir / "locks")),
        records.Records(str(host.state_dir / "users")),
    )

    def name(tenant: str, share: str, *names: str) -> frozenset[str]:
        with users.claimed(server.id, tenant, share, names) as others:
            rules = [cifs.Rule("user", each) for each in names if each not in others]
            shares.set_rules(share, rules)
            return others

    assert name("sailors", "share-1", "alice") == frozenset()
    assert name("miners", "share-2", "alice", "bob") == {"alice"}
    assert name("sailors", "share-3", "alice", "bob") == {"bob"}
    assert name("sailors", "share-1") == name("sailors", "share-3") == frozenset()
    assert name("miners", "share-2", "alice", "bob") == frozenset()
    assert name("sailors", "share-1", "alice") == {"alice"}


@pytest.mark.parametrize("address", ["192.0.2.200", "2001:db8::200"])
def test_address_of_another_host_is_refused_and_leaves_nothing(host, address):
    host.settings = dataclasses.replace(host.settings, site_addresses=(address,))
    with pytest.raises(exceptions.HostNotReady, match="not an address of this host"):
        started(host)
    assert host.things() == shares_host.nothing()


def test_port_that_another_program_has_is_named_and_nothing_is_left(host):
    address = f"127.91.{os.getpid() % 200}.5"
    host.settings = dataclasses.replace(host.settings, site_addresses=(address,))
    with socket.create_server((address, 445)), pytest.raises(exceptions.Busy, match="445"):
        started(host)
    assert host.things() == shares_host.nothing()


@pytest.mark.parametrize(
    ("more", "said"),
    [({"linux_bridge": "br0"}, "no bridge"), ({"protocols": ("CIFS", "NFS")}, "CIFS only")],
)
def test_what_the_host_s_addresses_cannot_have_is_refused(host, more, said):
    settings = dataclasses.replace(host.settings, site_addresses=("192.0.2.200",), **more)
    with pytest.raises(exceptions.InvalidRequest, match=said):
        assembly.open_service(settings)
