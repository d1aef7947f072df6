# SPDX-License-Identifier: Apache-2.0
"""Shares and share servers move between two back ends of one share service, run by a user."""

import contextlib
import dataclasses
import ipaddress
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from . import (
    backend,
    cifs,
    host,
    manila,
    migration_rest,
    process,
    resources,
    rest,
    samba,
    smb,
    snapshot_rest,
)

#: The back ends: the first has xfs, the second btrfs. They share a directory.
OLD, NEW = "cstest_old", "cstest_new"
USER = "cstest-moves"


@dataclasses.dataclass(frozen=True, slots=True)
class Pair:
    """Two back ends, and a client of a project that may use them."""

    running: backend.Backend
    client: rest.Client
    types: Mapping[str, str]

    def pool(self, name: str) -> str:
        return f"{manila.HOST}@{name}#{name}"

    def share(self, network: str, protocol: str = "CIFS") -> str:
        """Make a share at the first back end and return its id."""
        asked = self.client.create_share(
            network=network, share_type=self.types[OLD], protocol=protocol
        )
        return self.client.available(asked.id).id

    def made(self, share: str) -> cifs.Made:
        """Return a share as it is now."""
        found = self.client.available(share)
        [location] = self.client.exports(share)
        return cifs.Made(share, found.share_server_id, location)

    def key(self, share: str, user: str) -> str:
        """Return a user's password."""
        [rule] = [each for each in self.client.rules(share) if each.access_to == user]
        assert rule.access_key
        return rule.access_key


@pytest.fixture(scope="module")
def pair(plane: manila.ControlPlane) -> Iterator[Pair]:
    subnet = host.unused_subnet()
    state = plane.directory / OLD / cifs.STATE
    with contextlib.ExitStack() as undo:
        image = undo.enter_context(samba.current_image())
        for name in (OLD, NEW):
            undo.callback(host.sweep, f"manila-{name}", state)
        running = undo.enter_context(
            backend.running(
                plane,
                OLD,
                lambda place: cifs.options(place, subnet, image),
                normal_user=True,
                user=USER,
                more={
                    "DEFAULT": {
                        "enabled_share_backends": f"{OLD},{NEW}",
                        # Seconds.
                        "migration_driver_continue_update_interval": 1,
                        "server_migration_driver_continue_update_interval": 1,
                    }
                },
                beside={NEW: _other(subnet)},
            )
        )
        client = running.client()
        client.wait("the other pool", lambda: client.pools(f"{manila.HOST}@{NEW}"))
        types = {
            name: client.create_type(name, share_backend_name=name, snapshot_support="True")
            for name in (OLD, NEW)
        }
        yield Pair(running, client, types)
        # Who made the network removes it, and may not have been the last on it.
        process.wait_for("the network to go", lambda: not _networks(_left(subnet, state)))
        running.service.stop()
        left = _left(subnet, state)
        assert not left, f"Left behind: {', '.join(left)}"


def _other(subnet: ipaddress.IPv4Network) -> Mapping[str, object]:
    """Return what the second back end has otherwise than the first."""
    return {
        "share_backend_name": NEW,
        "container_stack_filesystem": "btrfs",
        "standalone_network_plugin_allowed_ip_ranges": f"{subnet[100]}-{subnet[180]}",
    }


def _left(subnet: ipaddress.IPv4Network, state: Path) -> list[str]:
    return [each for name in (OLD, NEW) for each in host.left(f"manila-{name}", subnet, state)]


def _networks(left: list[str]) -> list[str]:
    return [each for each in left if each.startswith("network ")]


@pytest.fixture
def network(pair: Pair) -> Iterator[str]:
    made = pair.client.create_network("harbour")
    yield made
    for share in pair.client.shares(made):
        pair.client.reset("shares", share)
        pair.client.delete_share(share)
    for server in pair.client.servers(made):
        # One that a cancelled migration has left is inactive, and can't be deleted as that.
        pair.client.reset("share-servers", server)
        pair.client.delete_server(server)
    pair.client.delete_network(made)
    pair.running.plane.publish()


def test_a_share_moves_with_its_data_and_its_users_passwords(pair: Pair, network: str) -> None:
    shares = migration_rest.Migrations(pair.client, "share")
    share = pair.share(network)
    before = pair.made(share)
    assert pair.client.allow(share, "alice").state == "active"
    key = pair.key(share, "alice")
    tree = {"log": b"before", "deep/er/chart": bytes(range(256)) * 4096}
    with smb.Client(before.location, "alice", key) as client:
        client.write_tree(tree)

        # Once in vain; who works there doesn't notice.
        with smb.writing(client, "busy") as writer:
            shares.start(share, pair.pool(NEW), new_share_type_id=pair.types[NEW])
            shares.copied(share)
            assert shares.progress(share)["total_progress"] == 100
            assert shares.cancel(share) == "migration_cancelled"
        assert writer.failures == []
        assert pair.made(share) == before

        with smb.writing(client, "busy") as writer:
            shares.start(share, pair.pool(NEW), new_share_type_id=pair.types[NEW])
            shares.copied(share)
        assert writer.failures == []
        busy = client.read("busy")
        client.write("log", b"after!")
        assert shares.complete(share) == "migration_success"

    after = pair.made(share)
    assert after.location != before.location
    found = pair.client.available(share)
    assert found.host == pair.pool(NEW)
    assert pair.key(share, "alice") == key
    with smb.Client(after.location, "alice", key) as client:
        assert client.read_tree() == {**tree, "log": b"after!", "busy": busy}
        client.write("log", b"again!")
    assert smb.refused(lambda: smb.enter_as(before.location, "alice", key))

    # And back, with the service started anew in between.
    shares.start(share, pair.pool(OLD), new_share_type_id=pair.types[OLD])
    shares.copied(share)
    pair.running.service.stop()
    pair.running.restart()
    assert shares.complete(share) == "migration_success"
    with smb.Client(pair.made(share).location, "alice", key) as client:
        assert client.read("log") == b"again!"


def test_what_cannot_move_stays_as_it_is(pair: Pair, network: str) -> None:
    shares, snapshots = (
        migration_rest.Migrations(pair.client, "share"),
        snapshot_rest.Snapshots(pair.client),
    )
    share = pair.share(network)
    assert pair.client.allow(share, "alice").state == "active"
    before, key = pair.made(share), pair.key(share, "alice")

    # To itself: nothing is done.
    shares.start(share, pair.pool(OLD))
    assert shares.ended(share) == "migration_success"
    # Elsewhere, or so that clients notice nothing.
    with pytest.raises(resources.RefusedError):
        shares.start(share, "nowhere@else#else")
    shares.start(share, pair.pool(NEW), new_share_type_id=pair.types[NEW], nondisruptive=True)
    assert shares.ended(share) == "migration_error"
    pair.client.available(share)
    # With a snapshot.
    taken = snapshots.create(share)
    shares.start(share, pair.pool(NEW), new_share_type_id=pair.types[NEW])
    assert shares.ended(share) == "migration_error"
    pair.client.available(share)
    snapshots.delete(taken.id)

    assert pair.made(share) == before
    assert smb.enter_as(before.location, "alice", key) == []


def test_a_server_moves_with_its_shares_under_their_names(pair: Pair, network: str) -> None:
    servers = migration_rest.Migrations(pair.client, "share_server")
    first, second = pair.share(network), pair.share(network)
    for share in (first, second):
        assert pair.client.allow(share, "alice").state == "active"
    before, key = pair.made(first), pair.key(first, "alice")
    names = {share: pair.made(share).location.rpartition("\\")[2] for share in (first, second)}
    assert pair.made(second).server == before.server
    for share in (first, second):
        with smb.Client(pair.made(share).location, "alice", key) as client:
            client.write("log", share.encode())
    target = f"{manila.HOST}@{NEW}"
    check = {"host": target, "writable": True, "nondisruptive": False, "preserve_snapshots": False}
    # Manila fails where this isn't said.
    check["new_share_network_id"] = None
    answer = servers.act(before.server, migration_check=check)
    assert answer["compatible"] is True
    assert answer["supported_capabilities"]["nondisruptive"] is False

    servers.start(before.server, target)
    servers.copied(before.server)
    assert servers.progress(before.server)["total_progress"] == 100
    assert servers.cancel(before.server) == "migration_cancelled"
    assert pair.made(first) == before

    servers.start(before.server, target)
    servers.copied(before.server)
    servers.act(before.server, migration_complete={})
    pair.client.wait(
        "the old server's end", lambda: pair.client.server(before.server) is None, timeout=240
    )

    for share in (first, second):
        after = pair.made(share)
        assert pair.client.available(share).host == pair.pool(NEW)
        assert after.location.rpartition("\\")[2] == names[share]
        with smb.Client(after.location, "alice", key) as client:
            assert client.read("log") == share.encode()
            client.write("log", b"again!")
    # It is as any other there.
    assert pair.client.extend(first, 2).status == "available"
    pair.client.delete_share(second)
    assert pair.made(first).server != before.server
