# SPDX-License-Identifier: Apache-2.0
"""A registry between the manager and its nodes, for fleets that one manager can't serve."""

from container_stack.host import images
from container_stack.storlets import model
from container_stack.storlets.deployment import versions


class Registry:
    """A registry that nodes pull from: :meth:`push` is a :data:`supply.Push`.

    :param engine_images: of the manager's own engine, which sends images there.
    :param prefix: host:port, or host:port/path.
    """

    def __init__(self, engine_images: images.Images, prefix: str) -> None:
        self._images = engine_images
        self._prefix = prefix.rstrip("/")

    def push(self, account: model.Account, image: versions.Image) -> str:
        """Send an image, and return its reference by digest, which can't come to mean another.

        :raises ServiceUnavailable: the registry doesn't answer the engine, or refuses.
        """
        short = image.image_id.removeprefix("sha256:")[:12]
        reference = f"{self._prefix}/{account.scope}:{short}"
        images.split_reference(reference)
        if self._images.find(image.image_id) is None:
            self._images.load(image.stream())
        self._images.tag(image.image_id, reference)
        try:
            return self._images.push(reference)
        finally:
            self._images.remove(reference)
