# SPDX-License-Identifier: Apache-2.0
"""Nova's block devices and shares as disks of servers."""

import os
from collections.abc import Sequence
from typing import Any

from nova.virt import driver

from container_stack import exceptions
from container_stack.servers import disk_usage, model

GIB = 1024**3
#: The file system of ephemeral disks.
EPHEMERAL = "ext4"
#: What Nova calls the first device of a server, whether there is one or not.
BOOT_INDEX = 0


def disks(block_device_info: Any) -> tuple[model.Disk, ...]:
    """Return the volumes of a server.

    :raises NotSupported: it asks for swap or ephemeral disks of devices of its own.
    """
    mapping = driver.block_device_info_get_mapping(block_device_info)
    return tuple(_of_mapping(each) for each in mapping)


def ephemerals(block_device_info: Any, ephemeral_gb: int) -> tuple[model.Ephemeral, ...]:
    """Return the ephemeral disks of a server, called as the devices that Nova names.

    Nova keeps the size that each was asked for, also when a resize gives the server more: so the
    only one has all that the flavor gives.

    :raises InvalidRequest: one is to be of another kind, or encrypted.
    """
    found = driver.block_device_info_get_ephemerals(block_device_info)
    for each in found:
        if each["encrypted"] or (each["guest_format"] or EPHEMERAL) != EPHEMERAL:
            raise exceptions.InvalidRequest(
                f"Ephemeral disks are {EPHEMERAL}, and not encrypted: ask for no other."
            )
    sizes = [each["size"] for each in found] if len(found) > 1 else [ephemeral_gb]
    return tuple(
        model.Ephemeral(os.path.basename(each["device_name"] or f"ephemeral{number}"), size * GIB)
        for number, (each, size) in enumerate(zip(found, sizes, strict=False))
    )


def refuse_smaller(block_device_info: Any, ephemeral_gb: int) -> None:
    """Refuse a flavor with less room than a server's ephemeral disks were made with.

    :raises InvalidRequest: telling both.
    """
    found = driver.block_device_info_get_ephemerals(block_device_info)
    size = sum(int(each["size"]) for each in found)
    if size > ephemeral_gb:
        raise exceptions.InvalidRequest(
            f"The server's ephemeral disks have {size} GB, and the flavor gives {ephemeral_gb}: "
            "disks don't shrink."
        )


def refuse_imageless(instance: Any) -> None:
    """Refuse a server that isn't booted from an image, before its volume is made.

    :raises InvalidRequest: it isn't.
    """
    if not instance.image_ref:
        raise exceptions.InvalidRequest(
            "Servers boot from images, not from volumes: boot an image and attach the volume."
        )


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


def used(volume_id: str, instance: Any, measured: disk_usage.Usage) -> dict[str, Any]:
    """Return what a volume has seen, as Nova's telemetry wants it."""
    names = ("rd_req", "rd_bytes", "wr_req", "wr_bytes")
    values = dict(zip(names, counters(measured), strict=False))
    return {"volume": volume_id, "instance": instance, **values}


def counters(measured: disk_usage.Usage) -> list[int]:
    """Return the same as a list, with the errors, of which the kernel doesn't tell."""
    return [measured.reads, measured.read, measured.writes, measured.written, 0]


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
