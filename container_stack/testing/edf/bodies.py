# SPDX-License-Identifier: Apache-2.0
"""What may stand in a request's body; a key that the array doesn't know is refused.

A schema gives for each key what its value must be: a type, a set of choices, another schema, a
list of one schema, or a function that tells whether the value will do.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from container_stack.testing.edf import errors

Schema = Mapping[str, Any]

NAME = re.compile(r"[a-zA-Z_][\w\-.]{2,63}", re.ASCII)
UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", re.ASCII)


def name(value: Any) -> bool:
    """Tell whether an app instance may be called so."""
    return isinstance(value, str) and bool(NAME.fullmatch(value) or UUID.fullmatch(value))


def uuid(value: Any) -> bool:
    return isinstance(value, str) and bool(UUID.fullmatch(value))


def within(low: int, high: int) -> Callable[[Any], bool]:
    """Return a function that admits whole numbers from the one to the other."""

    def fits(value: Any) -> bool:
        return isinstance(value, int) and type(value) is not bool and low <= value <= high

    return fits


REFERENCE: Schema = {"path": str}
LOGIN: Schema = {"name": str, "password": str, "remote_server": str}
TENANT: Schema = {"name": str, "descr": str}
ADMIN_STATE = {"online", "offline"}
ACCESS = {"deny_all", "allow_all"}
SNAPSHOT: Schema = {"uuid": uuid}
ACL: Schema = {"initiators": [REFERENCE], "initiator_groups": [REFERENCE]}
AUTH: Schema = {
    "type": {"none", "chap", "mchap"},
    "initiator_user_name": str,
    "initiator_pswd": str,
    "target_user_name": str,
    "target_pswd": str,
}
GROUP: Schema = {"name": str, "members": [REFERENCE]}
STORAGE_CHANGE: Schema = {
    "access_control_mode": ACCESS,
    "acl_policy": ACL,
    "auth": AUTH,
    "ip_pool": REFERENCE,
    "force": bool,
}
INSTANCE_CHANGE: Schema = {"admin_state": ADMIN_STATE, "force": bool, "descr": str}


def initiator(version: str) -> Schema:
    """Return the schema of a new initiator; only v2.2 knows ``force``."""
    return {"id": str, "name": str, **({"force": bool} if version != "v2.1" else {})}


def volume(policies: bool) -> Schema:
    """Return the schema of a change to a volume."""
    placement: Schema = (
        {"placement_policy": REFERENCE}
        if policies
        else {"placement_mode": {"hybrid", "single_flash", "all_flash"}}
    )
    return {
        "size": within(1, 32768),
        "replica_count": within(1, 5),
        "restore_point": str,
        **placement,
    }


def new_volume(policies: bool) -> Schema:
    """Return the schema of a volume that is to be made."""
    changes = {key: value for key, value in volume(policies).items() if key != "restore_point"}
    return {"name": name, "snapshot_policies": list, **changes}


def storage_instance(policies: bool) -> Schema:
    """Return the schema of a storage instance that is to be made."""
    return {
        "name": name,
        "volumes": [new_volume(policies)],
        "access_control_mode": ACCESS,
        "ip_pool": REFERENCE,
    }


def app_instance(policies: bool) -> Schema:
    """Return the schema of a new app instance."""
    return {
        "name": name,
        "uuid": uuid,
        "descr": str,
        "create_mode": {"openstack", "normal"},
        "access_control_mode": ACCESS,
        "storage_instances": [storage_instance(policies)],
        "clone_src": REFERENCE,
        "clone_volume_src": REFERENCE,
        "clone_snapshot_src": REFERENCE,
    }


def check(body: Any, schema: Schema, *required: str, where: str = "body") -> dict[str, Any]:
    """Return the body, if it obeys the schema.

    :param required: keys that it must have.
    """
    if not isinstance(body, dict):
        raise errors.unprocessable(f"{where} must be an object")
    for key in required:
        if key not in body:
            raise errors.unprocessable(f"{where}: {key} is required")
    for key, value in body.items():
        if key not in schema:
            raise errors.unprocessable(f"{where}: additional property {key} is not allowed")
        _check(value, schema[key], f"{where}.{key}")
    return body


def _check(value: Any, wanted: Any, where: str) -> None:
    if isinstance(wanted, dict):
        check(value, wanted, where=where)
    elif isinstance(wanted, list):
        if not isinstance(value, list):
            raise errors.unprocessable(f"{where} must be a list")
        for each in value:
            check(each, wanted[0], where=where)
    elif not _fits(value, wanted):
        raise errors.unprocessable(f"{where}: {value!r} is not valid")


def _fits(value: Any, wanted: Any) -> bool:
    if isinstance(wanted, set):
        return isinstance(value, str) and value in wanted
    if isinstance(wanted, type):
        return isinstance(value, wanted)
    return bool(wanted(value))
