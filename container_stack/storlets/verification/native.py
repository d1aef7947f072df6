# SPDX-License-Identifier: Apache-2.0
"""What storlets need of a host beside an engine: their library, their agent, a syslog."""

import dataclasses
import os
import re
import socket

from container_stack import exceptions
from container_stack.storlets import gateway

LIBRARY = f"{gateway.NATIVE}/libsbus.so"
AGENT = f"{gateway.NATIVE}/python/storlets/agent"
SYSLOG = "/dev/log"

_SYMBOL = re.compile(rb"GLIBC_(\d+)\.(\d+)")

Version = tuple[int, int]


@dataclasses.dataclass(frozen=True, slots=True)
class Native:
    """The C library under storlets' own library, which sandboxes get from their host.

    :param glibc: of this host; None where the host has another C library.
    :param needed: what libsbus.so was linked against: no image with less can load it.
    """

    glibc: Version | None
    needed: Version


def look() -> Native:
    """Return what this host has.

    :raises HostNotReady: no storlet could run here, whatever its image.
    """
    if not os.path.isdir(AGENT):
        raise exceptions.HostNotReady(
            f"Storlets' agent is missing; install it: pip install --no-deps --target "
            f"{gateway.NATIVE}/python storlets."
        )
    try:
        with open(LIBRARY, "rb") as file:
            symbols = _SYMBOL.findall(file.read())
    except OSError as exc:
        raise exceptions.HostNotReady(
            f"{LIBRARY} is missing; make and install src/c/sbus of storlets' source distribution."
        ) from exc
    _check_syslog()
    needed = max(((int(major), int(minor)) for major, minor in symbols), default=(2, 0))
    return Native(_own_glibc(), needed)


def _own_glibc() -> Version | None:
    try:
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    except (ValueError, OSError):
        return None
    return parsed(version) if name == "glibc" else None


def parsed(text: str) -> Version | None:
    """Return a version's first two numbers."""
    found = re.match(r"(\d{1,4})\.(\d{1,4})", text)
    return (int(found[1]), int(found[2])) if found else None


def _check_syslog() -> None:
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        with socket.socket(socket.AF_UNIX, kind) as client:
            client.settimeout(1.0)
            try:
                client.connect(SYSLOG)
                return
            except OSError:
                continue
    raise exceptions.HostNotReady(
        f"Nothing listens at {SYSLOG}, where sandboxes log to; start a syslog or systemd-journald."
    )
