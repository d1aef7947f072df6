# SPDX-License-Identifier: Apache-2.0
"""How to reach volumes and shares, out of what their services tell.

Cinder's words are those of os-brick's ``connect_volume``: a ``driver_volume_type`` and its
``data``. An iSCSI target, by one portal or several::

    {"driver_volume_type": "iscsi", "data": {"target_iqn": "iqn.2010-10.org.openstack:volume-...",
     "target_portal": "192.0.2.7:3260", "target_lun": 1, "auth_method": "CHAP", ...}}

a volume of this host's own volume group::

    {"driver_volume_type": "local", "data": {"device_path": "/dev/cinder/volume-..."}}

and for a share of Manila's ``{"driver_volume_type": "nfs", "data": {"export": "HOST:/PATH"}}``.
"""

import re
from collections.abc import Mapping
from typing import Any

from container_stack import exceptions
from container_stack.rootwrap import brick_wire, commands, disk_wire
from container_stack.servers import model

#: What can be connected.
KINDS = ("iscsi", "local", "nfs")

_EXPORT = re.compile(commands.KINDS["nfs_source"])


def export(disk: model.Disk) -> str:
    """Return what NFS mounts for a share, or "" for a volume.

    :raises InvalidRequest: it isn't HOST:/PATH.
    """
    if disk.connection.get("driver_volume_type") != "nfs":
        return ""
    found = _data(disk).get("export")
    if not isinstance(found, str) or not _EXPORT.fullmatch(found):
        raise exceptions.InvalidRequest(f"Share {disk.id} has an unusable export location.")
    return found


def source(disk: model.Disk, *, multipath: bool, timeout: float) -> disk_wire.Source:
    """Return where a volume is.

    :param multipath: use all portals at once; else the first that answers.
    :param timeout: seconds that the target may take.
    :raises NotSupported: nothing here reaches such volumes, or they are encrypted.
    :raises InvalidRequest: what the volume service tells can't be.
    """
    kind, data = disk.connection.get("driver_volume_type"), _data(disk)
    if data.get("encrypted"):
        raise exceptions.NotSupported(f"Volume {disk.id} is encrypted, which isn't served.")
    try:
        if kind == "local":
            return disk_wire.Source(local=str(data["device_path"]))
        if kind == "iscsi":
            return disk_wire.Source(iscsi=_target(data, disk, multipath, timeout))
    except (KeyError, TypeError, ValueError) as exc:
        # Not the text: it may hold a secret.
        raise exceptions.InvalidRequest(
            f"What the volume service tells of volume {disk.id} is incomplete."
        ) from exc
    known = ", ".join(KINDS)
    raise exceptions.NotSupported(f"Volumes of type {kind} can't be connected; there are: {known}.")


def _data(disk: model.Disk) -> Mapping[str, Any]:
    data = disk.connection.get("data")
    if not isinstance(data, Mapping):
        raise exceptions.InvalidRequest(f"Nobody told how volume {disk.id} is connected.")
    return data


def _target(
    data: Mapping[str, Any], disk: model.Disk, multipath: bool, timeout: float
) -> brick_wire.Request:
    iqn, lun = str(data["target_iqn"]), int(data["target_lun"])
    portals = [str(data["target_portal"])]
    lists = (data.get(each) or () for each in ("target_portals", "target_iqns", "target_luns"))
    for portal, other, number in zip(*lists, strict=True):
        # Other names lead to the same volume, but by sessions of their own.
        if (other, int(number)) == (iqn, lun) and portal not in portals:
            portals.append(str(portal))
    chap = data.get("auth_method") == "CHAP"
    return brick_wire.Request(
        "connect",
        iqn=iqn,
        portals=tuple(portals),
        lun=lun,
        user=str(data["auth_username"]) if chap else "",
        secret=str(data["auth_password"]) if chap else "",
        multipath=multipath and len(portals) > 1,
        read_only=disk.read_only,
        timeout=timeout,
    )
