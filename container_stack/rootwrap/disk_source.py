# SPDX-License-Identifier: Apache-2.0
"""Devices of volumes, found, checked and given back by root for ``container-stack-disk``."""

import contextlib
import os
import re
import stat
from pathlib import Path

from container_stack import exceptions
from container_stack.rootwrap import brick_session, brick_target, brick_wire, disk_record, disk_wire


def connect(disk_id: str, source: disk_wire.Source, tree: str) -> str:
    """Return the path of a volume's device below /dev, by which nobody else reaches another.

    :param tree: the caller's directory of mounts: loop devices of his state directory are his.
    :raises NotFound, Busy, ArrayUnavailable, AccessDenied, HostNotReady: nothing is left behind.
    """
    if source.iscsi:
        return _connect_target(disk_id, source.iscsi)
    return _local(source.local, tree)


def is_still(source: disk_wire.Source, device: str, number: int, tree: str) -> bool:
    """Tell whether a device that was a volume's once is so now."""
    try:
        if not number or os.stat(device).st_rdev != number:
            return False
        if source.local:
            return _local(source.local, tree) == device
        assert source.iscsi is not None
        return brick_session.belongs(device, source.iscsi.iqn) and _is_unit(device, source.iscsi)
    except (OSError, exceptions.ContainerStackError):
        return False


def disconnect(disk_id: str, source: disk_wire.Source, device: str) -> None:
    """Write out what is cached of a volume, and log out of a target that has no other; idempotent.

    :raises Busy: a session doesn't end.
    """
    if not source.iscsi:
        _flush(device)
        return
    with brick_target.door(source.iscsi.iqn):
        if device and brick_session.belongs(device, source.iscsi.iqn):
            _flush(device)
        _leave(disk_id, source.iscsi)


def extend(source: disk_wire.Source, device: str) -> int:
    """Let the kernel ask a target for a volume's size, and return the device's, in bytes.

    :raises ArrayUnavailable: a path is down.
    """
    if source.iscsi:
        brick_target.preload()
        with brick_target.door(source.iscsi.iqn):
            brick_target.measure(source.iscsi)
    descriptor = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.lseek(descriptor, 0, os.SEEK_END)
    finally:
        os.close(descriptor)


def _connect_target(disk_id: str, request: brick_wire.Request) -> str:
    brick_target.preload()
    brick_session.need_kernel()
    with brick_target.door(request.iqn) as marker:
        ours = disk_record.target_is_used(request.iqn, disk_id) or disk_record.read(disk_id)
        if marker.exists() or (brick_session.sessions(request.iqn) and not ours):
            raise exceptions.Busy(f"Somebody else on this host uses the target {request.iqn}.")
        with contextlib.ExitStack() as undo:
            undo.callback(_leave, disk_id, request)
            brick_session.log_in(request)
            brick_session.scan(request)
            device = brick_session.top(brick_target.appear(request))
            if request.multipath and not brick_session.is_map(device):
                raise exceptions.HostNotReady(f"multipathd made no map of {device}.")
            undo.pop_all()
    return device


def _leave(disk_id: str, request: brick_wire.Request) -> None:
    """Remove a target's unit, and its sessions if no other volume needs them."""
    brick_target.preload()
    brick_target.vanish(request)
    if not disk_record.target_is_used(request.iqn, disk_id):
        brick_session.log_out(request.iqn)


def _is_unit(device: str, request: brick_wire.Request) -> bool:
    """Tell whether a SCSI disk, or each below a map, has the number that is wanted."""
    if request.lun is None:
        return True
    name = os.path.basename(device)
    parts = os.listdir(f"/sys/block/{name}/slaves") if brick_session.is_map(device) else [name]
    homes = [os.path.realpath(f"/sys/block/{part}/device") for part in parts]
    return bool(homes) and all(home.rpartition(":")[2] == str(request.lun) for home in homes)


def _local(path: str, tree: str) -> str:
    """Return the device that a path below /dev leads to, if it is a volume's.

    :raises NotFound: there is none.
    :raises InvalidRequest: it is another device.
    """
    device = os.path.realpath(path)
    try:
        if not stat.S_ISBLK(os.stat(device).st_mode):
            raise exceptions.InvalidRequest(f"{path} is no block device.")
    except FileNotFoundError as exc:
        raise exceptions.NotFound(f"This host has no volume {path}.") from exc
    name = os.path.basename(device)
    if re.fullmatch("dm-[0-9]+", name):
        good = _is_logical_volume(Path("/sys/block", name, "dm"), path)
    else:
        # Volumes of the loop storage are files in the state directory.
        backing = Path("/sys/block", name, "loop", "backing_file")
        volumes = os.path.realpath(os.path.join(os.path.dirname(tree), "volumes"))
        good = backing.exists() and os.path.dirname(backing.read_text().strip()) == volumes
    if not good:
        raise exceptions.InvalidRequest(f"{path} leads to {device}, which isn't that volume.")
    return device


def _is_logical_volume(directory: Path, path: str) -> bool:
    """Tell whether device-mapper calls a device as LVM calls the volume: hyphens are doubled."""
    group, volume = (part.replace("-", "--") for part in path.split("/")[2:])
    uuid = (directory / "uuid").read_text(encoding="ascii")
    name = (directory / "name").read_text(encoding="ascii").strip()
    return uuid.startswith("LVM-") and name == f"{group}-{volume}"


def _flush(device: str) -> None:
    """Bring what is cached of a device to where it belongs, if that still can be."""
    with contextlib.suppress(OSError):
        descriptor = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
