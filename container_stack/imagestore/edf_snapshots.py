# SPDX-License-Identifier: Apache-2.0
"""Snapshots of one volume on a Datera EDF array."""

import logging
import re
import uuid
from typing import Any

from container_stack import exceptions
from container_stack.imagestore import edf_calls, edf_json
from container_stack.imagestore import edf_model as model

LOG = logging.getLogger(__name__)

_PATH = re.compile(r"/app_instances(/[\w\-.]+)+/snapshots/[\w\-.]+", re.ASCII)


def make(calls: edf_calls.Calls, volume: str) -> model.Snapshot:
    """Make a snapshot of a volume and wait until it can be cloned.

    :param volume: its path.
    """
    ours = str(uuid.uuid4())
    path = f"{volume}/snapshots"

    def find() -> Any:
        ids = ((edf_json.snapshot(each).uuid, each) for each in _entries(calls, volume))
        return next((each for found, each in ids if found.lower() == ours), None)

    try:
        made = edf_json.snapshot(calls.post(path, {"uuid": ours}, find))
    except exceptions.AlreadyExists as exc:
        # Not the name, which is ours alone: the volume is in the way.
        raise exceptions.Busy(str(exc)) from exc
    snapshot = calls.wait(
        f"The snapshot {made.timestamp} to be available",
        lambda: edf_json.snapshot(calls.get(f"{path}/{made.timestamp}")),
        lambda each: each.op_state == model.AVAILABLE,
    )
    LOG.info("Made snapshot %(path)s", {"path": snapshot.path})
    return snapshot


def every(calls: edf_calls.Calls, volume: str) -> list[model.Snapshot]:
    """Return the snapshots of a volume, oldest first."""
    found = map(edf_json.snapshot, _entries(calls, volume))
    return sorted(found, key=lambda each: float(each.timestamp))


def delete(calls: edf_calls.Calls, path: str) -> bool:
    """Delete a snapshot; return whether there was one."""
    if not _PATH.fullmatch(path):
        raise exceptions.InvalidRequest(f"{path!r} is no snapshot's path.")
    there = calls.delete(path)
    if there:
        LOG.info("Deleted snapshot %(path)s", {"path": path})
    return there


def _entries(calls: edf_calls.Calls, volume: str) -> list[Any]:
    try:
        return list(calls.pages(f"{volume}/snapshots"))
    except exceptions.NotFound:
        calls.get(volume)
        return []
