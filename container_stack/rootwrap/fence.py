# SPDX-License-Identifier: Apache-2.0
"""``container-stack-fence``: ends, as root, all use of all that is mounted below a directory.

Open Storage runs it when this host mustn't use its volumes any more. It asks nobody, neither the
engine nor a database, since they may be what has failed: it kills who is in the way, and unmounts
when nobody is any more.

- A process of this mount namespace is in the way when the kernel shows that it has a file, a
  directory or a mapping in one of the mounts.
- One of another mount namespace, such as a container, is in the way when the same tree is mounted
  there and doesn't go with ours, as what follows it does (mount_namespaces(7)). It gets a moment:
  a container that is just being started has all mounts of the host where the host has them, until
  it leaves them.

It ends with 0 when nothing is left, with 1 and the rest on standard error when its time is over.
What is left is then still mounted, so that the next run finds it.
"""

import contextlib
import ctypes
import dataclasses
import os
import signal
import sys
import time
from collections.abc import Iterator

from container_stack.rootwrap import mountinfo

#: Seconds that it tries; in the second half servers that hang aren't waited for.
PATIENCE = 4.0
#: Seconds that another mount namespace may have what is to go, and may have it where we do: on a
#: busy host containers take that long to leave the mounts they were started with.
MOMENT, COPY_MOMENT = 0.3, 2.0
#: Of umount2(2).
_FORCE, _NOFOLLOW = 1, 8

#: What a path of the kernel's ends with if the file has none any more.
_DELETED = " (deleted)"


@dataclasses.dataclass(frozen=True, slots=True)
class Mount:
    """A line of a mount table.

    :param device: number of the file system.
    :param root: the part of it that is mounted.
    :param place: where it is mounted, in the file system that it is mounted in.
    :param told: the number of the peer group which is told when it is unmounted, or 0.
    :param heard: the numbers of those through which it would be unmounted with another.
    """

    device: int
    root: str
    path: str
    place: str = ""
    told: int = 0
    heard: frozenset[int] = frozenset()

    def outlives(self, other: "Mount") -> bool:
        """Tell whether this shows nothing but what another does, and stays when that goes."""
        inside = self.root == other.root or self.root.startswith(other.root.rstrip("/") + "/")
        follows = other.told in self.heard and other.place == self.place
        return self.device == other.device and inside and not follows


def main() -> None:
    """End all use of what is mounted below the directory that is the only argument."""
    tree = sys.argv[1] if len(sys.argv) == 2 else ""
    if tree in ("", "/") or os.path.realpath(tree) != tree:
        sys.exit("Usage: container-stack-fence DIRECTORY, absolute and without links.")
    left = end(tree)
    if left:
        sys.exit(f"Still in use: {', '.join(left)[:400]}")


def end(tree: str, patience: float = PATIENCE) -> list[str]:
    """Kill who uses what is mounted below a directory, unmount it, and return what is left."""
    begun = time.monotonic()
    since: dict[str, float] = {}
    while True:
        mounts = below(tree)
        users = _users(mounts) if mounts else {}
        for process, (space, moment) in users.items():
            if time.monotonic() - since.setdefault(space, time.monotonic()) >= moment:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
        if not users:
            force = time.monotonic() > begun + patience / 2
            for mount in reversed(mounts):
                if _unmount(mount.path, force=force):
                    _remove(tree, mount.path)
        left = [f"process {each}" for each in users] + [mount.path for mount in below(tree)]
        if not left or time.monotonic() > begun + patience:
            return left
        time.sleep(0.02)


def below(tree: str) -> list[Mount]:
    """Return what is mounted below a directory, the newest last."""
    return [mount for mount in table("self") if mount.path.startswith(f"{tree}/")]


def table(process: str) -> list[Mount]:
    """Return what a process sees mounted; nothing if it has ended."""
    try:
        found = mountinfo.table(process)
    except OSError:
        return []
    numbered = {each.id: each for each in found}
    return [_mount(each, numbered.get(each.parent)) for each in found]


def _mount(found: mountinfo.Mount, parent: mountinfo.Mount | None) -> Mount:
    if parent is None:
        return Mount(found.number, _root(found), found.path)
    # What is unmounted goes from the peers and slaves of what it was mounted in.
    place = os.path.normpath(f"{parent.root}/{os.path.relpath(found.path, parent.path)}")
    heard = frozenset(group for group in (parent.group, parent.master) if group)
    return Mount(found.number, _root(found), found.path, place, parent.group, heard)


def _root(found: mountinfo.Mount) -> str:
    if found.kind.startswith("nfs"):  # which has every part of it for a root: the source says more
        return "/" + found.source.partition(":/")[2]
    return found.root


def _unmount(path: str, *, force: bool) -> bool:
    libc = ctypes.CDLL(None, use_errno=True)
    # Whoever is in the way is found in the next round; why it failed isn't asked.
    return not libc.umount2(os.fsencode(path), _NOFOLLOW | (_FORCE if force else 0))


def _remove(tree: str, path: str) -> None:
    """Remove an empty mount point: a container that starts now mustn't write into it."""
    *above, name = os.path.relpath(path, tree).split("/")
    flags = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
        directory = os.open(tree, flags)
        stack.callback(os.close, directory)
        for part in above:
            directory = os.open(part, flags, dir_fd=directory)
            stack.callback(os.close, directory)
        os.rmdir(name, dir_fd=directory)


def _users(mounts: list[Mount]) -> dict[int, tuple[str, float]]:
    """Return the processes that are in the way, each with its mount namespace and its moment."""
    here = os.readlink("/proc/self/ns/mnt")
    paths = tuple(f"{mount.path}/" for mount in mounts)
    devices: dict[int, list[Mount]] = {}
    for mount in mounts:
        devices.setdefault(mount.device, []).append(mount)
    moments: dict[str, float | None] = {}
    found = {}
    for process in _processes():
        try:
            space = os.readlink(f"/proc/{process}/ns/mnt")
        except OSError:
            continue  # it has ended
        if space == here:
            used = any(f"{each}/".startswith(paths) for each in _files(process))
            moment = 0.0 if used else None
        else:
            if space not in moments:
                moments[space] = _moment(table(process), devices)
            moment = moments[space]
        if moment is not None:
            found[int(process)] = (space, moment)
    return found


def _moment(there: list[Mount], devices: dict[int, list[Mount]]) -> float | None:
    """Return for how long a mount namespace may have what it has; None: it isn't in the way."""
    moment = None
    for each in there:
        ours = devices.get(each.device, [])
        if any(each.outlives(mount) for mount in ours):
            if all(each.path != mount.path for mount in ours):
                return MOMENT
            moment = COPY_MOMENT
    return moment


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
