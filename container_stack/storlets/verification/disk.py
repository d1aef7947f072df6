# SPDX-License-Identifier: Apache-2.0
"""Notices when a candidate fills the disk: in its own layer, in mounts, or by what it prints.

The gateway's options bound none of that, and neither does the engine on most file systems.
"""

import contextlib
import os
from collections.abc import Iterator

from container_stack import exceptions
from container_stack.host import containers

#: Files that a candidate may make before they are taken for an attempt to use up a file system.
FILES = 100_000
#: Seconds that the engine may take to count the bytes of a container.
COUNTING = 5.0


class Watch:
    """Looks at free space, and at what the candidate has of it when much is gone.

    :param directory: mounted into the candidate's container.
    :param container: its name; it needn't be there yet.
    :param growth: bytes that it may take.
    """

    def __init__(
        self, engine: containers.Engine, container: str, directory: str, growth: int
    ) -> None:
        self._engine = engine
        self._container = container
        self._directory = directory
        self._growth = growth
        self._free: dict[str, int] = {}
        self._places = (directory, _root(engine))

    def begin(self) -> None:
        """Take what is free now as the measure."""
        self._free = {each: _free(each) for each in self._places}

    def __call__(self) -> None:
        """Compare; nothing is compared before :meth:`begin`.

        :raises ProbeFailed: the candidate took too much.
        """
        lost = max((before - _free(each) for each, before in self._free.items()), default=0)
        if lost <= self._growth:
            return
        taken = self._taken(lost)
        if taken > self._growth:
            raise exceptions.ProbeFailed(
                f"It took {taken} bytes of the disk, and {self._growth} are allowed."
            )
        self.begin()

    def _taken(self, lost: int) -> int:
        """Return the bytes that are the candidate's.

        What can't be counted, as the engine's log by who may not see it, or what takes too long to
        be, is taken for all that is gone.
        """
        counted = sum(_sizes(self._directory))
        try:
            with self._engine.connection.use(COUNTING) as client:
                filters = {"name": f"^/{self._container}$"}
                found = client.containers(all=True, size=True, filters=filters)
                counted += sum(each.get("SizeRw") or 0 for each in found)
                log = client.inspect_container(self._container)["LogPath"]
            return counted + (os.stat(log).st_size if log else 0)
        except exceptions.NotFound:
            return counted
        except (PermissionError, exceptions.EngineUnavailable):
            return max(counted, lost)


def _sizes(directory: str) -> Iterator[int]:
    """Yield bytes of files, as the disk has them; what vanishes meanwhile takes none."""
    waiting, seen = [directory], 0
    while waiting:
        with contextlib.suppress(OSError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                seen += 1
                if seen > FILES:
                    raise exceptions.ProbeFailed(f"It made more than {FILES} files.")
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                yield entry.stat(follow_symlinks=False).st_blocks * 512


def _root(engine: containers.Engine) -> str:
    """Return where the engine of this host keeps containers and what they print.

    That is the nearest directory above which this user may look at.
    """
    path: str = engine.info()["DockerRootDir"]
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return path


def _free(directory: str) -> int:
    status = os.statvfs(directory)
    return status.f_bavail * status.f_frsize
