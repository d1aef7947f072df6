# SPDX-License-Identifier: Apache-2.0
"""Notices when a candidate fills the disk: in its own layer, in mounts, or by what it prints.

The gateway's options bound none of that, and neither does the engine on most file systems.
"""

import os
from collections.abc import Sequence

from container_stack import exceptions
from container_stack.host import containers


class Watch:
    """Compares the free space of file systems with what it was.

    It counts what anybody writes there meanwhile: no file system tells whose bytes they are, and
    walking what the candidate wrote takes as long as it likes.

    :param directories: on the file systems to watch.
    :param growth: bytes that may go.
    """

    def __init__(self, directories: Sequence[str], growth: int) -> None:
        self._directories = directories
        self._growth = growth
        self._free: dict[str, int] = {}

    def begin(self) -> None:
        """Take what is free now as the measure."""
        self._free = {each: _free(each) for each in self._directories}

    def __call__(self) -> None:
        """Compare; nothing is compared before :meth:`begin`.

        :raises ProbeFailed: too much is gone.
        """
        for directory, before in self._free.items():
            gone = before - _free(directory)
            if gone > self._growth:
                raise exceptions.ProbeFailed(
                    f"The disk lost {gone} bytes while it ran, and {self._growth} were allowed; "
                    "if something else wrote those, verify again."
                )


def root(engine: containers.Engine) -> str:
    """Return where the engine of this host keeps containers and what they print.

    That is the nearest directory above which this user may look at.
    """
    with engine.connection.use() as client:
        path: str = client.info()["DockerRootDir"]
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return path


def _free(directory: str) -> int:
    status = os.statvfs(directory)
    return status.f_bavail * status.f_frsize
