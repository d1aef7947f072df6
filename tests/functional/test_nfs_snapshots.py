# SPDX-License-Identifier: Apache-2.0
"""Snapshots of NFS shares with a real client: mounted, made shares of, and gone back to."""

import dataclasses
import os
from collections.abc import Iterator

import pytest

from container_stack import exceptions
from container_stack.shares import model, nfs, service

from . import nfs_client, shares_host

host = shares_host.lasting_host
samba_image = shares_host.samba_image
server = shares_host.lasting_server


@pytest.fixture(scope="module")
def shares(host: shares_host.Host) -> service.ShareService:
    host.settings = dataclasses.replace(
        host.settings, protocols=("CIFS", "NFS"), nfs_minor_versions=(0, 1, 2)
    )
    return host.started()


@pytest.fixture
def everybody(host: shares_host.Host) -> nfs.Rule:
    return nfs.Rule("ip", f"{host.net}.0/24")


@pytest.fixture
def share(
    host: shares_host.Host, shares: service.ShareService, server: model.Server, everybody: nfs.Rule
) -> Iterator[model.Share]:
    """A share with ``log`` in it; in the end nothing is left of it."""
    before = host.things()
    made = shares.create("share-1", server.id, shares_host.SMALL, "NFS")
    shares.set_rules("share-1", [everybody])
    with mounted(made.export_location) as mount:
        mount.write("log", b"before")
    yield made
    for snapshot in shares.snapshots.list("share-1"):
        shares.snapshots.delete(snapshot.id)
    shares.delete("share-1")
    assert host.things() == before


def mounted(location: str) -> nfs_client.Mount:
    address, _, name = location.partition(":/")
    return nfs_client.Mount(address, name)


def write(location: str, data: bytes) -> None:
    with mounted(location) as mount, mount.open("log", os.O_RDWR) as file:
        file.write(data)


def read(location: str) -> bytes:
    with mounted(location) as mount:
        return mount.read("log")


def test_snapshot_is_looked_into_by_whom_its_own_rules_name(host, shares, share, everybody):
    made = shares.snapshots.create("share-1", "snap-1")
    write(share.export_location, b"after!")
    before = host.things()

    [location] = made.export_locations
    assert location == share.export_location.replace("share-1", "snap-1")
    for refused in ([], [nfs.Rule("ip", "192.0.2.0/24")]):
        shares.snapshots.set_rules("snap-1", refused)
        with pytest.raises(OSError, match=r"NOENT|ACCESS"):
            read(location)
    shares.snapshots.set_rules("snap-1", [everybody])
    assert read(location) == b"before"
    with mounted(location) as mount, pytest.raises(OSError, match="ROFS"):
        mount.open("log", os.O_RDWR)
    with mounted(location) as mount:
        held = mount.open("log", os.O_RDONLY)
        assert held.read() == b"before"
        shares.snapshots.set_rules("snap-1", [])
        with pytest.raises(OSError, match="NFS4"):
            held.read()
    assert host.things() == before
    assert read(share.export_location) == b"after!"
    with pytest.raises(exceptions.NotSupported):
        shares.snapshots.set_rules("snap-1", [everybody, dataclasses.replace(everybody, kind="x")])


def test_share_from_a_snapshot_is_a_share_of_its_own_and_may_be_larger(
    shares, server, share, everybody
):
    shares.snapshots.create("share-1", "snap-1")
    write(share.export_location, b"after!")

    size = 2 * shares_host.SMALL
    made = shares.create("share-2", server.id, size, "NFS", snapshot_id="snap-1")
    assert (made.size, made.protocol) == (size, "NFS")
    with pytest.raises(OSError, match=r"NOENT|ACCESS"):
        read(made.export_location)
    shares.set_rules("share-2", [everybody])
    assert read(made.export_location) == b"before"
    write(made.export_location, b"theirs")
    shares.delete("share-2")

    assert read(share.export_location) == b"after!"


def test_reverting_brings_content_back_and_clients_by_the_same_rules(shares, share, everybody):
    rules = [everybody, nfs.Rule("ip", "192.0.2.0/24", "ro")]
    shares.set_rules("share-1", rules)
    shares.snapshots.create("share-1", "snap-1")
    write(share.export_location, b"after!")
    shares.extend("share-1", 2 * shares_host.SMALL)

    with mounted(share.export_location) as mount:
        mount.open("log", os.O_RDWR).write(b"later!")
        for _ in range(2):
            assert shares.snapshots.revert("share-1", "snap-1") == share
            assert read(share.export_location) == b"before"
            write(share.export_location, b"again!")
    assert shares.set_rules("share-1", rules) == {}
    assert read(share.export_location) == b"again!"


def test_reboot_brings_a_snapshot_back_for_those_who_may_look(host, shares, share, everybody):
    made = shares.snapshots.create("share-1", "snap-1")
    shares.snapshots.set_rules("snap-1", [everybody])
    write(share.export_location, b"after!")
    host.power_off()

    again = host.service()
    assert again.recover().failed == {}
    assert list(again.snapshots.list("share-1")) == [made]
    assert read(made.export_location) == b"before"
    with mounted(made.export_location) as mount, pytest.raises(OSError, match="ROFS"):
        mount.open("log", os.O_RDWR)
    assert read(share.export_location) == b"after!"
