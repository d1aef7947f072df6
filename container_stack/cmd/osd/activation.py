# SPDX-License-Identifier: Apache-2.0
"""What passes between a service manager and the daemon: sd_listen_fds(3) and sd_notify(3)."""

import logging
import os
import socket
from collections.abc import MutableMapping

LOG = logging.getLogger(__name__)

_FIRST = 3
_MOST = 1000


def inherited(environment: MutableMapping[str, str]) -> dict[str, socket.socket]:
    """Return the listening Unix sockets that were handed to this process, by their paths.

    The variables that say so are taken away: children shall not think that they are meant.
    """
    pid, count = (environment.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS"))
    environment.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not count.isdigit():
        return {}
    found = {}
    for fd in range(_FIRST, _FIRST + min(int(count), _MOST)):
        os.set_inheritable(fd, False)
        handed = socket.socket(fileno=fd)
        if handed.family == socket.AF_UNIX:
            found[os.path.normpath(handed.getsockname())] = handed
        else:
            LOG.warning("Socket %(fd)d is none of ours; it isn't served.", {"fd": fd})
    return found


def notify(state: str) -> None:
    """Tell the service manager, if there is one, how this process is."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        try:
            sock.sendto(state.encode(), f"\0{path[1:]}" if path.startswith("@") else path)
        except OSError as exc:
            LOG.warning(
                "The service manager can't be told %(state)s: %(why)s", {"state": state, "why": exc}
            )
