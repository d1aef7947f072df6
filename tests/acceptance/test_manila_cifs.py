# SPDX-License-Identifier: Apache-2.0
"""A share's whole life through Manila's REST API, with real SMB clients at its export location."""

import ipaddress
import random

import pytest

from . import cifs, host, resources, smb

GIB = 1024**3


def test_the_service_is_up_and_runs_as_its_user(shares: cifs.Cifs) -> None:
    [state] = [
        service["state"]
        for service in shares.client.services()
        if service["host"] == shares.backend.host
    ]

    assert state == "up"
    assert shares.backend.service.users() == {shares.backend.place.identity.user}


def test_the_pool_is_known_with_its_capacity(shares: cifs.Cifs) -> None:
    [pool] = shares.client.pools(shares.backend.host)

    assert pool.total_capacity_gb == cifs.POOL_GB
    assert pool.capabilities["storage_protocol"] == "NFS_CIFS"
    assert pool.capabilities["driver_handles_share_servers"] is True


def test_a_share_is_exported_from_an_address_of_its_network(
    shares: cifs.Cifs, share: cifs.Made
) -> None:
    _, _, address, name = share.location.split("\\")

    allowed = range(int(shares.subnet[17]), int(shares.subnet[99]) + 1)
    assert int(ipaddress.IPv4Address(address)) in allowed
    assert name


def test_the_access_key_lets_its_user_write_and_read(shares: cifs.Cifs, share: cifs.Made) -> None:
    tree = _tree()
    key = shares.key(share, "alice")

    with smb.Client(share.location, "alice", key) as writer:
        writer.write_tree(tree)
    with smb.Client(share.location, "alice", key) as reader:
        assert reader.read_tree() == tree


def test_a_user_without_a_rule_is_refused(
    shares: cifs.Cifs, network: str, share: cifs.Made
) -> None:
    shares.key(share, "alice")
    with shares.share(network) as other:
        key = shares.key(other, "mallory")
        assert smb.enter_as(other.location, "mallory", key) == []

        assert other.address == share.address
        assert smb.refused(lambda: smb.enter_as(share.location, "mallory", key))


def test_a_wrong_key_is_refused(shares: cifs.Cifs, share: cifs.Made) -> None:
    key = shares.key(share, "alice")

    assert smb.refused(lambda: smb.enter_as(share.location, "alice", f"{key}x"))
    assert smb.refused(lambda: smb.enter_as(share.location, "alice", ""))


def test_a_read_only_rule_reads_and_refuses_writes(shares: cifs.Cifs, share: cifs.Made) -> None:
    alice, reader = shares.key(share, "alice"), shares.key(share, "reader", "ro")
    with smb.Client(share.location, "alice", alice) as client:
        client.write("log", b"calm sea")

    with smb.Client(share.location, "reader", reader) as client:
        assert client.read("log") == b"calm sea"
        assert smb.refused(lambda: client.write("log", b"storm"))
        assert smb.refused(lambda: client.write("other", b"storm"))
        assert client.read_tree() == {"log": b"calm sea"}


def test_a_rule_of_another_type_goes_to_error_alone(shares: cifs.Cifs, share: cifs.Made) -> None:
    key = shares.key(share, "alice")
    with smb.Client(share.location, "alice", key) as session:
        session.write("log", b"calm sea")

        rules = [
            shares.client.allow(share.id, to, kind=kind)
            for kind, to in (("cert", "alice.example.org"), ("cephx", "alice"))
        ]

        assert [rule.state for rule in rules] == ["error", "error"]
        assert session.read("log") == b"calm sea"
        assert smb.enter_as(share.location, "alice", key) == ["log"]
        assert smb.nobody_enters(share.location)
    for rule in rules:
        shares.client.deny(share.id, rule.id)
    assert [each.state for each in shares.client.rules(share.id)] == ["active"]


def test_a_share_grows_while_a_client_writes(shares: cifs.Cifs, share: cifs.Made) -> None:
    key = shares.key(share, "alice")
    with smb.Client(share.location, "alice", key) as client:
        before = client.size()

        with smb.writing(client, "log") as writer:
            extended = shares.client.extend(share.id, 3)

        assert (extended.status, extended.size) == ("available", 3)
        assert writer.failures == []
        assert client.read("log") == writer.expected()
        assert 0.9 * GIB < before <= GIB
        assert 2.9 * GIB < client.size() <= 3 * GIB


def test_denying_a_user_cuts_his_live_session_and_no_other(
    shares: cifs.Cifs, share: cifs.Made
) -> None:
    keys = {user: shares.key(share, user) for user in ("alice", "carol")}
    [rule] = [each.id for each in shares.client.rules(share.id) if each.access_to == "alice"]
    with (
        smb.Client(share.location, "alice", keys["alice"]) as alice,
        smb.Client(share.location, "carol", keys["carol"]) as carol,
        alice.open("alice", "wb") as open_file,
        smb.writing(carol, "carol") as writer,
    ):
        open_file.write(b"calm sea")

        shares.client.deny(share.id, rule)

        with pytest.raises(smb.FAILED):
            open_file.write(b"storm")
        with pytest.raises(smb.FAILED):
            alice.names()
        assert smb.refused(lambda: smb.enter_as(share.location, "alice", keys["alice"]))
    assert writer.failures == []
    with smb.Client(share.location, "carol", keys["carol"]) as carol:
        assert carol.read_tree() == {"alice": b"calm sea", "carol": writer.expected()}


def test_two_shares_on_one_server_are_apart(
    shares: cifs.Cifs, network: str, share: cifs.Made
) -> None:
    with shares.share(network) as other:
        assert other.server == share.server
        assert other.address == share.address
        for each, text in ((share, b"one"), (other, b"two")):
            with smb.Client(each.location, "alice", shares.key(each, "alice")) as client:
                client.write("name", text)

        shares.client.delete_share(other.id)

        key = shares.key(share, "carol")
        with smb.Client(share.location, "carol", key) as client:
            assert client.read_tree() == {"name": b"one"}


def test_another_network_s_server_sees_nothing_of_a_share(
    shares: cifs.Cifs, share: cifs.Made
) -> None:
    miners = shares.backend.client("miners")
    key = shares.key(share, "alice")
    name = share.location.rpartition("\\")[2]
    with shares.network(miners) as elsewhere:
        asked = miners.create_share(network=elsewhere, share_type=shares.share_type).id
        theirs = miners.available(asked)
        [location] = miners.exports(asked)
        address = location.split("\\")[2]

        assert theirs.share_server_id != share.server
        assert address != share.address
        assert smb.refused(lambda: smb.enter_as(rf"\\{address}\{name}", "alice", key))
        [container] = host.containers(shares.owner, id=theirs.share_server_id)
        assert name not in host.visible_in(container)
        assert location.rpartition("\\")[2] in host.visible_in(container)
        miners.delete_share(asked)


def test_a_deleted_share_is_gone_while_a_client_uses_it(shares: cifs.Cifs, network: str) -> None:
    with shares.share(network) as share:
        key = shares.key(share, "alice")
        devices = host.loop_devices(shares.state)
        with smb.Client(share.location, "alice", key) as client, client.open("log", "wb") as file:
            file.write(b"calm sea")

            shares.client.delete_share(share.id)

            with pytest.raises(smb.FAILED):
                file.write(b"storm")
        assert smb.refused(lambda: smb.enter_as(share.location, "alice", key))
        assert len(host.loop_devices(shares.state)) == len(devices) - 1


def test_a_share_beyond_the_pool_finds_no_host(shares: cifs.Cifs, network: str) -> None:
    share = shares.ask(network, size=cifs.POOL_GB + 1)

    assert shares.client.settled(share).status == "error"
    [message] = shares.client.messages(share)
    assert "No storage could be allocated" in message
    assert "Capacity filter" in message
    shares.client.delete_share(share)


def test_an_unknown_protocol_is_refused(shares: cifs.Cifs, network: str) -> None:
    with pytest.raises(resources.RefusedError, match="share protocol"):
        shares.ask(network, protocol="FTP")


def test_a_protocol_that_is_not_served_here_ends_in_error_and_leaves_nothing(
    shares: cifs.Cifs, network: str
) -> None:
    share = shares.ask(network, protocol="CEPHFS")

    assert shares.client.settled(share).status == "error"
    shares.client.delete_share(share)
    assert host.loop_devices(shares.state) == {}


def _tree() -> dict[str, bytes]:
    """Return files as people have them: empty ones, odd names, depth, and a few MiB."""
    source = random.Random(7)
    tree = {
        "empty": b"",
        "a name with blanks.txt": b"calm sea",
        "Grüße/naïve/日本.txt": b"Moin",
        "deep/er/and/deep/er/still": source.randbytes(1),
    }
    for number in range(20):
        tree[f"many/{number}.bin"] = source.randbytes(number * 4099)
    tree["large.bin"] = source.randbytes(5 * 1024**2 + 3)
    return tree
