# SPDX-License-Identifier: Apache-2.0
"""A share's whole life with a real client, and what must be true when something goes wrong."""

import dataclasses
import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from smbprotocol import exceptions as smb_exceptions

from container_stack import exceptions
from container_stack.host import containers
from container_stack.shares import assembly, cifs, model, service

from . import segments, shares_host
from .smb_client import Client

host = shares_host.host
samba_image = shares_host.samba_image
shares = shares_host.shares

ALICE = cifs.Rule("user", "alice")


@pytest.fixture
def server(host: shares_host.Host, shares: service.ShareService) -> Iterator[model.Server]:
    return shares.create_server(host.spec())


def address(share: model.Share) -> str:
    return share.export_location.split("\\")[2]


def test_share_lives_from_creation_to_nothing(host, shares, server):
    share = shares.create("share-1", server.id, shares_host.SMALL)
    password = shares.set_rules("share-1", [ALICE])["alice"]
    client = Client(address(share), "share-1", "alice", password)
    client.open("hello.txt").write(b"hello")
    assert client.open("hello.txt", write=False).read(5) == b"hello"
    assert shares.get("share-1") == share
    assert list(shares.list()) == [share]
    assert shares.capacity().provisioned == share.size
    client.close()
    shares.delete("share-1")
    shares.delete_server(server.id)
    assert host.things() == shares_host.nothing()


def test_every_call_may_be_repeated(host, shares, server):
    assert shares.create_server(host.spec()) == server
    share = shares.create("share-1", server.id, shares_host.SMALL)
    assert shares.create("share-1", server.id, shares_host.SMALL) == share
    assert shares.set_rules("share-1", [ALICE]) == shares.set_rules("share-1", [ALICE])
    assert shares.recover() == model.Health()
    assert shares.ensure("share-1") == share
    shares.delete("share-1")
    with pytest.raises(exceptions.NotFound):
        shares.delete("share-1")
    shares.delete_server(server.id)
    shares.delete_server(server.id)


def test_without_rules_nobody_gets_in(shares, server):
    share = shares.create("share-1", server.id, shares_host.SMALL)
    for user, password in (("", ""), ("guest", ""), ("nobody", "x")):
        with pytest.raises(smb_exceptions.SMBException):
            Client(address(share), "share-1", user, password)


def test_extending_disturbs_no_client(shares, server):
    share = shares.create("share-1", server.id, shares_host.SMALL)
    password = shares.set_rules("share-1", [ALICE])["alice"]
    client = Client(address(share), "share-1", "alice", password)
    failures: list[Exception] = []
    done = threading.Event()

    def write() -> None:
        number = 0
        try:
            while not done.is_set():
                client.open(f"f{number % 7}").write(b"x" * 65536)
                number += 1
        except Exception as exc:
            failures.append(exc)

    writer = threading.Thread(target=write)
    writer.start()
    for step in range(2, 6):
        shares.extend("share-1", step * shares_host.SMALL)
    done.set()
    writer.join(30)
    assert failures == []
    assert shares.get("share-1").size == 5 * shares_host.SMALL
    assert shares.usage("share-1").total > 4 * shares_host.SMALL
    client.close()


def test_revoking_cuts_one_live_session_and_no_other(shares, server):
    share = shares.create("share-1", server.id, shares_host.SMALL)
    rules = [ALICE, cifs.Rule("user", "bob")]
    passwords = shares.set_rules("share-1", rules)
    alice, bob = (
        Client(address(share), "share-1", name, passwords[name]) for name in ("alice", "bob")
    )
    hers, his = alice.open("hers"), bob.open("his")
    shares.set_rules("share-1", rules[1:])
    with pytest.raises(smb_exceptions.SMBException):
        hers.write(b"still here?")
    his.write(b"still here")
    for each in (alice, bob):
        each.close()


def test_one_servers_share_is_out_of_reach_from_another(host, shares, server):
    other = shares.create_server(host.spec(11))
    shares.create("share-1", server.id, shares_host.SMALL)
    shares.create("share-2", other.id, shares_host.SMALL)
    engine = containers.Engine()
    seen = engine.exec(other.container_id, ["ls", "/shares"]).stdout.decode().split()
    mounts = engine.exec(other.container_id, ["cat", "/proc/mounts"]).stdout.decode()
    assert seen == ["share-2"]
    assert "share-1" not in mounts


def test_reboot_brings_back_address_files_rules_and_passwords(host, shares, server):
    share = shares.create("share-1", server.id, shares_host.SMALL)
    password = shares.set_rules("share-1", [ALICE])["alice"]
    client = Client(address(share), "share-1", "alice", password)
    client.open("kept").write(b"kept")
    client.close()
    host.power_off()
    assert host.things()["mounts"] == 0

    again = host.service()
    assert again.recover() == model.Health()
    assert list(again.list()) == [share]
    client = Client(address(share), "share-1", "alice", password)
    assert client.open("kept", write=False).read(4) == b"kept"
    client.close()


def test_mount_points_that_a_loss_of_power_brought_back_go_with_their_server(host, shares, server):
    directory = Path(shares.servers.directory(server.id))
    shares.create("share-1", server.id, shares_host.SMALL)
    shares.delete("share-1")
    # The disk hadn't been told yet.
    (directory / "share-1").mkdir(0o700)
    (directory / "share-1.past" / "2026.11.23-01.07.10").mkdir(0o700, parents=True)
    host.power_off()

    again = host.service()
    assert again.recover() == model.Health()
    again.delete_server(server.id)
    assert host.things() == shares_host.nothing()


def test_server_that_was_half_deleted_goes_whatever_a_loss_of_power_brought_back(
    host, shares, server
):
    # All but what is removed last.
    containers.Engine().remove(server.container_id)
    Path(shares.servers.directory(server.id), "share-1").mkdir(0o700)
    shares.recover()
    assert host.things() == shares_host.nothing()


def test_users_of_a_server_with_shares_are_kept_without_its_container(host, shares, server):
    shares.create("share-1", server.id, shares_host.SMALL)
    containers.Engine().remove(server.container_id)
    host.power_off()
    host.service().recover()
    assert host.things()["volumes"] == 1


def test_files_that_are_nobodys_are_left_and_named_when_their_server_goes(
    host, shares, server, caplog
):
    file = Path(shares.servers.directory(server.id), "notes", "by-hand")
    file.parent.mkdir()
    file.write_text("kept")
    with caplog.at_level(logging.WARNING):
        shares.delete_server(server.id)
    assert str(file.parents[1]) in caplog.text
    assert file.read_text() == "kept"
    assert host.things()["volumes"] == 0


def test_share_whose_volume_is_not_mounted_takes_no_files(host, shares, server):
    share = shares.create("share-1", server.id, shares_host.SMALL)
    password = shares.set_rules("share-1", [ALICE])["alice"]
    host.power_off()
    containers.Engine().start(server.container_id) if _tree_is_shared(host) else None
    directory = Path(shares.servers.directory(server.id))
    before = sorted(directory.rglob("*"))
    with pytest.raises((smb_exceptions.SMBException, ValueError, OSError)):
        Client(address(share), "share-1", "alice", password).open("lost").write(b"lost")
    assert sorted(directory.rglob("*")) == before


def _tree_is_shared(host: shares_host.Host) -> bool:
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    return any(" / / " in line and "shared:" in line for line in mounts)


def test_server_stopped_by_hand_is_started_when_it_is_needed(shares, server):
    shares.create("share-1", server.id, shares_host.SMALL)
    containers.Engine().kill(server.container_id)
    assert shares.set_rules("share-1", [ALICE])["alice"]
    assert shares.servers.get(server.id).state == "active"


def test_server_with_shares_is_not_deleted(shares, server):
    shares.create("share-1", server.id, shares_host.SMALL)
    with pytest.raises(exceptions.Busy, match="share-1"):
        shares.delete_server(server.id)
    assert shares.servers.get(server.id).state == "active"


@pytest.mark.parametrize("size", [0, -1, 1024, 10**18])
def test_impossible_size_leaves_nothing(host, shares, server, size):
    before = host.things()
    with pytest.raises((exceptions.InvalidRequest, exceptions.NoSpace)):
        shares.create("share-1", server.id, size)
    assert host.things() == before


def test_taken_address_leaves_nothing(host, shares, server):
    before = host.things()
    spec = dataclasses.replace(host.spec(12), address=server.spec.address)
    with pytest.raises(exceptions.Busy):
        shares.create_server(spec)
    assert host.things() == before


def test_missing_image_is_named_with_its_cure_and_leaves_nothing(host):
    host.settings = dataclasses.replace(host.settings, image="cstest-no-such-image:1")
    shares = host.service()
    shares.recover()
    with pytest.raises(exceptions.HostNotReady, match="container-stack image build samba"):
        shares.create_server(host.spec())
    assert host.things() == shares_host.nothing()


def test_image_that_is_no_share_servers_is_refused_at_start(host, busybox_image):
    with pytest.raises(exceptions.HostNotReady, match="image build samba"):
        assembly.check(dataclasses.replace(host.settings, image=busybox_image))
    assembly.check(host.settings)


def test_engine_that_is_down_is_named_and_nothing_is_lost(host, shares, server, tmp_path):
    shares.create("share-1", server.id, shares_host.SMALL)
    before = host.things()
    down = host.service(engine=containers.Engine(f"unix://{tmp_path}/no.sock"))
    for action in (
        lambda: down.create("share-2", server.id, shares_host.SMALL),
        lambda: down.set_rules("share-1", [ALICE]),
        lambda: down.create_server(host.spec(12)),
    ):
        with pytest.raises(exceptions.EngineUnavailable):
            action()
    assert host.things() == before


def test_share_of_another_owner_is_not_touched(host, shares, server):
    shares.create("share-1", server.id, shares_host.SMALL)
    host.settings = dataclasses.replace(host.settings, owner="cstest-somebody-else")
    stranger = host.service()
    assert stranger.recover() == model.Health()
    assert list(stranger.list()) == []
    with pytest.raises(model.ShareNotFound):
        stranger.delete("share-1")
    other = stranger.create_server(host.spec(12))
    with pytest.raises(exceptions.AlreadyExists):
        stranger.create("share-1", other.id, shares_host.SMALL)
    stranger.delete_server(other.id)
    assert shares.get("share-1").server_id == server.id


def test_share_server_may_have_an_ipv6_address(host, shares):
    subnet = model.Subnet(f"{host.owner}-6", "fd00:251:83::/64", gateway="fd00:251:83::1")
    server = shares.create_server(model.ServerSpec(f"{host.owner}-6", subnet, "fd00:251:83::10"))
    share = shares.create("share-1", server.id, shares_host.SMALL)
    password = shares.set_rules("share-1", [ALICE])["alice"]
    assert share.export_location == r"\\fd00-251-83--10.ipv6-literal.net\share-1"
    assert segments.soon_reaches("fd00:251:83::10")
    client = Client("fd00:251:83::10", "share-1", "alice", password)
    client.open("hello").write(b"hello")
    client.close()
    shares.delete("share-1")
    shares.delete_server(server.id)
    assert host.things() == shares_host.nothing()
