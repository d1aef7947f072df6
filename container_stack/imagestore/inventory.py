# SPDX-License-Identifier: Apache-2.0
"""Which images an array has, and which of them are orphans: unfinished, and nobody works on them.

Nothing here attaches a volume.
"""

import contextlib
import dataclasses
import logging
import time
from collections.abc import Iterator

from container_stack import exceptions
from container_stack.imagestore import clones, edf, journal, model

LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Orphan:
    """An unfinished image that nobody on this host works on.

    :param dead: whether that is certain: this host's journal has it, and nobody holds the record.
        Otherwise another host may be uploading it right now.
    :param age: seconds since its upload began; None when unknown.
    """

    image_id: str
    host: str
    dead: bool
    age: float | None


class Inventory:
    """The images of one array and tenant.

    :param records: of this host and of the client's array and tenant.
    """

    def __init__(self, client: edf.Client, records: journal.Journal) -> None:
        self._client = client
        self._journal = records

    def images(self) -> Iterator[model.Image]:
        """Yield all images by id, finished ones and others; reads a page at a time."""
        cloned = clones.Clones(self._client).all()
        for instance in self._client.app_instances(model.IMAGE):
            image_id = model.image_id(instance.name)
            with contextlib.suppress(exceptions.NotFound):  # deleted meanwhile
                noted = self._client.metadata(instance.name)
                yield model.image(image_id, noted, cloned.get(model.clone_prefix(image_id), ()))

    def orphans(self) -> Iterator[Orphan]:
        """Yield the orphans by id."""
        for image in self.images():
            # Not what other programs call so, either.
            with contextlib.suppress(
                exceptions.Busy, exceptions.NotFound, exceptions.InvalidRequest
            ):
                if image.size is None:
                    yield self._orphan(image)

    def remove_orphan(self, image_id: str) -> None:
        """Remove what a dead upload left, also one from another host: make sure it is dead.

        :raises NotFound: there is no such image.
        :raises Busy: it is being stored on this host.
        :raises InvalidRequest: it is finished; delete it.
        """
        name = model.image_name(image_id)
        with self._journal.take(image_id) as entry:
            instance = self._client.app_instance(name)
            if model.length(self._client.metadata(name)) is not None:
                raise exceptions.InvalidRequest(f"Image {image_id} is finished, and no orphan.")
            # By its UUID: nothing else that got the name since then.
            self._client.delete_app_instance(instance.uuid)
            entry.forget()
        LOG.info("Removed what was left of image %(id)s", {"id": image_id})

    def _orphan(self, image: model.Image) -> Orphan:
        with self._journal.take(image.image_id) as entry:
            # Now that nobody here works on it: it may have become finished since we looked.
            name = model.image_name(image.image_id)
            if model.length(self._client.metadata(name)) is not None:
                raise exceptions.NotFound(f"Image {image.image_id} is no orphan.")
            noted = entry.noted()
            dead = self._client.app_instance(name).uuid in noted
            if not noted:
                entry.forget()
        age = None if image.begun is None else max(0.0, time.time() - image.begun)
        return Orphan(image.image_id, image.host, dead, age)
