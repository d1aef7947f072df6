# SPDX-License-Identifier: Apache-2.0
"""What an uploaded image is, found out by reading headers: some kilobytes of gigabytes."""

import dataclasses
from collections.abc import Sequence

from container_stack.host.image_archive import layers as image_layers
from container_stack.storlets import objects
from container_stack.storlets.image import archive
from container_stack.storlets.store import remote
from container_stack.storlets.verification import base


@dataclasses.dataclass(frozen=True, slots=True)
class Inspection:
    """An image as its archive describes it; nothing in it has been checked by its digest.

    :param layers: the lowest first.
    :param shared: layers that are the base's.
    :param over_base: it stands on the base, on all of its layers.
    :param names: that the archive claims; nothing uses them.
    :param size: bytes of the archive.
    :param fetched: bytes that were read of it.
    :param requests: that were made to read them.
    """

    image_id: str
    platform: str
    layers: tuple[image_layers.Layer, ...]
    shared: int
    over_base: bool
    entrypoint: tuple[str, ...]
    command: tuple[str, ...]
    names: tuple[str, ...]
    size: int
    fetched: int
    requests: int


def inspect(
    store: objects.ObjectStore,
    container: str,
    name: str,
    base_layers: Sequence[str],
    bounds: archive.Bounds | None = None,
) -> Inspection:
    """Return what an object says of its image.

    :param base_layers: diff IDs of the base.
    :raises InvalidRequest: it is no image archive.
    :raises NotFound: it isn't there.
    """
    with remote.RangeFile(store, container, name) as file:
        image = archive.ImageArchive.open(file, file.size, bounds)
        shared = image_layers.shared([each.diff_id for each in image.layers], base_layers)
        return Inspection(
            image_id=image.image_id,
            platform=f"{image.config['os']}/{image.config.get('architecture', '')}",
            layers=image.layers,
            shared=shared,
            over_base=shared == len(base_layers),
            entrypoint=base.words(image.config["config"], "Entrypoint"),
            command=base.words(image.config["config"], "Cmd"),
            names=image.names,
            size=file.size,
            fetched=file.fetched,
            requests=file.requests,
        )


def layers(
    store: objects.ObjectStore, container: str, name: str, bounds: archive.Bounds | None = None
) -> tuple[str, ...]:
    """Return the diff IDs of an object's image."""
    with remote.RangeFile(store, container, name) as file:
        image = archive.ImageArchive.open(file, file.size, bounds)
        return tuple(each.diff_id for each in image.layers)
