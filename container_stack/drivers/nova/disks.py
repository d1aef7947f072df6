# SPDX-License-Identifier: Apache-2.0
"""Nova's block devices and shares as disks of servers."""

from collections.abc import Sequence
from typing import Any

from nova.virt import driver

from container_stack import exceptions
from container_stack.servers import model

#: What Nova calls the first device of a server, whether there is one or not.
BOOT_INDEX = 0


def disks(block_device_info: Any) -> tuple[model.Disk, ...]:
    """Return the volumes of a server.

    :raises NotSupported: it asks for swap or ephemeral disks of devices of its own.
    """
    mapping = driver.block_device_info_get_mapping(block_device_info)
    return tuple(_of_mapping(each) for each in mapping)


def refuse_boot(found: Sequence[model.Disk]) -> None:
    """Refuse a volume to boot from, before an image is looked for that there isn't.

    :raises InvalidRequest: there is one; no other host takes it either.
    """
    for each in found:
        if each.boot:
            raise exceptions.InvalidRequest(
                f"Servers boot from images, not from volume {each.id}: boot an image and attach it."
            )


def disk(connection_info: Any, mountpoint: str) -> model.Disk:
    """Return one volume, as it is attached or detached."""
    return _disk(connection_info, mountpoint, boot=False)


def share(mapping: Any) -> model.Disk:
    """Return a share of Manila's, as Nova maps it to a server."""
    if mapping.share_proto != "NFS":
        raise exceptions.NotSupported(f"Shares of {mapping.share_proto} aren't served; use NFS.")
    return model.Disk(
        id=mapping.share_id,
        connection={"driver_volume_type": "nfs", "data": {"export": mapping.export_location}},
        target=f"/{mapping.tag}",
    )


def _of_mapping(each: Any) -> model.Disk:
    boot = each.get("boot_index") == BOOT_INDEX
    return _disk(each["connection_info"], each["mount_device"], boot=boot)


def _disk(connection_info: Any, mountpoint: str, *, boot: bool) -> model.Disk:
    data = connection_info.get("data") or {}
    volume_id = connection_info.get("serial") or data.get("volume_id")
    if not volume_id:
        raise exceptions.InvalidRequest("A volume without an id can't be attached.")
    return model.Disk(
        id=str(volume_id),
        connection=connection_info,
        target=str(mountpoint),
        read_only=data.get("access_mode") == "ro",
        boot=boot,
    )


def identifiers(found: Sequence[model.Disk]) -> tuple[str, ...]:
    """Return the ids of disks."""
    return tuple(each.id for each in found)
