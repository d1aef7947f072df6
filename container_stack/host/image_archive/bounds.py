# SPDX-License-Identifier: Apache-2.0
"""How much of a stranger's image is read before it is refused."""

import dataclasses

from container_stack import exceptions

_GIB = 1024**3


@dataclasses.dataclass(frozen=True, slots=True)
class Bounds:
    """How much of an image is read before it is refused.

    :param archive: bytes of the archive.
    :param unpacked: bytes of all layers; more than the archive's when it has one layer twice.
    :param layers: the engine takes 125.
    :param entries: files of all layers, directories and links too.
    :param config: bytes of the configuration, and of manifest.json.
    """

    archive: int = 8 * _GIB
    unpacked: int = 16 * _GIB
    layers: int = 125
    entries: int = 100_000
    config: int = 1024 * 1024

    @property
    def members(self) -> int:
        """Members of the archive itself: engines write four for each layer, and a few more."""
        return 8 * self.layers + 64


def check(what: str, value: int, limit: int) -> None:
    """Refuse an archive that has too much of something.

    :raises InvalidRequest: the value is above the limit.
    """
    if value > limit:
        raise exceptions.InvalidRequest(f"The archive has more than {limit} {what}.")
