# SPDX-License-Identifier: Apache-2.0
"""What the tags of our logical volumes mean.

A volume has ``id``, ``state``, ``owner``, ``filesystem`` and ``labels``; a snapshot has ``id``,
``volume``, ``created`` (microseconds since 1970) and ``filesystem``.
"""

import datetime
from collections.abc import Mapping

from container_stack.host import lvm_report, storage, storage_checks

#: "restoring" is followed by the snapshot's id and time: merging uses it up, and it is made anew.
CREATING, READY, RESIZING, RESTORING = "creating", "ready", "resizing", "restoring"

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MICROSECOND = datetime.timedelta(microseconds=1)


def of_new_volume(
    volume_id: str, owner: str, labels: Mapping[str, str], kind: str
) -> dict[str, str]:
    """Return the tags of a volume to be made.

    :raises InvalidRequest: a text is unusable, or too long for LVM.
    """
    storage_checks.check_words(owner, labels)
    return {
        "id": lvm_report.tag("id", volume_id),
        "state": lvm_report.tag("state", CREATING),
        "owner": lvm_report.tag("owner", lvm_report.encode(owner)),
        "filesystem": lvm_report.tag("filesystem", kind),
        "labels": lvm_report.tag("labels", lvm_report.pack(labels)),
    }


def of_new_snapshot(snapshot_id: str, volume_id: str, kind: str, created: str) -> dict[str, str]:
    """Return the tags of a snapshot to be made."""
    return {
        "id": lvm_report.tag("id", snapshot_id),
        "volume": lvm_report.tag("volume", volume_id),
        "created": lvm_report.tag("created", created),
        "filesystem": lvm_report.tag("filesystem", kind),
    }


def state(volume: lvm_report.LogicalVolume) -> str:
    """Return what is under way with a volume, or "ready"."""
    return volume.tags.get("state", READY).partition("&")[0]


def pending(volume: lvm_report.LogicalVolume) -> tuple[str, str]:
    """Return the id and time of the snapshot that a volume is being put back to."""
    _state, snapshot_id, created = volume.tags["state"].split("&")
    return snapshot_id, created


def is_partial(snapshot: lvm_report.LogicalVolume) -> bool:
    """Return whether a snapshot is half-made: LVM makes a thick one first, then attaches it."""
    return not snapshot.origin and not snapshot.pool


def as_volume(volume: lvm_report.LogicalVolume) -> storage.Volume:
    """Return what callers see of a volume."""
    return storage.Volume(
        id=volume.tags["id"],
        size=volume.size,
        owner=lvm_report.decode(volume.tags["owner"]),
        filesystem=volume.tags["filesystem"],
        labels=lvm_report.unpack(volume.tags["labels"]),
    )


def as_snapshot(
    snapshot: lvm_report.LogicalVolume, volumes: Mapping[str, lvm_report.LogicalVolume]
) -> storage.Snapshot:
    """Return what callers see of a snapshot, whose volume is among ``volumes`` if it is thick.

    A thick snapshot's own size is that of its store of old blocks; its volume can't change size.
    """
    tags = snapshot.tags
    size = snapshot.size if snapshot.pool else volumes[tags["volume"]].size
    return storage.Snapshot(tags["id"], tags["volume"], size, time(tags["created"]))


def now() -> str:
    """Return the time for a tag."""
    return str((datetime.datetime.now(datetime.UTC) - _EPOCH) // _MICROSECOND)


def time(created: str) -> datetime.datetime:
    """Return the time in a tag."""
    return _EPOCH + int(created) * _MICROSECOND
