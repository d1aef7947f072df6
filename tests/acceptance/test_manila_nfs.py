# SPDX-License-Identifier: Apache-2.0
"""An NFS share's life through Manila's REST API, with a real NFS client at its export location."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from . import cifs, host, resources, snapshot_rest

pytestmark = cifs.BY_A_NORMAL_USER

_SUPPORT = ("snapshot", "create_share_from_snapshot", "revert_to_snapshot", "mount_snapshot")
#: libnfs 4 can't say much more in one request, and nfs-cp doesn't divide what it writes.
CONTENT = bytes(range(250)) * 10


@pytest.fixture(scope="module")
def share_type(shares: cifs.Cifs) -> str:
    """The share type that has everything about snapshots."""
    name = shares.backend.place.name
    specs = {f"{what}_support": "True" for what in _SUPPORT}
    return shares.client.create_type(f"{name}-nfs", share_backend_name=name, **specs)


@pytest.fixture
def share(shares: cifs.Cifs, network: str, share_type: str) -> Iterator[cifs.Made]:
    """An NFS share of 1 GiB without rules."""
    asked = shares.client.create_share(network=network, share_type=share_type, protocol="NFS")
    made = shares.made(asked.id)
    yield made
    if shares.client.share(made.id):
        shares.client.delete_share(made.id)
    shares.backend.plane.publish()


def test_a_share_is_written_to_while_a_rule_admits_the_client(
    shares: cifs.Cifs, share: cifs.Made, tmp_path: Path
) -> None:
    assert not _write(tmp_path, share.location, "before", CONTENT)

    rule = shares.client.allow(share.id, f"{shares.subnet}", kind="ip")
    assert rule.state == "active"
    assert _write(tmp_path, share.location, "file", CONTENT)
    assert _read(share.location, "file") == CONTENT
    # Of another kind, which the others don't mind.
    assert shares.client.allow(share.id, "alice", kind="user").state == "error"
    assert _read(share.location, "file") == CONTENT

    read_only = shares.client.change(share.id, rule.id, "ro")
    assert read_only.state == "active"
    assert _read(share.location, "file") == CONTENT
    assert not _write(tmp_path, share.location, "after", CONTENT)

    shares.client.deny(share.id, rule.id)
    assert _read(share.location, "file") is None


def test_a_snapshot_is_mounted_shared_and_gone_back_to(
    shares: cifs.Cifs, network: str, share_type: str, share: cifs.Made, tmp_path: Path
) -> None:
    snapshots = snapshot_rest.Snapshots(shares.client)
    everybody = f"{shares.subnet}"
    shares.client.allow(share.id, everybody, kind="ip")
    assert _write(tmp_path, share.location, "before", CONTENT)
    taken = snapshots.create(share.id)
    assert _write(tmp_path, share.location, "after", CONTENT)

    location = snapshots.location(taken.id)
    assert _read(location, "before") is None
    assert snapshots.allow(taken.id, everybody, "ip") == "active"
    assert _read(location, "before") == CONTENT
    assert _read(location, "after") is None
    assert not _write(tmp_path, location, "storm", CONTENT)

    other = shares.made(snapshots.share(taken.id, share_type, network, 2, "NFS"))
    assert _read(other.location, "before") is None
    shares.client.allow(other.id, everybody, kind="ip")
    assert _read(other.location, "before") == CONTENT
    assert _write(tmp_path, other.location, "theirs", CONTENT)
    shares.client.delete_share(other.id)

    assert snapshots.revert(share.id, taken.id).status == "available"
    assert _read(share.location, "before") == CONTENT
    assert _read(share.location, "after") is None
    assert _read(share.location, "theirs") is None
    with pytest.raises(resources.RefusedError, match="snapshots"):
        shares.client.delete_share(share.id)
    snapshots.deny_all(taken.id)
    assert _read(location, "before") is None
    snapshots.delete(taken.id)


def test_a_deleted_share_leaves_nothing(shares: cifs.Cifs, share: cifs.Made) -> None:
    shares.client.allow(share.id, f"{shares.subnet}", kind="ip")
    shares.client.delete_share(share.id)

    assert share.id not in str(host.loop_devices(shares.state))
    assert _read(share.location, "file") is None


def _write(directory: Path, location: str, name: str, data: bytes) -> bool:
    """Write a file to a share; tell whether the server let us."""
    (directory / "file").write_bytes(data)
    return not _run("nfs-cp", str(directory / "file"), _url(location, name)).returncode


def _read(location: str, name: str) -> bytes | None:
    """Return a share's file, unless the server doesn't let us."""
    done = _run("nfs-cat", _url(location, name))
    return None if done.returncode else done.stdout


def _url(location: str, name: str) -> str:
    address, path = location.split(":")
    return f"nfs://{address}{path}/{name}?version=4"


def _run(*words: str) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(words, capture_output=True, timeout=120, check=False)
