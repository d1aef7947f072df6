# SPDX-License-Identifier: Apache-2.0
"""Volumes of a simulated array, and their snapshots.

A snapshot is a copy. Where nobody can write to the volume it is made afterwards, before anybody
can; else it takes as long as that takes, and what is written meanwhile may be in it or not.
"""

import contextlib
import time
import uuid
from pathlib import Path
from typing import Any

from container_stack import exceptions
from container_stack.testing.edf import array, bodies, errors, records

Record = records.Record


class Volumes:
    """The volumes of an array, each by its app instance; threads may share it."""

    def __init__(self, made: array.Array) -> None:
        self._array = made
        self._files = made.files

    def change(self, instance: Record, body: dict[str, Any]) -> None:
        """Grow a volume, move it, or put back a snapshot."""
        bodies.check(body, bodies.volume(self._array.settings.policies))
        volume = instance["storage"]["volume"]
        with self._array.reaching(instance):
            if "size" in body:
                self._resize(instance, body["size"])
            if "restore_point" in body:
                self._restore(instance, body["restore_point"])
            placed = ("replica_count", "placement_mode", "placement_policy")
            volume.update({key: body[key] for key in placed if key in body})
            self._array.records.save(instance)

    def take_snapshot(self, instance: Record, body: dict[str, Any]) -> str:
        """Snapshot a volume; return the timestamp."""
        bodies.check(body, bodies.SNAPSHOT)
        now = time.time_ns()
        timestamp = f"{now // 10**9}.{now % 10**9:09}"
        with self._array.changing(instance):
            volume = instance["storage"]["volume"]
            if body.get("uuid") in {each["uuid"] for each in volume["snapshots"].values()}:
                raise errors.conflict(f"A snapshot {body['uuid']} exists")
            identifier = body.get("uuid") or str(uuid.uuid4())
            taken = {"uuid": identifier, "size": volume["size"], "copied": False}
            volume["snapshots"][timestamp] = taken
            self._array.begin(timestamp)
            self._array.records.save(instance)
            later = not self._array.can_be_written(instance)
            self._array.copies.begin(volume["uuid"], lambda: self._copy(instance, timestamp))
        if not later:
            self._array.copies.settle(volume["uuid"])
            if timestamp not in instance["storage"]["volume"]["snapshots"]:
                raise errors.full()
        return timestamp

    def _copy(self, instance: Record, timestamp: str) -> None:
        """Copy what a snapshot is to keep; where that can't be, there is no such snapshot."""
        identifier, copied = instance["storage"]["volume"]["uuid"], False
        with contextlib.ExitStack() as undo:
            undo.callback(self._files.drop, identifier, timestamp)
            with contextlib.suppress(exceptions.NoSpace, OSError):
                self._files.take(identifier, timestamp)
                copied = True
            # Either may have been deleted meanwhile.
            with contextlib.suppress(errors.ApiError), self._array.changing(instance):
                snapshots = instance["storage"]["volume"]["snapshots"]
                if copied and timestamp in snapshots:
                    snapshots[timestamp]["copied"] = True
                    undo.pop_all()
                else:
                    snapshots.pop(timestamp, None)
                self._array.records.save(instance)

    def drop_snapshot(self, instance: Record, timestamp: str) -> None:
        """Delete a snapshot."""
        volume = instance["storage"]["volume"]
        with self._array.changing(instance):
            snapshot_file(self._array, instance, timestamp)
            del volume["snapshots"][timestamp]
            self._array.records.save(instance)
            self._files.drop(volume["uuid"], timestamp)

    def _resize(self, instance: Record, size: int) -> None:
        volume = instance["storage"]["volume"]
        if size < volume["size"]:
            raise errors.unprocessable(f"size: {size} is less than {volume['size']}")
        self._array.require_room(size - volume["size"])
        self._files.grow(volume["uuid"], size * array.GIB)
        volume["size"] = size
        self._array.begin(volume["uuid"])
        if instance["admin_state"] == "online":
            self._array.targets.grew(instance["storage"]["iqn"])

    def _restore(self, instance: Record, timestamp: str) -> None:
        if instance["admin_state"] != "offline":
            raise errors.invalid("The app instance must be offline to be restored")
        snapshot_file(self._array, instance, timestamp)
        self._files.restore(instance["storage"]["volume"]["uuid"], timestamp)


def snapshot_file(made: array.Array, instance: Record, timestamp: str) -> Path:
    """Return the file of a snapshot that exists."""
    volume = instance["storage"]["volume"]
    if timestamp not in volume["snapshots"]:
        raise errors.not_found(f"snapshots/{timestamp}")
    return made.files.snapshot(volume["uuid"], timestamp)
