# SPDX-License-Identifier: Apache-2.0
"""Where the cgroup of a container is, in version 1 and in version 2."""

import os
import re
from pathlib import Path

from container_stack import exceptions
from container_stack.rootwrap import mountinfo

# What engines call a container's cgroup: with the driver cgroupfs, and with systemd's.
_SCOPE = re.compile(r"(?:docker-)?([0-9a-f]{64})(?:\.scope)?")


def of_container(pid: int, container: str, controller: str) -> tuple[Path, bool]:
    """Return the directory of a container's cgroup, and whether it is one of version 1.

    :param pid: of one of its processes.
    :param controller: such as devices; version 2 is where version 1 hasn't got it.
    :raises FileNotFoundError: the process has ended; or ProcessLookupError.
    :raises Busy: the process isn't the container's, or not any more.
    :raises NotSupported: the host has no cgroups that could be changed.
    """
    lines = Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8").splitlines()
    found = [line.split(":", 2) for line in lines]
    first = [path for _id, names, path in found if controller in names.split(",")]
    unified = [path for _id, names, path in found if not names]
    for path in first or unified:
        match = _SCOPE.fullmatch(os.path.basename(path))
        if match and match[1] == container:
            return hierarchy(controller if first else "") / path.lstrip("/"), bool(first)
    raise exceptions.Busy(f"Process {pid} isn't in container {container[:12]}.")


def hierarchy(controller: str) -> Path:
    """Return where a hierarchy of cgroups is mounted as a whole; "" is that of version 2.

    :raises NotSupported: it isn't.
    """
    for mount in mountinfo.table():
        version_2 = mount.kind == "cgroup2"
        wanted = controller in mount.super_options if controller else version_2
        if mount.kind in ("cgroup", "cgroup2") and wanted and mount.root == "/":
            return Path(mount.path)
    raise exceptions.NotSupported("The cgroups of the containers aren't mounted here.")
