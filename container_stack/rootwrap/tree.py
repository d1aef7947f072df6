# SPDX-License-Identifier: Apache-2.0
"""``container-stack-tree``: keeps, as root, the directories that are Open Storage's volumes on NFS.

Files in volumes belong to whom tenants say, so only root copies and removes them; and tenants go on
writing while it does. So nothing here follows a path inside a volume: each file is opened below the
directory that holds it, and never through a link.

A root holds a directory for each volume, called by its id: for root alone, so that the host's users
don't find what tenants make setuid, with ``data`` in it. What a node is at work on is called
``work.<node>.<id>`` until it is whole, and again from when it goes; ``old`` in a volume is what
``data`` was before it was restored, until that is done.

It ends with 0, or with 1 and the name of an error and its text on standard error.
"""

import contextlib
import ctypes
import errno
import os
import re
import stat
import sys
from collections.abc import Callable, Iterator, Mapping

from container_stack import exceptions
from container_stack.rootwrap import tree_copy

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_ERRORS: Mapping[int, type[exceptions.ContainerStackError]] = {
    errno.ENOSPC: exceptions.NoSpace,
    errno.EDQUOT: exceptions.NoSpace,
    errno.EPERM: exceptions.HostNotReady,
    errno.EACCES: exceptions.HostNotReady,
    errno.EROFS: exceptions.HostNotReady,
}
_GONE = "Volume does not exist."


def main() -> None:
    """Do the one thing that the arguments say; see ``container_stack.rootwrap.commands``."""
    action, path, *words = sys.argv[1:]
    os.umask(0o077)
    try:
        with _opened(path) as root:
            said = _ACTIONS[action](root, *words)
    except exceptions.ContainerStackError as exc:
        sys.exit(f"{type(exc).__name__}: {exc}")
    except OSError as exc:
        # Its file's name is a tenant's.
        kind = _ERRORS.get(exc.errno or 0, exceptions.ServiceUnavailable)
        cure = ": root must be able to change it, so export it with rw,no_root_squash"
        said = os.strerror(exc.errno or errno.EIO)
        sys.exit(f"{kind.__name__}: {said}{cure * (kind is exceptions.HostNotReady)}.")
    sys.stdout.write(said)


@contextlib.contextmanager
def _opened(path: str) -> Iterator[int]:
    """Open a root: an NFS mount called ``export``, or a directory that the link ``local`` names.

    :raises HostNotReady: others may change it, or it isn't mounted.
    """
    parent, name = os.path.split(path)
    owner = os.stat(parent)
    flags = _DIRECTORY if name == "export" else os.O_RDONLY | os.O_DIRECTORY
    try:
        root = os.open(path, flags)
    except (FileNotFoundError, NotADirectoryError) as exc:
        raise exceptions.HostNotReady("the directory of the volumes isn't there.") from exc
    try:
        found = os.fstat(root)
        if name == "export" and found.st_dev == owner.st_dev:
            raise exceptions.HostNotReady("the server's directory isn't mounted.")
        if name == "local" and (found.st_uid != owner.st_uid or found.st_mode & 0o022):
            raise exceptions.HostNotReady(
                f"the directory of the volumes must belong to user {owner.st_uid}, and nobody else "
                "may write it: use chown and chmod go-w."
            )
        yield root
    finally:
        os.close(root)


def _list(root: int) -> str:
    return "".join(f"{name}\n" for name in sorted(os.listdir(root)) if _UUID.fullmatch(name))


def _create(root: int, node: str, name: str) -> str:
    if _is_there(root, name):
        return ""
    with _working(root, node, name) as work:
        os.mkdir("data", dir_fd=work)
        os.chmod("data", 0o755, dir_fd=work)  # noqa: S103 - what it lies in keeps others out
        os.rename(_work(node, name), name, src_dir_fd=root, dst_dir_fd=root)
    return ""


def _copy(root: int, node: str, name: str, origin: str) -> str:
    if _is_there(root, name):
        return ""
    with _data(root, origin) as source, _working(root, node, name) as work:
        _fill(source, work)
        os.rename(_work(node, name), name, src_dir_fd=root, dst_dir_fd=root)
    return ""


def _restore(root: int, node: str, name: str, origin: str) -> str:
    _settle(root, name)
    with (
        _data(root, origin) as source,
        _volume(root, name) as volume,
        _working(root, node, name) as work,
    ):
        _fill(source, work)
        with contextlib.suppress(FileNotFoundError):
            os.rename("old", "older", src_dir_fd=volume, dst_dir_fd=work)
        with contextlib.ExitStack() as undo:
            os.rename("data", "old", src_dir_fd=volume, dst_dir_fd=volume)
            undo.callback(os.rename, "old", "data", src_dir_fd=volume, dst_dir_fd=volume)
            os.rename("data", "data", src_dir_fd=work, dst_dir_fd=volume)
            undo.pop_all()
        os.rename("old", "old", src_dir_fd=volume, dst_dir_fd=work)
    return ""


def _remove(root: int, node: str, name: str) -> str:
    work = _work(node, name)
    _erase(root, work)
    with contextlib.suppress(FileNotFoundError):
        os.rename(name, work, src_dir_fd=root, dst_dir_fd=root)
        _erase(root, work)
    return ""


def _settle(root: int, name: str) -> str:
    """Bring back what a volume was before it was to be restored, if that has got half-way."""
    with _volume(root, name) as volume:
        if not _is_there(volume, "data"):
            os.rename("old", "data", src_dir_fd=volume, dst_dir_fd=volume)
    return ""


def _sweep(root: int, node: str) -> str:
    """Remove what this node was at work on when it ended."""
    prefix = _work(node, "")
    for work in [each for each in os.listdir(root) if each.startswith(prefix)]:
        with contextlib.suppress(exceptions.NotFound):
            name = work.removeprefix(prefix)
            _settle(root, name)
            with contextlib.suppress(FileNotFoundError):
                os.rename(f"{name}/old", f"{work}/old", src_dir_fd=root, dst_dir_fd=root)
        _erase(root, work)
    return ""


def _usage(root: int, name: str) -> str:
    with _data(root, name) as data:
        return str(tree_copy.measure(data))


_ACTIONS: Mapping[str, Callable[..., str]] = {
    "list": _list,
    "create": _create,
    "copy": _copy,
    "restore": _restore,
    "remove": _remove,
    "settle": _settle,
    "sweep": _sweep,
    "usage": _usage,
}


def _work(node: str, name: str) -> str:
    return f"work.{node}.{name}"


def _is_there(directory: int, name: str) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(name, dir_fd=directory).st_mode)
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def _volume(root: int, name: str) -> Iterator[int]:
    try:
        volume = os.open(name, _DIRECTORY, dir_fd=root)
    except FileNotFoundError as exc:
        raise exceptions.NotFound(_GONE) from exc
    try:
        yield volume
    finally:
        os.close(volume)


@contextlib.contextmanager
def _data(root: int, name: str) -> Iterator[int]:
    """Open what is in a volume."""
    with _volume(root, name) as volume:
        present = "data" if _is_there(volume, "data") else "old"
        data = os.open(present, _DIRECTORY, dir_fd=volume)
    try:
        yield data
    finally:
        os.close(data)


@contextlib.contextmanager
def _working(root: int, node: str, name: str) -> Iterator[int]:
    """Make an empty directory to work in; what is left of it in the end is erased."""
    work = _work(node, name)
    _erase(root, work)
    os.mkdir(work, dir_fd=root)
    made = os.open(work, _DIRECTORY, dir_fd=root)
    try:
        yield made
    finally:
        os.close(made)
        _erase(root, work)


def _fill(source: int, work: int) -> None:
    os.mkdir("data", dir_fd=work)
    data = os.open("data", _DIRECTORY, dir_fd=work)
    try:
        tree_copy.copy(source, data)
        if ctypes.CDLL(None, use_errno=True).syncfs(data):
            raise OSError(ctypes.get_errno(), "syncfs")
    finally:
        os.close(data)


def _erase(root: int, work: str) -> None:
    """Remove a directory to work in, however deep it is: directories are moved up and emptied."""
    try:
        top = os.open(work, _DIRECTORY, dir_fd=root)
    except FileNotFoundError:
        return
    try:
        count = 0
        while names := os.listdir(top):
            for name in names:
                count = _flatten(top, name, count)
    finally:
        os.close(top)
    os.rmdir(work, dir_fd=root)


def _flatten(top: int, name: str, count: int) -> int:
    """Remove a directory in another, to which those that are in it are moved."""
    directory = os.open(name, _DIRECTORY, dir_fd=top)
    try:
        with os.scandir(directory) as entries:
            found = [(each.name, each.is_dir(follow_symlinks=False)) for each in entries]
        for inner, is_directory in found:
            if is_directory:
                count += 1
                os.rename(inner, f"{os.getpid()}.{count}", src_dir_fd=directory, dst_dir_fd=top)
            else:
                os.unlink(inner, dir_fd=directory)
    finally:
        os.close(directory)
    os.rmdir(name, dir_fd=top)
    return count


if __name__ == "__main__":
    main()
