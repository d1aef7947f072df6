# SPDX-License-Identifier: Apache-2.0
"""The configuration drive: a directory with what the compute service tells a server of itself.

Every user of the server can read it, as every one can ask the metadata service. On the host it
lies below a directory that the service alone may enter.
"""

import contextlib
import os
import shutil
from collections.abc import Mapping

from container_stack import exceptions

_LONGEST_NAME = 255
#: For everybody, whatever the umask: root in a user namespace is nobody here.
_DIRECTORY, _FILE = 0o755, 0o444


def write(directory: str, files: Mapping[str, bytes]) -> None:
    """Write a drive anew; idempotent, and whole or not at all whatever is killed.

    Nobody waits for the disk: a loss of power may take it, and who needs it has read it then.

    :param directory: its parent must exist.
    :param files: contents by relative path.
    :raises InvalidRequest: a path leads elsewhere, or is a file and a directory at once.
    """
    for path in files:
        _check(path, files)
    new = f"{directory}.new"
    _remove(new)
    os.mkdir(new)
    os.chmod(new, _DIRECTORY)
    for path, content in files.items():
        _make_directories(new, path.split("/")[:-1])
        with open(os.path.join(new, path), "xb") as file:
            os.fchmod(file.fileno(), _FILE)
            file.write(content)
    _remove(directory)
    os.rename(new, directory)


def remove(directory: str) -> None:
    """Remove a drive, or what there is of it; idempotent."""
    _remove(f"{directory}.new")
    _remove(directory)


def _check(path: str, files: Mapping[str, bytes]) -> None:
    parts = path.split("/")
    names = ("", ".", "..")
    if "\0" in path or any(part in names or len(part.encode()) > _LONGEST_NAME for part in parts):
        raise exceptions.InvalidRequest(f"{path!r} can't be in a configuration drive.")
    for end in range(1, len(parts)):
        if "/".join(parts[:end]) in files:
            raise exceptions.InvalidRequest(
                f"{'/'.join(parts[:end])!r} in a configuration drive is a file and a directory."
            )


def _make_directories(top: str, names: list[str]) -> None:
    for end in range(1, len(names) + 1):
        path = os.path.join(top, *names[:end])
        with contextlib.suppress(FileExistsError):
            os.mkdir(path)
            os.chmod(path, _DIRECTORY)


def _remove(directory: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(directory)
