# SPDX-License-Identifier: Apache-2.0
"""Snapshots, and what administrators manage, through Manila's REST API with real SMB clients."""

from collections.abc import Iterator

import pytest

from . import cifs, resources, smb, snapshot_rest

pytestmark = cifs.BY_A_NORMAL_USER

_SUPPORT = ("snapshot", "create_share_from_snapshot", "revert_to_snapshot", "mount_snapshot")


@pytest.fixture(scope="module")
def share_type(shares: cifs.Cifs) -> str:
    """The share type that has everything about snapshots."""
    name = shares.backend.place.name
    specs = {f"{what}_support": "True" for what in _SUPPORT}
    return shares.client.create_type(f"{name}-snapshots", share_backend_name=name, **specs)


@pytest.fixture(scope="module")
def snapshots(shares: cifs.Cifs) -> snapshot_rest.Snapshots:
    return snapshot_rest.Snapshots(shares.client)


@pytest.fixture
def share(shares: cifs.Cifs, network: str, share_type: str) -> Iterator[cifs.Made]:
    """A share of 1 GiB with ``log`` in it, and a rule for alice."""
    asked = shares.client.create_share(network=network, share_type=share_type)
    made = shares.made(asked.id)
    _write(made.location, shares.key(made, "alice"), b"before")
    yield made
    if shares.client.share(made.id):
        shares.client.delete_share(made.id)
    shares.backend.plane.publish()


def test_the_pool_says_what_it_can(shares: cifs.Cifs) -> None:
    [pool] = shares.client.pools(shares.backend.host)

    assert all(pool.capabilities[f"{what}_support"] is True for what in _SUPPORT)


def test_a_snapshot_is_seen_shared_and_gone_back_to(
    shares: cifs.Cifs,
    snapshots: snapshot_rest.Snapshots,
    network: str,
    share_type: str,
    share: cifs.Made,
) -> None:
    key = shares.key_of(share, "alice")
    with smb.Client(share.location, "alice", key) as client, smb.writing(client, "busy") as writer:
        made = snapshots.create(share.id)
    assert (made.status, made.size, writer.failures) == ("available", 1, [])
    _write(share.location, key, b"after!")

    # Mounted, for who has a rule for it, and read-only.
    location = snapshots.location(made.id)
    assert smb.refused(lambda: smb.enter_as(location, "alice", key))
    assert snapshots.allow(made.id, "alice") == "active"
    assert _read(location, key) == b"before"
    assert smb.refused(lambda: _write(location, key, b"storm"))
    assert snapshots.allow(made.id, "alice.example.org", "cert") == "error"
    assert _read(location, key) == b"before"

    # A share of its own, larger.
    asked = snapshots.share(made.id, share_type, network, 2)
    other = shares.made(asked)
    theirs = shares.key(other, "alice")
    assert _read(other.location, theirs) == b"before"
    with smb.Client(other.location, "alice", theirs) as client:
        assert client.size() > 1.9 * 1024**3
    shares.client.delete_share(other.id)

    # Only the latest is gone back to, also after the share has grown.
    latest = snapshots.create(share.id)
    with pytest.raises(resources.RefusedError, match="most recent"):
        snapshots.revert(share.id, made.id)
    shares.client.extend(share.id, 2)
    _write(share.location, key, b"later!")
    reverted = snapshots.revert(share.id, latest.id)
    assert (reverted.status, reverted.size) == ("available", 1)
    assert _read(share.location, key) == b"after!"
    _write(share.location, key, b"again!")

    with pytest.raises(resources.RefusedError, match="snapshots"):
        shares.client.delete_share(share.id)
    snapshots.deny_all(made.id)
    assert smb.refused(lambda: smb.enter_as(location, "alice", key))
    for each in (latest, made):
        snapshots.delete(each.id)


def test_a_share_that_cannot_shrink_stays_as_it_is(
    shares: cifs.Cifs, snapshots: snapshot_rest.Snapshots, share: cifs.Made
) -> None:
    shares.client.extend(share.id, 2)

    assert snapshots.shrink(share.id, 1).status == "available"

    found = shares.client.share(share.id)
    assert found is not None
    assert found.size == 2
    assert shares.client.messages(share.id)
    assert _read(share.location, shares.key_of(share, "alice")) == b"before"


def test_what_manila_forgets_it_takes_up_again(
    shares: cifs.Cifs, snapshots: snapshot_rest.Snapshots, network: str, share_type: str
) -> None:
    with shares.network() as own:
        asked = shares.client.create_share(network=own, share_type=share_type)
        share = shares.made(asked.id)
        pool = shares.client.available(share.id).host
        key = shares.key(share, "alice")
        _write(share.location, key, b"before")
        taken = snapshots.create(share.id)

        # Snapshot.
        snapshots.unmanage(taken.id)
        unknown = snapshots.manage(share.id, "no-such")
        assert unknown.status == "manage_error"
        snapshots.unmanage(unknown.id)
        again = snapshots.manage(share.id, taken.provider_location)
        assert (again.status, again.size) == ("available", 1)
        assert snapshots.revert(share.id, again.id).status == "available"
        snapshots.delete(again.id)

        # Share: its client doesn't notice.
        with smb.Client(share.location, "alice", key) as client, client.open("log", "rb") as file:
            snapshots.unmanage_share(share.id)
            assert file.read() == b"before"
        for wrong in (r"\\192.0.2.1\etc", share.location + r"\..", "/etc"):
            refused = snapshots.manage_share(pool, share.server, wrong, share_type)
            assert refused.status == "manage_error"
            snapshots.unmanage_share(refused.id)

        # Server, with the share on it.
        server = shares.client.server(share.server)
        assert server is not None
        snapshots.unmanage_server(share.server)
        assert smb.enter_as(share.location, "alice", key) == ["log"]
        host = shares.backend.host
        absent = snapshots.manage_server(host, own, "cs-share-no-such")
        assert absent.status == "manage_error"
        snapshots.unmanage_server(absent.id)
        found = snapshots.manage_server(host, own, server.identifier)
        assert found.status == "active"

        managed = snapshots.manage_share(pool, found.id, share.location, share_type)
        assert (managed.status, managed.size) == ("available", 1)
        assert shares.client.exports(managed.id) == [share.location]
        mine = shares.made(managed.id)
        assert shares.client.extend(mine.id, 2).status == "available"
        assert _read(mine.location, shares.key(mine, "alice")) == b"before"
        shares.client.delete_share(mine.id)


def _write(location: str, key: str, data: bytes) -> None:
    with smb.Client(location, "alice", key) as client:
        client.write("log", data)


def _read(location: str, key: str) -> bytes:
    with smb.Client(location, "alice", key) as client:
        return client.read("log")
