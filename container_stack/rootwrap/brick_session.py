# SPDX-License-Identifier: Apache-2.0
"""The sessions of this host's iSCSI initiator, as the kernel and open-iscsi keep them."""

import contextlib
import os
import re
import socket
import subprocess
import time
from pathlib import Path

from container_stack import exceptions
from container_stack.rootwrap import brick_record, brick_wire

INITIATOR_NAME = Path("/etc/iscsi/initiatorname.iscsi")
SESSIONS = Path("/sys/class/iscsi_session")
TRANSPORT = Path("/sys/class/iscsi_transport/tcp")
#: Where iscsid, or systemd for it, listens.
DAEMON = "@ISCSIADM_ABSTRACT_NAMESPACE"
#: A session that was ended is gone after so many seconds at most.
ENDED = 10
#: Exit codes of iscsiadm (open-iscsi, include/iscsi_err.h): refused for good, which tgt also says
#: to initiators that its list doesn't hold; refused for who we are; logged in already; no login
#: in time.
_FATAL, _DENIED, _EXISTS, _NO_LOGIN = 19, 24, 15, 8


def version() -> str:
    """Return open-iscsi's version.

    :raises HostNotReady: it isn't installed.
    """
    return _iscsiadm("--version").rpartition(" ")[2]


def initiator_name() -> str:
    """Return this host's name (IQN).

    :raises HostNotReady: it has none.
    """
    match = re.search(r"^InitiatorName=(\S+)", _read(INITIATOR_NAME), re.MULTILINE)
    if not match:
        raise exceptions.HostNotReady(f"{INITIATOR_NAME} names no initiator; install open-iscsi.")
    return match[1]


def need_kernel() -> None:
    """Load the kernel's initiator.

    :raises HostNotReady: there is none, or its daemon doesn't run.
    """
    if not TRANSPORT.exists():
        with contextlib.suppress(OSError):
            subprocess.run(["modprobe", "--quiet", "iscsi_tcp"], check=False)
    if not TRANSPORT.exists():
        raise exceptions.HostNotReady("This kernel has no iSCSI initiator (module iscsi_tcp).")
    if DAEMON not in Path("/proc/net/unix").read_text(encoding="utf-8"):
        raise exceptions.HostNotReady(
            "iscsid doesn't run; start it: systemctl enable --now iscsid.socket."
        )


def await_daemon() -> None:
    """Wait until iscsid has read what others asked it before.

    It takes connections in their order, one at a time, and drops one that asks for nothing.
    """
    with (
        contextlib.suppress(ConnectionError),
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as channel,
    ):
        channel.connect("\0" + DAEMON.removeprefix("@"))
        channel.shutdown(socket.SHUT_WR)
        while channel.recv(4096):
            continue


def multipathd() -> str:
    """Return what multipathd says of itself.

    :raises HostNotReady: it doesn't run.
    """
    argv = ("multipathd", "show", "daemon")
    with contextlib.suppress(OSError):
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if not done.returncode:
            return done.stdout.strip()
    raise exceptions.HostNotReady("multipathd doesn't run; install multipath-tools and start it.")


def sessions(iqn: str) -> list[Path]:
    """Return the directories in sysfs of the sessions with a target."""
    return [path.parent for path in SESSIONS.glob("*/targetname") if _read(path) == iqn]


def has(iqn: str, portal: str) -> bool:
    """Tell whether there is a session with a target through a portal."""
    for session in sessions(iqn):
        for connection in session.glob("device/connection*/iscsi_connection/*"):
            values = [_read(connection / f"persistent_{each}") for each in ("address", "port")]
            if values == brick_wire.halves(portal):
                return True
    return False


def answers(portal: str, request: brick_wire.Request) -> bool:
    """Tell whether somebody listens at a portal."""
    address, port = brick_wire.halves(portal)
    try:
        socket.create_connection((address, int(port)), timeout=request.timeout / 4).close()
    except OSError:
        return False
    return True


def log_in(request: brick_wire.Request) -> None:
    """Log in to a target: through every portal that answers for multipath, else through one.

    :raises ArrayUnavailable: no portal answers, or lets us in in time.
    :raises AccessDenied: the target refuses our CHAP secret or name.
    :raises NotFound: a portal answers and knows no such target, or not to us.
    """
    if sessions(request.iqn) and not request.multipath:
        return
    why: exceptions.ContainerStackError | None = None
    for portal in request.portals:
        if not has(request.iqn, portal):
            try:
                _log_in(request, portal)
            except exceptions.ContainerStackError as exc:
                why = exc
                continue
        if not request.multipath:
            return
    if why and not sessions(request.iqn):
        raise why


def log_out(iqn: str) -> None:
    """End every session with a target, and forget it.

    :raises Busy: it doesn't end.
    """
    node = ("-m", "node", "-T", iqn)
    deadline = time.monotonic() + ENDED
    # More than once: a login that was given up may still be under way in iscsid, and then a
    # session begins when there seemed to be none, and a record in use can't be deleted.
    while sessions(iqn) or any(brick_record.files(iqn)):
        if time.monotonic() > deadline:
            raise exceptions.Busy(f"The session with {iqn} doesn't end.")
        for words in ("--logout",), ("-o", "delete"):
            with contextlib.suppress(exceptions.CommandFailed):
                _iscsiadm(*node, *words)
        time.sleep(0.02)


def scan(request: brick_wire.Request) -> None:
    """Let the kernel find the volume.

    :raises NotFound: the target has none.
    :raises InvalidRequest: it has several, and which one isn't said.
    """
    for session in sessions(request.iqn):
        host = next(part for part in session.resolve().parts if re.fullmatch("host[0-9]+", part))
        what = "- - -" if request.lun is None else f"0 0 {request.lun}"
        Path(f"/sys/class/scsi_host/{host}/scan").write_text(what, encoding="ascii")
    found = disks(request.iqn)
    if not found or (request.lun is not None and request.lun not in found):
        raise exceptions.NotFound(f"The target {request.iqn} has no such volume.")
    if request.lun is None and len(found) > 1:
        raise exceptions.InvalidRequest(f"{request.iqn} has several volumes: name its LUN.")


def disks(iqn: str) -> set[int]:
    """Return the numbers of a target's disks that the kernel knows; controllers don't count."""
    return {
        int(path.parent.name.rpartition(":")[2])
        for session in sessions(iqn)
        for path in session.glob("device/target*/*:*:*:*/type")
        if _read(path) == "0"
    }


def belongs(device: str, iqn: str) -> bool:
    """Tell whether a device is a volume of a target, or a map of such only."""
    name = os.path.basename(device)
    parts = os.listdir(f"/sys/block/{name}/slaves") if is_map(device) else [name]
    ours = {session.name for session in sessions(iqn)}
    homes = [os.path.realpath(f"/sys/block/{part}/device").split("/") for part in parts]
    return bool(homes) and all(ours.intersection(home) for home in homes)


def top(device: str) -> str:
    """Return the map that multipathd made of a device, if so without being asked, else the device.

    It does where it is told to take every device, or knows the volume from an earlier time.
    """
    for holder in Path("/sys/block", os.path.basename(device), "holders").glob("dm-*"):
        if _read(holder / "dm" / "uuid").startswith("mpath-"):
            return f"/dev/{holder.name}"
    return device


def is_map(device: str) -> bool:
    """Tell whether a device is one of device-mapper's."""
    return os.path.basename(device).startswith("dm-")


def _log_in(request: brick_wire.Request, portal: str) -> None:
    if not answers(portal, request):
        # iscsid would try a closed port again until its patience ends.
        raise exceptions.ArrayUnavailable(f"The portal {portal} doesn't answer.")
    node = ("-m", "node", "-T", request.iqn, "-p", portal)
    try:
        _iscsiadm(*node, "-o", "new")
        brick_record.write(request, portal)
        _iscsiadm(*node, "--login")
    except exceptions.CommandFailed as exc:
        if exc.exit_code == _EXISTS:
            return
        with contextlib.suppress(exceptions.CommandFailed):
            _iscsiadm(*node, "-o", "delete")
        raise _reason(exc, request, portal) from exc


def _reason(
    failure: exceptions.CommandFailed, request: brick_wire.Request, portal: str
) -> exceptions.ContainerStackError:
    """Return why a login failed."""
    code = failure.exit_code
    if code == _DENIED or (code == _FATAL and request.mutual_secret):
        return exceptions.AccessDenied(
            f"The target {request.iqn} and this host refuse each other's name or CHAP secret."
        )
    if code == _FATAL or (code == _NO_LOGIN and not _offers(portal, request.iqn)):
        return exceptions.NotFound(f"{portal} has no target {request.iqn} for this initiator.")
    return exceptions.ArrayUnavailable(f"The portal {portal} doesn't let us in: {failure.stderr}")


def _offers(portal: str, iqn: str) -> bool:
    """Tell whether a portal may have a target. (LIO is "unavailable" to who asks for others.)"""
    words = ("-m", "discovery", "-t", "sendtargets", "-o", "nonpersistent", "-p", portal)
    try:
        return iqn in _iscsiadm(*words).split()
    except exceptions.CommandFailed:
        return True


def _iscsiadm(*words: str) -> str:
    argv = ("iscsiadm", *words)
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
        )
    except FileNotFoundError as exc:
        raise exceptions.HostNotReady("iscsiadm is missing; install open-iscsi.") from exc
    if done.returncode:
        # Its last line only says that something before failed.
        said = [line for line in done.stderr.splitlines() if "(" in line] or [done.stderr]
        raise exceptions.CommandFailed("iscsiadm", done.returncode, said[-1])
    return done.stdout.strip()


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
