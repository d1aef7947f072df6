# SPDX-License-Identifier: Apache-2.0
"""Shares that shrink, that the service forgets, and that it takes up again; with a real client."""

import contextlib
import dataclasses
import os
from pathlib import Path

import pytest
from smbprotocol import exceptions as smb_exceptions

from container_stack import exceptions
from container_stack.shares import cifs, model, service

from . import shares_host
from .smb_client import Client

host = shares_host.lasting_host
samba_image = shares_host.samba_image
server = shares_host.lasting_server
shares = shares_host.lasting_shares

MIB = 1024**2
ALICE = cifs.Rule("user", "alice")


@pytest.fixture(params=["btrfs", "ext4"])
def shrinkable(host: shares_host.Host, request: pytest.FixtureRequest) -> service.ShareService:
    """A service whose shares have a file system that can shrink."""
    xfs = host.settings
    host.settings = dataclasses.replace(xfs, filesystem=request.param)
    made = host.service()
    host.settings = xfs
    return made


def enter(share: model.Share, key: str) -> Client:
    _, _, address, name = share.export_location.split("\\")
    return Client(address, name, "alice", key)


def fill(shares: service.ShareService, size: int) -> None:
    """Put a file of this size into the share, past its server, which would take long."""
    directory = shares.servers.directory(shares.get("share-1").server_id)
    with Path(directory, "share-1/data/large").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, size)


def test_shrinking_keeps_files_rules_and_passwords(host, shrinkable, server):
    share = shrinkable.create("share-1", server.id, 400 * MIB)
    key = shrinkable.set_rules("share-1", [ALICE])["alice"]
    with contextlib.closing(enter(share, key)) as client:
        client.open("log").write(b"kept")

    shrinkable.shrink("share-1", shares_host.SMALL)

    assert shrinkable.get("share-1").size == shares_host.SMALL
    assert shrinkable.usage("share-1").total <= shares_host.SMALL
    with contextlib.closing(enter(share, key)) as client:
        assert client.open("log", write=False).read(4) == b"kept"
        client.open("later").write(b"later")
    shrinkable.shrink("share-1", shares_host.SMALL)
    with pytest.raises(exceptions.InvalidRequest):
        shrinkable.shrink("share-1", 400 * MIB)
    shrinkable.delete("share-1")


def test_shrinking_below_what_is_stored_is_refused_and_cuts_nobody_off(host, shrinkable, server):
    share = shrinkable.create("share-1", server.id, 600 * MIB)
    key = shrinkable.set_rules("share-1", [ALICE])["alice"]
    with contextlib.closing(enter(share, key)) as client:
        fill(shrinkable, 300 * MIB)
        file = client.open("log")
        with pytest.raises(exceptions.PossibleDataLoss):
            shrinkable.shrink("share-1", 280 * MIB)
        file.write(b"nobody was cut off")
    assert shrinkable.get("share-1").size == 600 * MIB
    shrinkable.delete("share-1")


def test_xfs_says_that_it_cannot_shrink_and_nothing_changes(shares, server):
    share = shares.create("share-1", server.id, 2 * shares_host.SMALL)
    with pytest.raises(exceptions.NotSupported, match="xfs can't shrink"):
        shares.shrink("share-1", shares_host.SMALL)
    assert shares.get("share-1") == share
    shares.delete("share-1")


def test_share_that_is_forgotten_is_served_on_and_can_be_taken_up_under_another_id(
    host, shares, server
):
    share = shares.create("share-1", server.id, shares_host.SMALL)
    key = shares.set_rules("share-1", [ALICE])["alice"]
    with contextlib.closing(enter(share, key)) as client:
        client.open("log").write(b"kept")
    shares.adoption.unmanage("share-1")

    assert list(shares.list()) == []
    for action in (shares.delete, shares.get, shares.ensure, shares.adoption.unmanage):
        with pytest.raises(model.ShareNotFound):
            action("share-1")
    with pytest.raises(exceptions.AlreadyExists):
        shares.create("share-1", server.id, shares_host.SMALL)
    with pytest.raises(exceptions.Busy):
        shares.delete_server(server.id)
    again = host.service()
    assert again.recover() == model.Health()
    with contextlib.closing(enter(share, key)) as client:
        assert client.open("log", write=False).read(4) == b"kept"

    taken = again.adoption.manage("share-2", server.id, share.export_location)
    assert taken == dataclasses.replace(share, id="share-2")
    assert again.adoption.manage("share-2", server.id, share.export_location) == taken
    assert again.set_rules("share-2", [ALICE])["alice"] == key
    again.extend("share-2", 2 * shares_host.SMALL)
    made = again.snapshots.create("share-2", "snap-1")
    assert made.share_id == "share-2"
    assert again.snapshots.revert("share-2", "snap-1").export_location == share.export_location
    with contextlib.closing(enter(share, key)) as client:
        assert client.open("log", write=False).read(4) == b"kept"
    again.snapshots.delete("snap-1")
    again.delete("share-2")
    assert host.things() == {**shares_host.nothing(), **_one_server()}


@pytest.mark.parametrize(
    "location",
    [
        r"\\{address}\share-2",
        r"\\{address}\..\share-1",
        r"\\{address}\share-1\..",
        r"\\{address}\share-1" + "\n",
        r"\\192.0.2.1\share-1",
        "/etc",
        "{path}",
        "",
    ],
)
def test_what_is_no_share_of_ours_is_not_taken_up_and_the_text_names_what_is(
    host, shares, server, location
):
    share = shares.create("share-1", server.id, shares_host.SMALL)
    shares.adoption.unmanage("share-1")
    path = shares.servers.directory(server.id) + "/share-1"
    wrong = location.format(address=server.spec.address, path=path)
    before = host.things()
    with pytest.raises(exceptions.NotFound) as caught:
        shares.adoption.manage("share-9", server.id, wrong)
    assert share.export_location in str(caught.value)
    assert host.things() == before
    shares.adoption.manage("share-1", server.id, share.export_location)
    with pytest.raises(exceptions.AlreadyExists, match="share-1"):
        shares.adoption.manage("share-9", server.id, share.export_location)
    shares.delete("share-1")


def test_share_whose_data_are_a_link_is_not_taken_up(shares, server):
    share = shares.create("share-1", server.id, shares_host.SMALL)
    shares.adoption.unmanage("share-1")
    data = Path(shares.servers.directory(server.id)) / "share-1/data"
    data.symlink_to("/etc")
    with pytest.raises(exceptions.InvalidRequest, match="symbolic link"):
        shares.adoption.manage("share-1", server.id, share.export_location)
    data.unlink()
    shares.adoption.manage("share-1", server.id, share.export_location)
    shares.delete("share-1")


def test_closing_a_share_keeps_everybody_out_until_it_is_opened_again(shares, server, host):
    share = shares.create("share-1", server.id, shares_host.SMALL)
    key = shares.set_rules("share-1", [ALICE])["alice"]
    volume = shares.snapshots._held.get("share-1")
    with shares.snapshots._held.closed(volume), pytest.raises(smb_exceptions.SMBException):
        enter(share, key)
    with contextlib.closing(enter(share, key)) as client:
        client.open("log").write(b"open again")
    shares.delete("share-1")


def _one_server() -> dict[str, int]:
    return {"containers": 1, "networks": 1, "volumes": 1, "directories": 1}
