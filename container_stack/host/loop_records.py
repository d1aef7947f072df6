# SPDX-License-Identifier: Apache-2.0
"""What loop storage records of a volume and of a snapshot."""

import datetime
from collections.abc import Mapping

from container_stack.host import records, storage, storage_checks

CREATING, DELETING = "creating", "deleting"
READY, RESIZING, RESTORING = "ready", "resizing", "restoring"
#: States of what must be removed, not used.
PARTIAL = (CREATING, DELETING)

_UNIT = 4096


def new_volume(
    volume_id: str, size: int, owner: str, labels: Mapping[str, str] | None, kind: str
) -> records.Record:
    """Return the record of a volume to be made.

    ``shared`` says whether it may share blocks with others; it stays when they are gone.

    :raises InvalidRequest: anything in it is unusable.
    """
    storage_checks.check_id(volume_id)
    storage_checks.check_words(owner, labels or {})
    return {
        "state": CREATING,
        "size": rounded(size, kind),
        "owner": owner,
        "filesystem": kind,
        "labels": dict(labels or {}),
        "shared": False,
    }


def new_snapshot(volume_id: str, volume: records.Record, cost: int) -> records.Record:
    """Return the record of a snapshot to be made.

    :param cost: bytes that it may come to occupy.
    """
    return {
        "state": CREATING,
        "volume_id": volume_id,
        "size": volume["size"],
        "filesystem": volume["filesystem"],
        "created_at": datetime.datetime.now(datetime.UTC).isoformat(),
        "cost": cost,
    }


def as_volume(name: str, record: records.Record) -> storage.Volume:
    """Return what callers see of a volume's record."""
    return storage.Volume(
        id=name,
        size=record["size"],
        owner=record["owner"],
        filesystem=record["filesystem"],
        labels=dict(record["labels"]),
    )


def as_snapshot(name: str, record: records.Record) -> storage.Snapshot:
    """Return what callers see of a snapshot's record."""
    created = datetime.datetime.fromisoformat(record["created_at"])
    return storage.Snapshot(name, record["volume_id"], record["size"], created)


def rounded(size: int, kind: str) -> int:
    """Return a volume's size, rounded up to whole blocks.

    :raises InvalidRequest: it can't hold a file system.
    """
    storage_checks.check_size(size, kind)
    return -(-size // _UNIT) * _UNIT
