# SPDX-License-Identifier: Apache-2.0
"""Records of new app instances, from what a request says of them."""

import dataclasses
import uuid
from pathlib import Path
from typing import Any

from container_stack.testing.edf import bodies, errors, records

#: Where names of targets begin.
PREFIX = "iqn.2013-05.com.daterainc:tc:01:sn:"

Record = records.Record
Body = dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Source:
    """What is cloned.

    :param file: with its data.
    :param size: GiB.
    """

    instance: Record
    file: Path
    size: int


def source_path(body: Body) -> tuple[str, list[str]] | None:
    """Return the key that names a source, and the words of its path; None if there is none."""
    keys = [key for key in body if key.startswith("clone_")]
    if not keys:
        return None
    if len(keys) > 1 or body.get("storage_instances"):
        raise errors.unprocessable("clone one source, and name no storage instances")
    words = str(body[keys[0]].get("path", "")).strip("/").split("/")
    wanted = {"clone_src": 2, "clone_volume_src": 6, "clone_snapshot_src": 8}[keys[0]]
    if words[0] != "app_instances" or len(words) != wanted:
        raise errors.unprocessable(f"{keys[0]}: /{'/'.join(words)} is no such path")
    return keys[0], words


def app_instance(tenant: str, body: Body, source: Source | None, *, policies: bool) -> Record:
    """Return the record of a new app instance."""
    if source is None:
        storage, volume = _new(body, policies)
    else:
        old = source.instance["storage"]
        storage, volume = old["name"], {**old["volume"], "size": source.size}
    return {
        "name": body["name"],
        "uuid": body.get("uuid") or str(uuid.uuid4()),
        "tenant": tenant,
        "descr": body.get("descr", ""),
        "create_mode": body.get("create_mode", "normal"),
        "admin_state": "offline",
        "metadata": {},
        "source": {key: body[key] for key in body if key.startswith("clone_")},
        "storage": {
            "name": storage,
            "uuid": str(uuid.uuid4()),
            "iqn": PREFIX + uuid.uuid4().hex[:16],
            "access_control_mode": body.get("access_control_mode", "deny_all"),
            "initiators": [],
            "initiator_groups": [],
            "auth": {"type": "none"},
            "volume": {**volume, "uuid": str(uuid.uuid4()), "snapshots": {}},
        },
    }


def _new(body: Body, policies: bool) -> tuple[str, Record]:
    """Return the name of a storage instance and the beginnings of its volume."""
    storages = body.get("storage_instances", [])
    if len(storages) != 1 or len(storages[0].get("volumes", [])) != 1:
        raise errors.unprocessable("this simulator has one volume in one storage instance")
    [volume] = storages[0]["volumes"]
    bodies.check(storages[0], bodies.storage_instance(policies), "name")
    bodies.check(volume, bodies.new_volume(policies), "name", "size")
    placement = (
        {"placement_policy": {"path": "/placement_policies/default"}}
        if policies
        else {"placement_mode": "hybrid"}
    )
    given = {key: value for key, value in volume.items() if key != "snapshot_policies"}
    return str(storages[0]["name"]), {**placement, "replica_count": 3, **given}
