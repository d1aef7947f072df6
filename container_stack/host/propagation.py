# SPDX-License-Identifier: Apache-2.0
"""Whether others on this host see what this process mounts.

A process in a mount namespace of its own, as some service managers and container engines start
them, mounts file systems that nobody else sees; who then opens a mount point writes into the
directory underneath. Mounts reach another namespace when the file system that they lie in is shared
with it: mount_namespaces(7), and of proc_pid_mountinfo(5) the fields "shared" and "master".
"""

import os
import socket
import struct

from container_stack import exceptions
from container_stack.host import mounts
from container_stack.rootwrap import mountinfo

#: A process that isn't in our process namespace.
OUTSIDE = 0


def engine_pid(url: str) -> int:
    """Return the process that made an engine's socket, OUTSIDE, or where nobody answers 1.

    With systemd's sockets that is systemd, whose mount namespace is the engine's, too.
    """
    if os.getpid() == 1:
        return OUTSIDE
    if not url.startswith("unix://"):
        return 1
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(5)
        try:
            sock.connect(url.removeprefix("unix://"))
            peer = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        except OSError:
            return 1
    pid: int = struct.unpack("3i", peer)[0]
    return pid


def check(directory: str, pid: int) -> None:
    """See that a process will see what is mounted below a directory.

    :param pid: as :func:`engine_pid` returns it.
    :raises HostNotReady: it won't; the text says what to do.
    """
    own = mounts.holding(directory)
    if pid == OUTSIDE:
        seen = own.shared
    else:
        theirs = _holding(directory, pid)
        same = own.id == theirs.id
        seen = same or (own.shared and own.group in (theirs.group, theirs.master))
    if not seen:
        raise exceptions.HostNotReady(
            f"What is mounted below {directory} isn't seen outside: this process has a mount "
            "namespace of its own. Start it without PrivateMounts, ProtectSystem and the like; in "
            f"a container, bind {directory} with propagation rshared."
        )


def _holding(directory: str, pid: int) -> mountinfo.Mount:
    try:
        return mounts.holding(directory, pid)
    except OSError as exc:
        raise exceptions.HostNotReady(
            f"Nobody can tell whether process {pid} sees what is mounted here: {exc}."
        ) from exc
