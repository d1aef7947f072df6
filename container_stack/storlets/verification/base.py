# SPDX-License-Identifier: Apache-2.0
"""The operator's base image: what every account's image has to stand on."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

from container_stack.host import images


@dataclasses.dataclass(frozen=True, slots=True)
class Base:
    """Facts of the base image.

    :param layers: diff IDs, sha256:..., the lowest first.
    :param config: what its containers start with, in the engine's words: Entrypoint, Cmd, Env...
    """

    image_id: str
    layers: tuple[str, ...]
    config: Mapping[str, Any]
    architecture: str
    os: str = "linux"

    @classmethod
    def of(cls, image: images.Image) -> Self:
        """Return the facts of an image that is in an engine."""
        return cls(image.id, image.layers, image.config, image.architecture)

    @property
    def entrypoint(self) -> tuple[str, ...]:
        """What a candidate's ENTRYPOINT must be; empty for none."""
        return words(self.config, "Entrypoint")

    @property
    def command(self) -> tuple[str, ...]:
        """What a candidate's CMD must be; empty for none."""
        return words(self.config, "Cmd")

    @property
    def environment(self) -> tuple[str, ...]:
        """What its ENV lines make: NAME=value."""
        return words(self.config, "Env")


def words(config: Mapping[str, Any], key: str) -> tuple[str, ...]:
    """Return a list of an image's configuration; null and an empty list are the same."""
    value = config.get(key)
    return tuple(str(each) for each in value) if isinstance(value, list) else ()
