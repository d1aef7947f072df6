# SPDX-License-Identifier: Apache-2.0
"""``container-stack-disk``: connects volumes to this host, as root, and shows them to containers.

Nova's volumes stay connected while nova-compute is restarted, so this program does one thing and
ends; what it has done is in :mod:`container_stack.rootwrap.disk_record`. A caller can have:

- an iSCSI target's unit, or a logical volume called ``volume-UUID``, or a volume of his own state
  directory, under a volume's id below ``/run/container-stack-disks``, and no other device;
- that device's node, under a name such as ``/dev/vdb``, in one running container, with the right
  to use it; nothing of the container's is trusted for that;
- a file system that is mounted below his own directory of mounts, in one running container.

A volume that several servers have is given back by the last. It answers with JSON, and ends with
0 whenever it could answer.
"""

import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping

from container_stack import exceptions
from container_stack.rootwrap import (
    brick_session,
    config,
    disk_node,
    disk_record,
    disk_source,
    disk_tree,
    disk_wire,
)

Answer = dict[str, object]


def main() -> None:
    """Do the one thing that the arguments say; see ``container_stack.rootwrap.commands``."""
    action, *words = sys.argv[1:]
    os.environ.update(PATH=config.EXEC_DIRS.replace(",", os.pathsep), LC_ALL="C")
    os.chdir("/")
    os.umask(0o077)
    # A terminal's signals reach the whole group; who started this ends it by SIGKILL.
    for each in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    try:
        answer = _ACTIONS[action](*words)
    except exceptions.CommandFailed as exc:
        answer = {"error": "ContainerStackError", "text": str(exc)}
    except exceptions.ContainerStackError as exc:
        answer = {"error": type(exc).__name__, "text": str(exc)}
    except OSError as exc:
        answer = {"error": "ContainerStackError", "text": f"{action}: {exc.strerror}."}
    sys.stdout.write(json.dumps(answer))


def _connect(server: str, disk: str, tree: str) -> Answer:
    """Connect a volume for a server, or see to it that it still is; idempotent."""
    source = disk_wire.decode(sys.stdin.buffer.read(disk_wire.LIMIT))
    with disk_record.held(disk), contextlib.ExitStack() as undo:
        record = disk_record.read(disk) or disk_record.Record(source)
        if record.users and _place(record.source) != _place(source):
            # The array has moved it, or it was swapped for another. What others have stays.
            if record.users != [server]:
                raise exceptions.Busy(f"Volume {disk} is connected from another place.")
            _give_back(disk, record)
            record = disk_record.Record(source, stale=[*record.stale, record.number])
        if server not in record.users:
            undo.callback(_drop, disk, server)
            record.users.append(server)
            disk_record.write(disk, record)
        if not disk_source.is_still(source, record.device, record.number, tree):
            record.source = source
            if record.number and record.number not in record.stale:
                record.stale.append(record.number)
            record.device = disk_source.connect(disk, source, tree)
            record.number = os.stat(record.device).st_rdev
            disk_record.write(disk, record)
        undo.pop_all()
    return {"number": record.number}


def _disconnect(server: str, disk: str) -> Answer:
    """Take a volume from a server; the last one gives it back; idempotent."""
    with disk_record.held(disk):
        _drop(disk, server)
    return {}


def _show(
    server: str, disk: str, tree: str, container: str, pid: str, target: str, access: str
) -> Answer:
    """Let a running container use a volume of its server's, under a name in /dev; idempotent."""
    with disk_record.held(disk):
        record = disk_record.read(disk)
        if record is None or server not in record.users:
            raise exceptions.NotFound(f"Volume {disk} isn't connected for server {server}.")
        if not disk_source.is_still(record.source, record.device, record.number, tree):
            raise exceptions.ArrayUnavailable(f"Volume {disk} has gone from this host.")
        with disk_node.entered(container, int(pid)) as inside:
            for number in set(record.stale) - {0, record.number}:
                inside.forget(number)
            inside.show(target, record.number, read_only=access == "ro")
    return {}


def _hide(server: str, disk: str, container: str, pid: str, target: str) -> Answer:
    """Take the node and the right from a running container, if nobody there uses it; idempotent."""
    with disk_record.held(disk):
        record = disk_record.read(disk)
        if record is not None and record.number and server in record.users:
            with disk_node.entered(container, int(pid)) as inside:
                inside.hide(target, record.number)
    return {}


def _extend(server: str, disk: str) -> Answer:
    """Let the kernel ask for a volume's size, which has grown, and answer with it."""
    with disk_record.held(disk):
        record = disk_record.read(disk)
        if record is None or server not in record.users or not record.device:
            raise exceptions.NotFound(f"Volume {disk} isn't connected for server {server}.")
        return {"size": disk_source.extend(record.source, record.device)}


def _mount(path: str, container: str, pid: str, name: str) -> Answer:
    """Let a file system of the host's appear in a running container; idempotent."""
    with disk_node.entered(container, int(pid)) as inside:
        disk_tree.show(inside, path, name)
    return {}


def _unmount(path: str, container: str, pid: str) -> Answer:
    """Take a file system from a running container, if nothing there uses it; idempotent."""
    with disk_node.entered(container, int(pid)) as inside:
        disk_tree.hide(inside, path)
    return {}


def _initiator() -> Answer:
    """Tell this host's name among iSCSI initiators, or "" if it has none."""
    try:
        return {"initiator": brick_session.initiator_name()}
    except exceptions.HostNotReady:
        return {"initiator": ""}


def _drop(disk: str, server: str) -> None:
    record = disk_record.read(disk)
    if record is None:
        disk_record.remove(disk)
        return
    left = [user for user in record.users if user != server]
    if left:
        record.users = left
        disk_record.write(disk, record)
    else:
        _give_back(disk, record)


def _give_back(disk: str, record: disk_record.Record) -> None:
    disk_source.disconnect(disk, record.source, record.device)
    disk_record.remove(disk)


def _place(source: disk_wire.Source) -> object:
    """Return what tells two volumes from each other."""
    return (source.iscsi.iqn, source.iscsi.lun) if source.iscsi else source.local


_ACTIONS: Mapping[str, Callable[..., Answer]] = {
    "connect": _connect,
    "disconnect": _disconnect,
    "show": _show,
    "hide": _hide,
    "extend": _extend,
    "initiator": _initiator,
    "mount": _mount,
    "unmount": _unmount,
}


if __name__ == "__main__":
    main()
