# SPDX-License-Identifier: Apache-2.0
"""The directory that an image is built in, as the tar archive that an engine wants.

Nothing outside the directory gets in: symbolic links go as links, and no directory or file is
entered or read through one, whoever swaps it meanwhile.
"""

import logging
import os
import stat
import tarfile
from collections.abc import Iterator, Mapping

import e2b_dockerfile_utils as syntax

from container_stack import exceptions
from container_stack.storlets import model

LOG = logging.getLogger(__name__)

IGNORE = ".dockerignore"
CHUNK = 1024 * 1024
#: Bytes of a file that is read whole.
LIMIT = 1024 * 1024

_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def read(directory: str, name: str) -> str:
    """Return a text file below the directory.

    :raises NotFound: it isn't there.
    :raises InvalidRequest: it lies outside, or is too long, or no text.
    """
    root = os.path.realpath(directory)
    path = os.path.realpath(os.path.join(root, name))
    if os.path.commonpath([root, path]) != root:
        raise exceptions.InvalidRequest(f"{name} lies outside of {directory}.")
    try:
        with open(os.open(path, _OPEN), "rb") as file:
            data = file.read(LIMIT + 1)
        if len(data) > LIMIT:
            raise exceptions.InvalidRequest(f"{name} has more than {LIMIT} bytes.")
        return data.decode()
    except FileNotFoundError as exc:
        raise exceptions.NotFound(f"There is no {name} in {directory}.") from exc
    except (OSError, ValueError) as exc:
        raise exceptions.InvalidRequest(f"{name} can't be read: {exc}.") from exc


def stream(
    directory: str, extra: Mapping[str, str], progress: model.Progress = model.silent
) -> Iterator[bytes]:
    """Yield a tar archive of a directory, without what its .dockerignore names.

    All in it belongs to root, as with `docker build`. Sockets, devices and pipes are left out.

    :param extra: text files that are added for the build and aren't copied into the image.
    :raises InvalidRequest: a file changes while it is read, or a pattern is malformed.
    """
    ignored = _ignored(directory)
    notes = [*ignored, *([] if ignored else [IGNORE]), *extra]
    for name, text in {**extra, IGNORE: "\n".join(notes) + "\n"}.items():
        yield from _bytes(name, text.encode())
    done = 0
    for name, folder, leaf in _walk(directory, ignored):
        if name == IGNORE or name in extra:
            continue
        for chunk in _member(name, folder, leaf):
            yield chunk
            done += len(chunk)
            progress("context", done, None)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _ignored(directory: str) -> list[str]:
    try:
        text = read(directory, IGNORE)
    except exceptions.NotFound:
        return []
    return text.removeprefix("\ufeff").splitlines()


def _walk(directory: str, ignored: list[str]) -> Iterator[tuple[str, int, str]]:
    """Yield path, open directory and last part of the path of all that isn't ignored."""
    try:
        matcher = syntax.PatternMatcher(ignored)
    except ValueError as exc:
        raise exceptions.InvalidRequest(f"{IGNORE}: {exc}.") from exc
    root = os.path.realpath(directory)
    if not os.path.isdir(root):
        raise exceptions.InvalidRequest(f"{directory} is no directory.")
    for folder, directories, files, opened in os.fwalk(root, onerror=_refuse):
        prefix = "" if folder == root else os.path.relpath(folder, root) + "/"
        for leaf in sorted(directories + files):
            if not matcher.matches(prefix + leaf):
                yield prefix + leaf, opened, leaf
        directories[:] = sorted(
            each
            for each in directories
            if not matcher.matches(prefix + each) or matcher.may_match_under(prefix + each)
        )


def _refuse(error: OSError) -> None:
    raise exceptions.InvalidRequest(f"The directory can't be read: {error}.") from error


def _member(name: str, folder: int, leaf: str) -> Iterator[bytes]:
    try:
        status = os.stat(leaf, dir_fd=folder, follow_symlinks=False)
        info = _info(name, status)
        if stat.S_ISLNK(status.st_mode):
            info.type, info.linkname = tarfile.SYMTYPE, os.readlink(leaf, dir_fd=folder)
        elif stat.S_ISDIR(status.st_mode):
            info.type = tarfile.DIRTYPE
        elif stat.S_ISREG(status.st_mode):
            yield from _file(info, folder, leaf)
            return
        else:
            LOG.warning("Left %(name)s out: it is no file, directory or link", {"name": name})
            return
    except OSError as exc:
        raise exceptions.InvalidRequest(f"{name} can't be read: {exc}.") from exc
    yield _header(info)


def _file(info: tarfile.TarInfo, folder: int, leaf: str) -> Iterator[bytes]:
    with open(os.open(leaf, _OPEN, dir_fd=folder), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise exceptions.InvalidRequest(f"{info.name} changed while it was read; try again.")
        info.size = left = status.st_size
        yield _header(info)
        while left:
            chunk = file.read(min(CHUNK, left))
            if not chunk:
                raise exceptions.InvalidRequest(f"{info.name} shrank while it was read; try again.")
            left -= len(chunk)
            yield chunk
    yield bytes(-info.size % tarfile.BLOCKSIZE)


def _bytes(name: str, data: bytes) -> Iterator[bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    yield _header(info) + data + bytes(-len(data) % tarfile.BLOCKSIZE)


def _info(name: str, status: os.stat_result) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.mode, info.mtime = stat.S_IMODE(status.st_mode), int(status.st_mtime)
    return info


def _header(info: tarfile.TarInfo) -> bytes:
    return info.tobuf(tarfile.PAX_FORMAT, errors="surrogateescape")
