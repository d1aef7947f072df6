# SPDX-License-Identifier: Apache-2.0
"""The daemon's directories, and files that an operator gave it."""

import os

from container_stack import exceptions
from container_stack.host import locks


def make(state_dir: str) -> None:
    """Make the daemon's directories.

    :raises HostNotReady: they can't be made, or somebody else could replace them.
    """
    try:
        os.makedirs(state_dir, mode=0o755, exist_ok=True)
        for name in ("driver", "cluster"):
            os.makedirs(os.path.join(state_dir, name), mode=0o755, exist_ok=True)
        for name in ("backends", "locks", "uses"):
            os.makedirs(os.path.join(state_dir, name), mode=0o700, exist_ok=True)
        os.makedirs(os.path.join(state_dir, "mounts"), mode=0o711, exist_ok=True)
        found = os.stat(state_dir)
    except OSError as exc:
        raise exceptions.HostNotReady(
            f"{exc.filename or state_dir} can't be made: {exc.strerror}; make {state_dir}, and "
            "give it to the daemon's user."
        ) from exc
    if found.st_uid not in (0, os.geteuid()) or found.st_mode & 0o022:
        raise exceptions.HostNotReady(
            f"{state_dir} must belong to the daemon's user, and nobody else may write there."
        )


def token(path: str) -> str:
    """Return the token that a file holds.

    :raises HostNotReady: it can't be read, is too short, or others than its owner can read it.
    """
    try:
        with open(path, encoding="ascii") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.readline().strip()
    except (OSError, ValueError) as exc:
        raise exceptions.HostNotReady(
            f"The token can't be read: {path}: {type(exc).__name__}."
        ) from exc
    if len(text) < 16:
        raise exceptions.HostNotReady(f"The token in {path} has fewer than 16 characters.")
    if mode & 0o007:
        raise exceptions.HostNotReady(f"Everybody may read the token: chmod o= {path}.")
    return text


def only(path: str) -> int:
    """Lock a file as the only daemon that has it; return a descriptor, whose end unlocks it.

    :raises Busy: another daemon has it.
    """
    try:
        return locks.lock(path, wait=False)
    except exceptions.Busy as exc:
        raise exceptions.Busy(f"Another daemon has {os.path.dirname(path)}.") from exc
    except OSError as exc:
        raise exceptions.HostNotReady(f"{path} can't be used: {exc.strerror}.") from exc
