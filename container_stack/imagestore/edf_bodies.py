# SPDX-License-Identifier: Apache-2.0
"""The bodies of requests to a Datera EDF array, which refuses any key that it doesn't know."""

from collections.abc import Iterable, Sequence
from typing import Any

from container_stack.host import attach
from container_stack.imagestore import edf_model as model

#: Software from which on placement is by policy, and metadata has another place.
POLICIES_SINCE = (3, 3)

_MODES = ("hybrid", "single_flash", "all_flash")

Body = dict[str, Any]


def new_app_instance(
    name: str, uuid: str, size_gib: int, replica_count: int, placement: Body
) -> Body:
    """Return the body that makes an app instance which nobody may attach."""
    made = {
        "name": model.VOLUME,
        "size": size_gib,
        "replica_count": replica_count,
        "snapshot_policies": [],
        **placement,
    }
    return {
        "create_mode": "openstack",
        "uuid": uuid,
        "name": name,
        "access_control_mode": "deny_all",
        "storage_instances": [{"name": model.STORAGE_INSTANCE, "volumes": [made]}],
    }


def new_clone(name: str, uuid: str, source: str) -> Body:
    """Return the body that makes an app instance from a snapshot, a volume or another."""
    key = "clone_src"
    if "/snapshots/" in source:
        key = "clone_snapshot_src"
    elif "/volumes/" in source:
        key = "clone_volume_src"
    return {"create_mode": "openstack", "uuid": uuid, "name": name, key: {"path": source}}


def placement(mode: str, software: Sequence[int]) -> Body:
    """Return the part of a volume's body that says on which media it lies.

    Policies are named with hyphens (Datera's Cinder driver: /placement_policies/all-flash).
    """
    if tuple(software) < POLICIES_SINCE:
        return {"placement_mode": mode}
    name = mode.replace("_", "-") if mode in _MODES else mode
    path = name if name.startswith("/") else f"/placement_policies/{name}"
    return {"placement_policy": {"path": path}}


def new_auth(chap: attach.Chap | None) -> Body:
    """Return the body that makes a target ask for this CHAP secret."""
    if chap is None:
        return {"type": "none"}
    ours = {"target_user_name": chap.user, "target_pswd": chap.secret}
    if not chap.mutual_user:
        return {"type": "chap", **ours}
    theirs = {"initiator_user_name": chap.mutual_user, "initiator_pswd": chap.mutual_secret}
    return {"type": "mchap", **ours, **theirs}


def acl(initiators: Iterable[str], groups: Iterable[str]) -> Body:
    """Return the body of an access list; the array can only replace a whole one."""
    return {
        "initiators": [{"path": path} for path in initiators],
        "initiator_groups": [{"path": path} for path in groups],
    }
