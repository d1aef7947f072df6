# SPDX-License-Identifier: Apache-2.0
"""A file system in a container that runs already: a copy of a mount of the host's.

The copy is made in the host's mount namespace (open_tree(2)) and put into the container's
(move_mount(2)), so nothing has to be shared between the two, and the container needn't have been
made for it. It goes with the container. Directories there are opened without following links: a
container's root can make links, and what is mounted over such as /proc would deceive who enters
the container to run something.

In a container with users of its own the copy translates them (mount_setattr(2)): files that are
root's on the volume are its root's, and what it writes is on the volume as it would be without.
"""

import ctypes
import functools
import os

from container_stack import exceptions
from container_stack.rootwrap import disk_node, mountinfo

#: The directory of the container that has the mount points; it is made if it isn't there.
DIRECTORY = "/volumes"

# The numbers of these calls are the same on every machine (Linux 5.2, and 5.12).
_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442
_IDMAP = 0x00100000
_AT_FDCWD, _AT_EMPTY_PATH, _CLONE, _FROM_FD, _TO_FD = -100, 0x1000, 1, 0x04, 0x40
_UMOUNT_NOFOLLOW = 8
_NFS = frozenset({"nfs", "nfs4"})
_KINDS = frozenset({"ext4", "xfs", "btrfs"}) | _NFS

_libc = ctypes.CDLL(None, use_errno=True)


def show(inside: disk_node.Inside, path: str, name: str) -> None:
    """Let what is mounted at a path of the host's appear as ``/volumes/NAME``; idempotent.

    :raises InvalidRequest: it isn't a whole file system, or such as could hold setuid programs.
    :raises AlreadyExists: the container has something else there.
    :raises NotSupported: the kernel can't translate its users.
    """
    number, kind = _mounted(path)
    if any(place == f"{DIRECTORY}/{name}" for place in _places(inside.pid, number)):
        return
    tree = _libc.syscall(_OPEN_TREE, _AT_FDCWD, path.encode(), _CLONE | os.O_CLOEXEC)
    if tree < 0:
        raise exceptions.NotSupported(f"The mount can't be copied: {_why()}.")
    try:
        # Of a share the server alone says what is whose.
        if kind not in _NFS:
            _translate(tree, inside.pid)
        inside.within(lambda: _attach(tree, name))
    finally:
        os.close(tree)


def hide(inside: disk_node.Inside, path: str) -> None:
    """Take from a container what is mounted at a path of the host's, wherever; idempotent.

    :raises Busy: something in the container uses it.
    """
    number, _kind = _mounted(path)
    for place in _places(inside.pid, number):
        inside.within(functools.partial(_detach, place), exceptions.Busy)


def _translate(tree: int, pid: int) -> None:
    """Let a mount that is nowhere yet have the users of a process."""
    users = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if os.path.samestat(os.fstat(users), os.stat("/proc/self/ns/user")):
            return
        # struct mount_attr: attr_set, attr_clr, propagation, userns_fd.
        wanted = (ctypes.c_uint64 * 4)(_IDMAP, 0, 0, users)
        if _libc.syscall(_MOUNT_SETATTR, tree, b"", _AT_EMPTY_PATH, wanted, ctypes.sizeof(wanted)):
            raise exceptions.NotSupported(
                f"Its files can't be given to the users of the server's namespace: {_why()}."
            )
    finally:
        os.close(users)


def _mounted(path: str) -> tuple[int, str]:
    """Return number and kind of a file system that is mounted on the host."""
    for mount in mountinfo.table():
        if mount.path == path and mount.kind in _KINDS and mount.root == "/":
            if not {"nosuid", "nodev"} <= mount.options:
                break
            return mount.number, mount.kind
    raise exceptions.InvalidRequest(f"There is no file system of a volume or share at {path}.")


def _places(pid: int, number: int) -> list[str]:
    """Return where a container has a file system, the last mounted first."""
    return [mount.path for mount in mountinfo.table(pid) if mount.number == number][::-1]


def _attach(tree: int, name: str) -> str:
    # In the container, where nothing can be imported any more.
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    parent = -1
    try:
        for at, each in ((None, DIRECTORY), (0, name)):
            where = None if at is None else parent
            if not _exists(each, where):
                os.mkdir(each, 0o755, dir_fd=where)
            parent = os.open(each, flags, dir_fd=where)
    except OSError as exc:
        return f"{DIRECTORY}/{name} can't be made in the server: {exc.strerror}."
    if _libc.syscall(_MOVE_MOUNT, tree, b"", parent, b"", _FROM_FD | _TO_FD):
        return f"{DIRECTORY}/{name} can't be mounted in the server: {_why()}."
    return ""


def _exists(name: str, parent: int | None) -> bool:
    try:
        os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _detach(place: str) -> str:
    if _libc.umount2(place.encode(), _UMOUNT_NOFOLLOW):
        return f"{place} of the server is in use: {_why()}."
    return ""


def _why() -> str:
    return os.strerror(ctypes.get_errno())
