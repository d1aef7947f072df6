# SPDX-License-Identifier: Apache-2.0
"""Where volumes may be mounted: below one directory, and never inside one another.

Tenants write inside volumes, so no path may lead through one.
"""

import contextlib
import os
from collections.abc import Iterator

from container_stack import exceptions
from container_stack.host import locks
from container_stack.volumes import model, uses

#: Only one process at a time looks for a free path of its own choice.
_LOCK = "paths"


class Places:
    """The mount points of one driver's volumes.

    :param state_dir: of the daemon; mount points lie in its ``mounts``.
    """

    def __init__(self, driver: str, state_dir: str) -> None:
        self._driver = driver
        self._state_dir = os.path.realpath(state_dir)
        self._locks = locks.ObjectLocks(os.path.join(self._state_dir, "locks", "mounts"))
        self._given = os.path.join(os.path.abspath(state_dir), "mounts")
        self.directory = os.path.join(self._state_dir, "mounts")

    def own(self, name: str) -> str:
        """Return the path that is a volume's own: nobody else may have it."""
        return os.path.join(self.directory, self._driver, name)

    def prepare(self) -> None:
        """Make the directories in which mount points are made; forget what crashes left locked."""
        self._locks.sweep()
        os.makedirs(os.path.join(self._state_dir, "uses", self._driver), mode=0o700, exist_ok=True)
        os.makedirs(os.path.join(self.directory, self._driver), mode=0o711, exist_ok=True)

    def resolve(self, path: str, name: str) -> str:
        """Return where a volume is to be mounted.

        :param path: "" means the volume's own.
        :raises InvalidRequest: a path elsewhere, or with something odd in it.
        """
        if path in ("", self.own(name)):
            return self.own(name)
        for directory in (self._given, self.directory):
            parts = path.removeprefix(directory + "/").split("/")
            if path.startswith(directory + "/") and all(map(_is_plain, parts)):
                return os.path.join(self.directory, *parts)
        raise exceptions.InvalidRequest(
            f"{path[:200]!r} is no mount path here: name one below {self._given}, of letters, "
            "digits, '_', '.' and '-'."
        )

    @contextlib.contextmanager
    def reserving(self, held: uses.Held, path: str) -> Iterator[None]:
        """Let a path be written into a volume's record while nobody else can take it.

        :raises InvalidRequest: it belongs to a driver, or leads through a symbolic link.
        :raises Busy: it is another volume's, lies inside one or would hide one.
        """
        with contextlib.ExitStack() as stack:
            if path != self.own(held.name):
                stack.enter_context(self._locks.hold(_LOCK))
                self._refuse_taken(held.volume_id, path)
            if path not in held.paths and os.path.realpath(path) != path:
                raise exceptions.InvalidRequest(f"{path} leads through a symbolic link.")
            yield

    def _refuse_taken(self, volume_id: str, path: str) -> None:
        root = os.path.join(self._state_dir, "uses")
        drivers = os.listdir(root)
        first = os.path.relpath(path, self.directory).split("/")[0]
        if first in drivers:
            raise exceptions.InvalidRequest(
                f"{os.path.join(self.directory, first)} is for the names of {first}'s volumes."
            )
        for driver in drivers:
            for held in uses.Uses(os.path.join(root, driver)).all():
                for taken in held.paths:
                    same = taken == path and held.volume_id == volume_id
                    if not same and os.path.commonpath((taken, path)) in (taken, path):
                        raise exceptions.Busy(f"Another volume is mounted at {taken}.")


def _is_plain(part: str) -> bool:
    try:
        model.check_name(part)
    except exceptions.InvalidRequest:
        return False
    return True
