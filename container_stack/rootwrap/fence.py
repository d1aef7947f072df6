# SPDX-License-Identifier: Apache-2.0
"""``container-stack-fence``: ends, as root, all use of all that is mounted below a directory.

Open Storage runs it when this host mustn't use its volumes any more. It asks nobody, neither the
engine nor a database, since they may be what has failed: it unmounts, and kills who is in the way.

- A process of this mount namespace is in the way when the kernel shows that it has a file, a
  directory or a mapping in one of the mounts.
- One of another mount namespace, such as a container, is in the way when the same tree is still
  mounted there after it has been unmounted here. (Mounts that follow ours have gone by then.)

It ends with 0 when nothing is left, with 1 and the rest on standard error when its time is over.
"""

import contextlib
import ctypes
import dataclasses
import os
import re
import signal
import sys
import time
from collections.abc import Iterable, Iterator

#: Seconds that it tries, of which in the second half hanging servers aren't waited for.
PATIENCE = 4.0
#: Of umount2(2).
_FORCE, _NOFOLLOW = 1, 8

_OCTAL = re.compile(r"\\([0-7]{3})")
#: What a path of the kernel's ends with if the file has none any more.
_DELETED = " (deleted)"


@dataclasses.dataclass(frozen=True, slots=True)
class Mount:
    """A line of a mount table.

    :param device: number of the file system.
    :param root: the part of it that is mounted.
    """

    device: str
    root: str
    path: str

    def shows(self, other: "Mount") -> bool:
        """Tell whether all that this mount shows, another does too."""
        inside = self.root == other.root or self.root.startswith(other.root.rstrip("/") + "/")
        return self.device == other.device and inside


def main() -> None:
    """End all use of what is mounted below the directory that is the only argument."""
    tree = sys.argv[1] if len(sys.argv) == 2 else ""
    if tree in ("", "/") or os.path.realpath(tree) != tree:
        sys.exit("Usage: container-stack-fence DIRECTORY, absolute and without links.")
    left = end(tree)
    if left:
        sys.exit(f"Still in use: {', '.join(left)[:400]}")


def end(tree: str, patience: float = PATIENCE) -> list[str]:
    """Unmount all below a directory, killing who is in the way, and return what is left."""
    begun = time.monotonic()
    ended: set[Mount] = set()
    while True:
        force = time.monotonic() > begun + patience / 2
        mounts = below(tree)
        ended.update(mounts)
        for mount in reversed(mounts):
            _unmount(mount.path, force=force)
        users = _users(below(tree), ended)
        for process in users:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        left = [mount.path for mount in below(tree)] + [f"process {each}" for each in users]
        if not left or time.monotonic() > begun + patience:
            return left
        time.sleep(0.02)


def below(tree: str, table: str = "self") -> list[Mount]:
    """Return what is mounted below a directory, the newest last."""
    return [mount for mount in _mounts(table) if mount.path.startswith(f"{tree}/")]


def _mounts(process: str) -> list[Mount]:
    try:
        with open(f"/proc/{process}/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            return [_parse(line) for line in file]
    except OSError:
        return []  # it has ended


def _parse(line: str) -> Mount:
    fields = line.split(" ")
    return Mount(fields[2], _unescape(fields[3]), _unescape(fields[4]))


def _unescape(text: str) -> str:
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), text)


def _unmount(path: str, *, force: bool) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    # Whoever is in the way is found afterwards; why it failed isn't asked.
    libc.umount2(os.fsencode(path), _NOFOLLOW | (_FORCE if force else 0))


def _users(mounts: list[Mount], ended: set[Mount]) -> list[int]:
    """Return the processes in the way of what is mounted, and those that still have the rest."""
    here = os.readlink("/proc/self/ns/mnt")
    paths = tuple(f"{mount.path}/" for mount in mounts)
    tables: dict[str, bool] = {}
    found = []
    for process in _processes():
        try:
            space = os.readlink(f"/proc/{process}/ns/mnt")
        except OSError:
            continue  # it has ended, or is the kernel's
        if space == here:
            used = bool(paths) and any(f"{each}/".startswith(paths) for each in _files(process))
        else:
            if space not in tables:
                tables[space] = _shows(_mounts(process), ended)
            used = tables[space]
        if used:
            found.append(int(process))
    return found


def _shows(mounts: list[Mount], ended: Iterable[Mount]) -> bool:
    return any(mount.shows(other) for mount in mounts for other in ended)


def _processes() -> Iterator[str]:
    mine = {"1", str(os.getpid()), str(os.getppid())}
    return (each for each in os.listdir("/proc") if each.isdigit() and each not in mine)


def _files(process: str) -> Iterator[str]:
    """Yield the paths of all that a process has open, stands in, or has mapped."""
    directory = f"/proc/{process}"
    links = [f"{directory}/{each}" for each in ("cwd", "root", "exe")]
    with contextlib.suppress(OSError):
        links += [f"{directory}/fd/{each}" for each in os.listdir(f"{directory}/fd")]
    for link in links:
        with contextlib.suppress(OSError):
            yield os.readlink(link).removesuffix(_DELETED)
    with contextlib.suppress(OSError), open(f"{directory}/maps", errors="surrogateescape") as file:
        for line in file:
            fields = line.rstrip("\n").split(maxsplit=5)
            if len(fields) == 6:
                yield fields[5].removesuffix(_DELETED)


if __name__ == "__main__":
    main()
