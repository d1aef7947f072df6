# SPDX-License-Identifier: Apache-2.0
"""Snapshots of shares with a real client, and what must be true when something goes wrong."""

import dataclasses
import threading
from collections.abc import Iterator

import pytest
from smbprotocol import exceptions as smb_exceptions

from container_stack import exceptions
from container_stack.shares import cifs, model, protocol, service

from . import shares_host
from .smb_client import Client, smbclient

host = shares_host.lasting_host
samba_image = shares_host.samba_image
server = shares_host.lasting_server
shares = shares_host.lasting_shares

ALICE = cifs.Rule("user", "alice")


@pytest.fixture
def share(
    host: shares_host.Host, shares: service.ShareService, server: model.Server
) -> Iterator[model.Share]:
    """A share without rules; in the end nothing is left of it."""
    before = host.things()
    made = shares.create("share-1", server.id, shares_host.SMALL)
    yield made
    for snapshot in shares.snapshots.list("share-1"):
        shares.snapshots.delete(snapshot.id)
    shares.delete("share-1")
    assert host.things() == before


def enter(location: str, user: str, password: str) -> Client:
    _, _, address, name = location.split("\\")
    return Client(address, name, user, password)


def read(location: str, user: str, password: str, name: str) -> bytes:
    client = enter(location, user, password)
    found = client.open(name, write=False).read(64)
    client.close()
    return found


def write(location: str, user: str, password: str, name: str, data: bytes) -> None:
    client = enter(location, user, password)
    client.open(name).write(data)
    client.close()


def test_snapshot_lives_from_creation_to_nothing(host, shares, server, share):
    key = shares.set_rules("share-1", [ALICE])["alice"]
    write(share.export_location, "alice", key, "log", b"before")
    before = host.things()
    made = shares.snapshots.create("share-1", "snap-1")
    write(share.export_location, "alice", key, "log", b"after!")

    assert shares.snapshots.create("share-1", "snap-1") == made
    assert list(shares.snapshots.list("share-1")) == [made]
    assert shares.snapshots.set_rules("snap-1", [ALICE]) == {"alice": key}
    [location] = made.export_locations
    assert read(location, "alice", key, "log") == b"before"
    with pytest.raises(smb_exceptions.SMBException):
        write(location, "alice", key, "log", b"changed")
    with pytest.raises(smb_exceptions.SMBException):
        enter(location, "bob", key)
    shares.snapshots.set_rules("snap-1", [])
    with pytest.raises(smb_exceptions.SMBException):
        enter(location, "alice", key)
    assert read(share.export_location, "alice", key, "log") == b"after!"

    shares.snapshots.delete("snap-1")
    assert host.things() == before
    with pytest.raises(model.SnapshotNotFound):
        shares.snapshots.delete("snap-1")


def test_snapshot_of_a_share_that_never_had_a_rule_may_get_one(
    shares: service.ShareService, share: model.Share
) -> None:
    taken = shares.snapshots.create("share-1", "snap-1")
    key = shares.snapshots.set_rules("snap-1", [ALICE])["alice"]
    enter(taken.export_locations[0], "alice", key).close()


def test_snapshot_is_whole_while_clients_write(shares, share):
    key = shares.set_rules("share-1", [ALICE])["alice"]
    client = enter(share.export_location, "alice", key)
    failures: list[Exception] = []
    done = threading.Event()

    def keep_writing() -> None:
        number = 0
        try:
            while not done.is_set():
                # The second file never holds less than the first.
                for name in ("second", "first"):
                    client.open(name).write(number.to_bytes(8, "big"))
                number += 1
        except Exception as exc:
            failures.append(exc)

    writer = threading.Thread(target=keep_writing)
    writer.start()
    try:
        locations = []
        for number in range(3):
            made = shares.snapshots.create("share-1", f"snap-{number}")
            locations += made.export_locations
    finally:
        done.set()
        writer.join(60)
    assert failures == []
    client.close()
    seen = []
    for number, location in enumerate(locations):
        shares.snapshots.set_rules(f"snap-{number}", [ALICE])
        first, second = (read(location, "alice", key, name) for name in ("first", "second"))
        assert int.from_bytes(second, "big") - int.from_bytes(first, "big") in (0, 1)
        seen.append(first)
    assert seen == sorted(seen)


def test_share_from_a_snapshot_is_a_share_of_its_own_and_may_be_larger(host, shares, server, share):
    key = shares.set_rules("share-1", [ALICE])["alice"]
    write(share.export_location, "alice", key, "log", b"before")
    shares.snapshots.create("share-1", "snap-1")
    write(share.export_location, "alice", key, "log", b"after!")
    other = shares.create_server(host.spec(11))
    size = 2 * shares_host.SMALL

    for where in (server, other):
        made = shares.create("share-2", where.id, size, snapshot_id="snap-1")
        assert shares.create("share-2", where.id, size, snapshot_id="snap-1") == made
        assert made.size == size
        theirs = shares.set_rules("share-2", [ALICE])["alice"]
        assert read(made.export_location, "alice", theirs, "log") == b"before"
        write(made.export_location, "alice", theirs, "log", b"theirs")
        shares.delete("share-2")

    shares.delete_server(other.id)
    assert read(share.export_location, "alice", key, "log") == b"after!"
    with pytest.raises(exceptions.InvalidRequest):
        shares.create("share-2", server.id, shares_host.SMALL // 2, snapshot_id="snap-1")
    with pytest.raises(model.SnapshotNotFound):
        shares.create("share-2", server.id, size, snapshot_id="snap-2")
    assert [each.id for each in shares.list()] == ["share-1"]


def test_reverting_brings_content_and_size_back_and_clients_by_the_same_rules(shares, share):
    rules = [ALICE, cifs.Rule("user", "bob", "ro"), cifs.Rule("ip", "10.0.0.0/8")]
    keys = shares.set_rules("share-1", rules)
    write(share.export_location, "alice", keys["alice"], "log", b"before")
    shares.snapshots.create("share-1", "snap-1")
    shares.snapshots.set_rules("snap-1", [ALICE])
    write(share.export_location, "alice", keys["alice"], "log", b"after!")
    shares.extend("share-1", 2 * shares_host.SMALL)
    bob = enter(share.export_location, "bob", keys["bob"])
    held = bob.open("log", write=False)

    for _ in range(2):
        assert shares.snapshots.revert("share-1", "snap-1") == share
        assert read(share.export_location, "alice", keys["alice"], "log") == b"before"
        write(share.export_location, "alice", keys["alice"], "log", b"again!")

    with pytest.raises(smb_exceptions.SMBException):
        held.read(6)
    assert read(share.export_location, "bob", keys["bob"], "log") == b"again!"
    with pytest.raises(smb_exceptions.SMBException):
        write(share.export_location, "bob", keys["bob"], "log", b"storm")
    assert shares.set_rules("share-1", rules) == keys


def test_only_the_latest_snapshot_is_gone_back_to(shares, share):
    key = shares.set_rules("share-1", [ALICE])["alice"]
    for name in ("snap-1", "snap-2"):
        shares.snapshots.create("share-1", name)
    client = enter(share.export_location, "alice", key)
    file = client.open("log")
    with pytest.raises(exceptions.InvalidRequest, match="snap-2"):
        shares.snapshots.revert("share-1", "snap-1")
    with pytest.raises(model.SnapshotNotFound):
        shares.snapshots.revert("share-1", "snap-3")
    file.write(b"nobody was cut off")
    client.close()


def test_share_with_snapshots_is_not_deleted(shares, share):
    key = shares.set_rules("share-1", [ALICE])["alice"]
    shares.snapshots.create("share-1", "snap-1")
    with pytest.raises(exceptions.Busy, match="snap-1"):
        shares.delete("share-1")
    write(share.export_location, "alice", key, "log", b"still here")


def test_reboot_brings_snapshots_back_for_those_who_may_look(host, shares, share):
    key = shares.set_rules("share-1", [ALICE])["alice"]
    write(share.export_location, "alice", key, "log", b"before")
    made = shares.snapshots.create("share-1", "snap-1")
    shares.snapshots.set_rules("snap-1", [ALICE])
    host.power_off()

    again = host.service()
    again.recover()
    assert list(again.snapshots.list("share-1")) == [made]
    assert read(made.export_location, "alice", key, "log") == b"before"


def test_failing_to_snapshot_leaves_nothing_and_disturbs_nobody(host, shares, share):
    key = shares.set_rules("share-1", [ALICE])["alice"]
    before = host.things()
    for wrong in ("../snap", "Snap", "a" * 49, "snap\n"):
        with pytest.raises(exceptions.InvalidRequest):
            shares.snapshots.create("share-1", wrong)
    with pytest.raises(model.ShareNotFound):
        shares.snapshots.create("share-2", "snap-1")
    shares.snapshots.create("share-1", "snap-1")
    with pytest.raises(exceptions.NotSupported):
        shares.snapshots.set_rules("snap-1", [ALICE, protocol.Rule("cephx", "alice")])
    shares.snapshots.delete("snap-1")
    assert host.things() == before
    write(share.export_location, "alice", key, "log", b"still here")


def test_snapshot_of_another_owner_is_not_touched(host, shares, share):
    shares.snapshots.create("share-1", "snap-1")
    owner = host.settings.owner
    host.settings = dataclasses.replace(host.settings, owner="cstest-somebody-else")
    stranger = host.service()
    host.settings = dataclasses.replace(host.settings, owner=owner)
    for action in (
        lambda: stranger.snapshots.delete("snap-1"),
        lambda: stranger.snapshots.get("snap-1"),
        lambda: stranger.snapshots.set_rules("snap-1", [ALICE]),
    ):
        with pytest.raises(model.SnapshotNotFound):
            action()


def test_previous_versions_are_in_the_share_itself(host, share, shares, tmp_path):
    host.settings = dataclasses.replace(host.settings, previous_versions=True)
    showing = host.service()
    host.settings = dataclasses.replace(host.settings, previous_versions=False)
    key = showing.set_rules("share-1", [ALICE])["alice"]
    write(share.export_location, "alice", key, "log", b"before")
    before = host.things()
    made = showing.snapshots.create("share-1", "snap-1")
    write(share.export_location, "alice", key, "log", b"after!")
    token = made.created_at.strftime("@GMT-%Y.%m.%d-%H.%M.%S")

    def say(commands: str) -> str:
        address = share.export_location.split("\\")[2]
        done = smbclient(address, "share-1", "alice", key, commands, cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert token in say("allinfo log")
    say(f"get {token}\\log {tmp_path}/old; get log {tmp_path}/new")
    assert (tmp_path / "old").read_bytes() == b"before"
    assert (tmp_path / "new").read_bytes() == b"after!"
    showing.snapshots.delete("snap-1")
    assert token not in say("allinfo log")
    assert host.things() == before
