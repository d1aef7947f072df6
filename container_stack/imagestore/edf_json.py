# SPDX-License-Identifier: Apache-2.0
"""The JSON of Datera's REST interface, as plain values.

Shapes: v2.1 and v2.2 as dfs_sdk and Datera's OpenStack drivers use them. Whatever lacks something
or has another type is an :class:`~container_stack.exceptions.ArrayUnavailable`.
"""

import ipaddress
import math
import re
from typing import Any

from container_stack import exceptions
from container_stack.host import attach
from container_stack.imagestore import edf_errors
from container_stack.imagestore import edf_model as model

#: Where targets listen; the array doesn't say.
ISCSI_PORT = 3260

_PORT = re.compile(r"(\[[^\]]+\]|[^:\[\]]+):\d{1,5}")
_TIMESTAMP = re.compile(r"\d{1,20}(\.\d{1,20})?", re.ASCII)
_CLONE_KEYS = ("clone_snapshot_src", "clone_volume_src", "clone_src")


class Fields:
    """An object of the array's, whose values have the types that are asked for.

    :param where: what it is, for the message.
    """

    def __init__(self, data: Any, where: str) -> None:
        if not isinstance(data, dict):
            raise edf_errors.nonsense(where, "it is no object")
        self._data: dict[str, Any] = data
        self._where = where

    def text(self, key: str, default: str | None = None) -> str:
        """Return a text; without a default it must be there."""
        value = self._data.get(key, default)
        if value is None and default is not None:
            return default
        if not isinstance(value, str):
            raise edf_errors.nonsense(self._where, f"its {key} is no text")
        return value

    def number(self, key: str, default: int | None = None) -> int:
        """Return a number, rounded up."""
        value = self._data.get(key, default)
        if isinstance(value, float) and math.isfinite(value):
            return math.ceil(value)
        if not isinstance(value, int) or isinstance(value, bool):
            raise edf_errors.nonsense(self._where, f"its {key} is no number")
        return value

    def optional_number(self, key: str) -> int | None:
        """Return a number or its text, or None."""
        value = self._data.get(key)
        if isinstance(value, str) and value.isdecimal():
            return int(value)
        return self.number(key) if isinstance(value, int | float) else None

    def objects(self, key: str) -> list["Fields"]:
        """Return a list of objects; none when it is missing."""
        return [Fields(each, f"{key} of {self._where}") for each in self.items(key)]

    def items(self, key: str) -> list[Any]:
        value = self._data.get(key)
        if value is None:
            return []
        if not isinstance(value, list):
            raise edf_errors.nonsense(self._where, f"its {key} is no list")
        return value

    def object(self, key: str) -> "Fields":
        """Return an object; an empty one when it is missing."""
        return Fields(self._data.get(key) or {}, f"{key} of {self._where}")

    def has(self, key: str) -> bool:
        return key in self._data

    def reference(self, key: str) -> str:
        """Return the path that a key holds, alone or in an object; "" when there is none."""
        value = self._data.get(key)
        if isinstance(value, dict):
            value = value.get("path")
        return value if isinstance(value, str) else ""


def app_instance(data: Any) -> model.AppInstance:
    """Return the app instance that this describes."""
    fields = Fields(data, "an app instance")
    return model.AppInstance(
        name=fields.text("name"),
        uuid=fields.text("uuid", fields.text("id", "")),
        path=fields.text("path"),
        admin_state=fields.text("admin_state", ""),
        op_state=fields.text("op_state", ""),
        clone_of=next(filter(None, map(fields.reference, _CLONE_KEYS)), ""),
        volume=_only_volume(fields),
    )


def _only_volume(instance: Fields) -> model.Volume | None:
    for storage in instance.objects("storage_instances"):
        if storage.text("name", "") == model.STORAGE_INSTANCE:
            for each in storage.items("volumes"):
                # Some answers have only the paths of what lies deeper.
                if isinstance(each, dict) and each.get("name") == model.VOLUME and "size" in each:
                    return volume(each)
    return None


def volume(data: Any) -> model.Volume:
    """Return the volume that this describes."""
    fields = Fields(data, "a volume")
    return model.Volume(
        name=fields.text("name"),
        uuid=fields.text("uuid", ""),
        path=fields.text("path"),
        size_gib=fields.number("size"),
        capacity_in_use=fields.number("capacity_in_use", 0),
        replica_count=fields.number("replica_count", 0),
        placement=fields.reference("placement_policy") or fields.text("placement_mode", ""),
        op_state=fields.text("op_state", ""),
        op_status=fields.text("op_status", ""),
    )


def snapshot(data: Any) -> model.Snapshot:
    """Return the snapshot that this describes."""
    fields = Fields(data, "a snapshot")
    path = fields.text("path")
    timestamp = fields.text("timestamp", path.rpartition("/")[2])
    if not _TIMESTAMP.fullmatch(timestamp):
        raise edf_errors.nonsense("a snapshot", "its timestamp is none")
    return model.Snapshot(
        path=path,
        timestamp=timestamp,
        uuid=fields.text("uuid", ""),
        op_state=fields.text("op_state", ""),
    )


def system(data: Any) -> model.System:
    """Return the array that this describes."""
    fields = Fields(data, "the system")
    return model.System(
        name=fields.text("name", ""),
        sw_version=fields.text("sw_version"),
        total=fields.optional_number("total_capacity"),
        available=fields.optional_number("available_capacity"),
    )


def page(data: Any, about: Any, asked: int) -> tuple[dict[str, Any], int]:
    """Return the entries of one page of a list by their paths, and how many it could hold.

    :param about: what the array says of the page.
    :param asked: how many we wanted.
    """
    if not isinstance(data, list):
        raise edf_errors.nonsense("a list", "it is none")
    entries = {Fields(each, "an entry of a list").text("path"): each for each in data}
    limit = about.get("limit") if isinstance(about, dict) else None
    return entries, limit if isinstance(limit, int) and 0 < limit < asked else asked


def metadata(data: Any) -> dict[str, str]:
    """Return what is noted; from software 3.3 on it lies one level deeper."""
    if isinstance(data, dict) and isinstance(data.get("data"), dict):
        data = data["data"]
    if not isinstance(data, dict):
        raise edf_errors.nonsense("metadata", "they are no object")
    return {
        str(key): value if isinstance(value, str) else str(value)
        for key, value in data.items()
        if isinstance(value, str | int | float)
    }


def target(data: Any) -> attach.Target:
    """Return the target of a storage instance, without its CHAP secret.

    :raises Busy: it has none yet.
    """
    access = Fields(data, "a storage instance").object("access")
    iqn = access.text("iqn", "")
    addresses = access.items("ips")
    if not iqn or not addresses:
        raise exceptions.Busy("The volume has no target yet; bring its app instance online.")
    if not all(isinstance(each, str) and each for each in addresses):
        raise edf_errors.nonsense("access of a storage instance", "its ips are no addresses")
    return attach.Target(iqn, tuple(_portal(each) for each in addresses))


def _portal(text: str) -> str:
    try:
        address = ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return text if _PORT.fullmatch(text) else f"{text}:{ISCSI_PORT}"
    host = f"[{address}]" if address.version == 6 else str(address)
    return f"{host}:{ISCSI_PORT}"


def chap(data: Any) -> attach.Chap | None:
    """Return the CHAP secret that a target asks for, or None.

    :raises AccessDenied: there is one, and the array doesn't tell it.
    """
    auth = Fields(data, "auth of a storage instance")
    kind = auth.text("type", "none")
    if kind == "none":
        return None
    user, secret = auth.text("target_user_name", ""), auth.text("target_pswd", "")
    if kind not in ("chap", "mchap") or not user or not secret.strip("*"):
        raise exceptions.AccessDenied(
            f"The target asks for {kind} authentication and the array keeps the secret to itself; "
            f"set it anew."
        )
    if kind == "chap":
        return attach.Chap(user, secret)
    return attach.Chap(
        user, secret, auth.text("initiator_user_name", ""), auth.text("initiator_pswd", "")
    )


def version_numbers(text: str) -> tuple[int, ...]:
    """Return the numbers of a version: (3, 3, 0) of "3.3.0-rc1"."""
    found = re.match(r"\d+(\.\d+)*", text)
    return tuple(map(int, found[0].split("."))) if found else ()
