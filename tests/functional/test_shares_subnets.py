# SPDX-License-Identifier: Apache-2.0
"""A share server with addresses on several subnets, and clients on each."""

import contextlib
import dataclasses
import itertools
import threading
from collections.abc import Iterator

import pytest

from container_stack import exceptions
from container_stack.host import containers
from container_stack.shares import cifs, model
from container_stack.testing import kill_steps

from . import segments, shares_host
from .smb_client import Client

host = shares_host.host
samba_image = shares_host.samba_image
shares = shares_host.shares

ALICE = cifs.Rule("user", "alice")


@pytest.fixture
def second() -> model.Interface:
    return interface(segments.subnets()[0])


@pytest.fixture
def sixth() -> model.Interface:
    return interface(segments.subnets()[1])


def interface(cidr: str) -> model.Interface:
    name = "cstest-" + cidr.translate(str.maketrans("/:", "_."))
    subnet = model.Subnet(name, cidr, gateway=segments.host(cidr, 1))
    return model.Interface(subnet, segments.host(cidr, 10))


def serves(address: str, password: str, share: str = "share-1") -> bool:
    """Tell whether a client who comes by this address finds what he wrote by another."""
    assert segments.soon_reaches(address)
    client = Client(address, share, "alice", password)
    client.open("log").write(b"calm")
    found = client.open("log", write=False).read(4)
    client.close()
    return found == b"calm"


def test_server_is_made_with_an_address_on_each_subnet(host, shares, second, sixth):
    spec = host.spec().joined(second).joined(sixth)
    server = shares.create_server(spec)
    share = shares.create("share-1", server.id, shares_host.SMALL)
    password = shares.set_rules("share-1", [ALICE])["alice"]

    addresses = [each.address for each in spec.interfaces]
    assert share.export_locations == tuple(
        cifs.Samba.export_location(each, "share-1") for each in addresses
    )
    assert share.export_location == rf"\\{host.net}.10\share-1"
    assert all(serves(each, password) for each in addresses)

    shares.delete("share-1")
    shares.delete_server(server.id)
    assert host.things() == shares_host.nothing()


def test_server_gets_further_addresses_while_its_clients_write(host, shares, second, sixth):
    server = shares.create_server(host.spec())
    shares.create("share-1", server.id, shares_host.SMALL)
    password = shares.set_rules("share-1", [ALICE])["alice"]
    with writing(server.spec.address, password) as failures:
        shares.servers.join(server.id, second)
        shares.servers.join(server.id, sixth)
        assert shares.servers.join(server.id, sixth).spec.also == (second, sixth)
    assert failures == []
    assert len(shares.get("share-1").export_locations) == 3
    addresses = (server.spec.address, second.address, sixth.address)
    assert all(serves(each, password) for each in addresses)

    host.power_off()
    again = host.service()
    assert again.recover() == model.Health()
    assert len(again.get("share-1").export_locations) == 3
    assert all(serves(each, password) for each in addresses)
    again.delete("share-1")
    again.delete_server(server.id)
    assert host.things() == shares_host.nothing()


def test_clients_from_elsewhere_are_answered_by_the_address_they_called(host, shares, second):
    server = shares.create_server(host.spec().joined(second))
    addresses = [each.address for each in server.spec.interfaces]
    with segments.Outside(f"cst{host.owner[-8:]}") as outside:
        words = [["-s", f"{outside.addresses[0]}/32", "-d", each] for each in addresses]
        for each in words:
            segments.allow(each)
        try:
            assert all(segments.reaches(each, inside=outside.inside) for each in addresses)
        finally:
            for each in words:
                segments.allow(each, command="--delete")


def test_address_that_is_taken_or_overlaps_changes_nothing(host, shares, second):
    one, other = shares.create_server(host.spec()), shares.create_server(host.spec(11))
    shares.servers.join(one.id, second)
    before, networks = shares.servers.get(other.id), host.things()["networks"]

    with pytest.raises(exceptions.Busy):
        shares.servers.join(other.id, second)
    within = model.Subnet("cstest-within", f"{host.net}.128/25")
    with pytest.raises(exceptions.InvalidRequest, match="two addresses"):
        shares.servers.join(other.id, model.Interface(within, f"{host.net}.200"))
    with pytest.raises(exceptions.NotFound):
        shares.servers.join("no-such-server", second)

    assert shares.servers.get(other.id) == before
    assert host.things()["networks"] == networks
    assert list(containers.Engine().inspect(other.container_id).addresses) != []


def test_another_address_in_the_same_subnet_takes_the_place_of_the_first(host, shares, second):
    server = shares.create_server(host.spec())
    shares.servers.join(server.id, second)
    moved = model.Interface(second.subnet, segments.host(second.subnet.cidr, 11))

    assert shares.servers.join(server.id, moved).spec.also == (moved,)

    assert segments.reaches(moved.address)
    assert not segments.reaches(second.address)


def test_join_that_was_killed_anywhere_is_finished_or_never_began(host, shares, second):
    server = shares.create_server(host.spec())
    runner = host.new_executor()
    number = 10

    def join() -> model.Interface:
        made = model.Interface(second.subnet, segments.host(second.subnet.cidr, number))
        return host.service(run=runner).servers.join(server.id, made).spec.also[0]

    for _step in kill_steps.kills(runner, join, every=3):
        again = host.service()
        assert again.recover() == model.Health()
        spec = again.servers.get(server.id).spec
        assert all(segments.soon_reaches(each.address) for each in spec.interfaces)
        number += 1

    assert join().address == segments.host(second.subnet.cidr, number)
    shares.delete_server(server.id)
    assert host.things() == shares_host.nothing()


def test_server_on_a_bridge_is_plugged_in_for_each_subnet(host, second):
    name = f"cst{host.owner[-8:]}"
    segments.ip("link", "add", name, "type", "bridge")
    try:
        for each in (f"{host.net}.1/24", f"{second.subnet.gateway}/24"):
            segments.ip("address", "add", each, "dev", name)
        segments.ip("link", "set", name, "up")
        host.settings = dataclasses.replace(host.settings, linux_bridge=name)
        shares = host.service()
        shares.recover()
        server = shares.create_server(host.spec())
        shares.create("share-1", server.id, shares_host.SMALL)
        password = shares.set_rules("share-1", [ALICE])["alice"]
        shares.servers.join(server.id, second)
        assert serves(server.spec.address, password)
        assert serves(second.address, password)

        containers.Engine().kill(server.container_id)
        assert host.service().recover() == model.Health()
        assert serves(second.address, password)
        shares.delete("share-1")
        shares.delete_server(server.id)
        assert segments.ip("link", "show", "master", name) == ""
        assert host.things() == shares_host.nothing()
    finally:
        segments.ip("link", "delete", name)


@contextlib.contextmanager
def writing(address: str, password: str) -> Iterator[list[Exception]]:
    """Write all the time; what went wrong is in the list in the end."""
    failures: list[Exception] = []
    done = threading.Event()
    client = Client(address, "share-1", "alice", password)

    def write() -> None:
        try:
            for number in itertools.count():
                client.open(f"f{number % 7}").write(b"x" * 65536)
                if done.is_set():
                    break
        except Exception as exc:
            failures.append(exc)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield failures
    finally:
        done.set()
        writer.join(60)
        client.close()
