# SPDX-License-Identifier: Apache-2.0
"""What is mounted, read from the kernel's own table: no process, no privilege."""

import os
import re

from container_stack.rootwrap import mountinfo

#: What stands in the table as it is.
_PLAIN = re.compile(r"[A-Za-z0-9._-]*")


def at(path: str) -> mountinfo.Mount | None:
    """Return the mount on exactly this path, the uppermost if there are several."""
    real = resolve(path)
    found = [line for line in _naming(os.path.basename(real)) if mountinfo.path_of(line) == real]
    return mountinfo.parse(found[-1]) if found else None


def is_named(name: str) -> bool:
    """Return False if no path, source or file system's part in the table is called so."""
    return bool(_naming(name))


def paths() -> frozenset[str]:
    """Return the paths on which something is mounted."""
    return frozenset(map(mountinfo.path_of, mountinfo.lines()))


def below(path: str) -> list[mountinfo.Mount]:
    """Return the mounts under a directory, without one on the directory itself."""
    prefix = resolve(path).rstrip("/") + "/"
    found = (line for line in mountinfo.lines() if mountinfo.path_of(line).startswith(prefix))
    return [mountinfo.parse(line) for line in found]


def holding(path: str, seen_by: int | str = "self") -> mountinfo.Mount:
    """Return the mount that a path lies in.

    :param seen_by: the process in whose table it is looked for.
    """
    real = resolve(path)
    best = None
    for mount in mountinfo.table(seen_by):
        inside = real == mount.path or real.startswith(mount.path.rstrip("/") + "/")
        if inside and (best is None or len(mount.path) >= len(best.path)):
            best = mount
    assert best is not None, "everything lies below /"
    return best


def of(device: str) -> list[mountinfo.Mount]:
    """Return the mounts of a block device."""
    return [mount for mount in mountinfo.table() if mount.is_of(device)]


def resolve(path: str) -> str:
    """Return a path as the table has it: links in the directories above are followed."""
    parent, name = os.path.split(os.path.abspath(path))
    return os.path.join(os.path.realpath(parent), name)


def _naming(name: str) -> list[str]:
    # Of a thousand lines one is wanted: the others needn't be understood.
    lines = mountinfo.lines()
    return [line for line in lines if name in line] if _PLAIN.fullmatch(name) else lines
