# SPDX-License-Identifier: Apache-2.0
"""Putting an image store together from plain values: what a driver or your own service calls."""

import dataclasses

from container_stack.host import attach
from container_stack.imagestore import edf


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """How images are to be kept on an array.

    :param name: of the store; for logs.
    :param attacher: entry-point name of the way to reach volumes; None for one that works here.
    :param state_dir: directory for the journal; this process must own it, restarts must not
        empty it.
    :param chunk_size: most bytes that go to or from a volume at once.
    :param first_size_gib: what the volume of an image starts with whose size nobody tells.
    :param replica_count: copies of a new image, 1 to 5.
    :param placement_mode: media of new images, as the array names them.
    """

    name: str
    endpoint: edf.Endpoint
    state_dir: str
    attacher: str | None = None
    attach_options: attach.Options = dataclasses.field(default_factory=attach.Options)
    chunk_size: int = 1024**3
    first_size_gib: int = 1
    replica_count: int = 3
    placement_mode: str = "hybrid"
