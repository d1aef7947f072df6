# SPDX-License-Identifier: Apache-2.0
"""What ``container-stack-brick`` does for one request, as root, with os-brick's iSCSI connector.

Only targets that were attached here are shared, resized and detached: a session that somebody
else on this host has (Nova, the root disk) is refused. Below :data:`STATE` each target has a file
on which every open device holds a shared lock; who can lock it alone was the last, and logs out.
The kernel takes the locks of a process that was killed.
"""

import contextlib
import fcntl
import hashlib
import importlib
import os
import shutil
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from container_stack import exceptions
from container_stack.rootwrap import brick_session, brick_wire

#: Only root writes here. It is empty after a reboot, as is the list of sessions.
STATE = Path("/run/container-stack-brick")
#: Targets that are worked on at the same time, at most; names share doors.
DOORS = 64
#: Seconds in which those who look at every new device (udev, multipathd, LVM) have done so.
SETTLED = 5.0

#: What goes into the answer, and the descriptors that go with it.
Reply = tuple[dict[str, Any], list[int]]


def preload() -> None:
    """Import os-brick, which takes a second, and let it run its commands in this process.

    It would start a daemon of oslo.privsep for them, which runs any command for its caller.

    :raises HostNotReady: it isn't installed.
    """
    _load("os_brick.privileged").default.set_client_mode(False)
    _load("os_brick.initiator.connectors.iscsi")


def check(request: brick_wire.Request) -> Reply:
    """Tell what this host has, and its initiator's name.

    :raises HostNotReady: something is missing; the text says what to install.
    """
    found = {
        "os-brick": _load("os_brick.version").version_info.version_string(),
        "open-iscsi": brick_session.version(),
    }
    brick_session.need_kernel()
    if not shutil.which("lsscsi"):
        raise exceptions.HostNotReady("lsscsi is missing; install lsscsi.")
    if request.multipath:
        found["multipath"] = brick_session.multipathd()
    return {"found": found, "initiator": brick_session.initiator_name()}, []


def connect(request: brick_wire.Request) -> Reply:
    """Log in; answer with the open device, and the lock that says so.

    :raises AccessDenied, ArrayUnavailable, Busy, HostNotReady, NotFound: nothing is left behind.
    """
    brick_session.need_kernel()
    with door(request.iqn) as marker:
        if not marker.exists() and brick_session.sessions(request.iqn):
            raise exceptions.Busy(f"Somebody else on this host uses the target {request.iqn}.")
        with contextlib.ExitStack() as undo:
            holder = os.open(marker, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            undo.callback(_leave, request, marker)
            undo.callback(os.close, holder)
            path = _share(request, holder) or _attach(request, holder)
            fcntl.flock(holder, fcntl.LOCK_SH)
            device = _open(path, request)
            undo.pop_all()
            return {}, [device, holder]


def resize(request: brick_wire.Request) -> Reply:
    """Let the kernel ask the target for the volume's size.

    :raises ArrayUnavailable: a path is down.
    """
    with door(request.iqn) as marker:
        if not marker.exists():
            raise exceptions.NotFound(f"{request.iqn} isn't attached.")
        measure(request)
        return {}, []


def disconnect(request: brick_wire.Request) -> Reply:
    """Log out, unless another open device needs the sessions. Idempotent."""
    with door(request.iqn) as marker:
        if marker.exists():
            _leave(request, marker)
        return {}, []


def abandon(request: brick_wire.Request) -> Reply:
    """Do the same for who went, or was killed in the middle of connecting. Idempotent.

    iscsid may still have the login of a process that was killed before it, or under way.
    """
    with door(request.iqn) as marker:
        if marker.exists():
            brick_session.await_daemon()
            deadline = time.monotonic() + request.login
            while not brick_session.sessions(request.iqn) and time.monotonic() < deadline:
                time.sleep(0.05)
            _leave(request, marker)
        return {}, []


@contextlib.contextmanager
def door(iqn: str) -> Iterator[Path]:
    """Keep others from the target, and yield the path of its marker."""
    STATE.mkdir(mode=0o700, exist_ok=True)
    number = zlib.crc32(iqn.encode()) % DOORS
    with open(STATE / f"door-{number}", "ab") as door:
        fcntl.flock(door, fcntl.LOCK_EX)
        locks = STATE / f"os-brick-{number}"
        # What a killed one left.
        shutil.rmtree(locks, ignore_errors=True)
        locks.mkdir()
        _load("oslo_concurrency.lockutils").set_defaults(str(locks))
        _load("os_brick.opts").set_defaults()
        try:
            yield STATE / hashlib.sha256(iqn.encode()).hexdigest()
        finally:
            shutil.rmtree(locks, ignore_errors=True)


def appear(request: brick_wire.Request) -> str:
    """Return the path of a volume's device, which the kernel has been told to look for.

    :raises NotFound: it doesn't come, or isn't the target's.
    """
    try:
        device = str(_connector(request).connect_volume(_properties(request))["path"])
    except _errors() as exc:
        raise exceptions.NotFound(f"The volume of {request.iqn} doesn't appear.") from exc
    if not brick_session.belongs(device, request.iqn):
        raise exceptions.NotFound(f"The volume of {request.iqn} appeared and went.")
    return device


def measure(request: brick_wire.Request) -> None:
    """Let the kernel ask the target for the volume's size.

    :raises ArrayUnavailable: a path is down.
    """
    try:
        _connector(request).extend_volume(_properties(request))
    except _errors() as exc:
        raise exceptions.ArrayUnavailable(f"{request.iqn} doesn't tell its size.") from exc


def vanish(request: brick_wire.Request) -> None:
    """Let the kernel forget a volume's device; idempotent."""
    # Without a device's path nothing is flushed: who wrote has done so, or gave up.
    with contextlib.suppress(*_errors()):
        _connector(request).disconnect_volume(_properties(request), None, force=True)


def _share(request: brick_wire.Request, holder: int) -> str:
    """Return the path of the device if another has it open, else nothing.

    os-brick isn't asked: if it failed, it would take the device from the other.
    """
    if _alone(holder):
        return ""
    if not any(brick_session.answers(each, request) for each in request.portals):
        raise exceptions.ArrayUnavailable(f"No portal of {request.iqn} answers.")
    return os.pread(holder, 256, 0).decode()


def _alone(holder: int) -> bool:
    try:
        fcntl.flock(holder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _attach(request: brick_wire.Request, holder: int) -> str:
    if brick_session.sessions(request.iqn):
        # Of one that was killed, and perhaps of another life of the target.
        _detach(request)
    brick_session.log_in(request)
    brick_session.scan(request)
    device = appear(request)
    if request.multipath and not brick_session.is_map(device):
        raise exceptions.HostNotReady(f"multipathd made no map of {device}; see its configuration.")
    os.truncate(holder, 0)
    os.pwrite(holder, device.encode(), 0)
    return device


def _leave(request: brick_wire.Request, marker: Path) -> None:
    with open(marker, "rb") as file:
        if _alone(file.fileno()):
            _detach(request)
            marker.unlink()


def _detach(request: brick_wire.Request) -> None:
    vanish(request)
    brick_session.log_out(request.iqn)


def _open(path: str, request: brick_wire.Request) -> int:
    """Open a device that nothing of the host's is mounted from or built on."""
    deadline = time.monotonic() + SETTLED
    while True:
        path = brick_session.top(path)
        try:
            os.close(os.open(path, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
            break
        except OSError as exc:
            if time.monotonic() > deadline:
                raise exceptions.Busy(f"{path} of {request.iqn} is in use on this host.") from exc
            time.sleep(0.05)
    access = os.O_RDONLY if request.read_only else os.O_RDWR
    return os.open(path, access | os.O_DIRECT | os.O_CLOEXEC)


def _connector(request: brick_wire.Request) -> Any:
    connectors = _load("os_brick.initiator.connectors.iscsi")
    return connectors.ISCSIConnector(
        "",
        execute=_load("container_stack.rootwrap.brick_execute").execute,
        use_multipath=request.multipath,
    )


def _properties(request: brick_wire.Request) -> dict[str, Any]:
    """Return the target in os-brick's words."""
    portals = [each for each in request.portals if brick_session.has(request.iqn, each)]
    portals = portals or list(request.portals)
    lun = min(brick_session.disks(request.iqn), default=0) if request.lun is None else request.lun
    return {
        "target_discovered": False,
        "target_portal": portals[0],
        "target_iqn": request.iqn,
        "target_lun": lun,
        "target_portals": portals,
        "target_iqns": [request.iqn] * len(portals),
        "target_luns": [lun] * len(portals),
    }


def _errors() -> tuple[type[Exception], ...]:
    return (
        _load("os_brick.exception").BrickException,
        _load("oslo_concurrency.processutils").ProcessExecutionError,
    )


def _load(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as exc:
        raise exceptions.HostNotReady(
            "os-brick is missing; install container-stack[glance] with pip."
        ) from exc
