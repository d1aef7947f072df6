# SPDX-License-Identifier: Apache-2.0
"""Clones of images, for servers to boot from: made in one call, without copying anything.

A clone is an app instance that begins as the image's snapshot. Its name tells the image, so that
one question to the array answers which clones an image has.
"""

import collections
import contextlib
import logging

from container_stack import exceptions
from container_stack.host import attach
from container_stack.imagestore import edf, model

LOG = logging.getLogger(__name__)


class Clones:
    """The clones on one array."""

    def __init__(self, client: edf.Client) -> None:
        self._client = client

    def make(self, image_id: str, clone_id: str, initiator: str = "") -> attach.Target:
        """Clone an image, unless that clone exists, and return where to attach it.

        :param initiator: who may attach it, besides those who may already.
        :raises NotFound: there is no such image.
        """
        name = model.clone_name(image_id, clone_id)
        with contextlib.ExitStack() as undo:
            try:
                self._client.create_app_instance(name, clone_of=self._snapshot(image_id))
            except exceptions.AlreadyExists:
                LOG.debug("%(name)s exists already", {"name": name})
            else:
                undo.callback(self._remove_quietly, name)
                LOG.info("Cloned image %(image)s as %(name)s", {"image": image_id, "name": name})
            self._client.set_metadata(name, {"type": "clone", "image": image_id})
            self._client.set_online(name, True)
            if initiator:
                self._client.allow(name, initiator)
            self._client.wait_available(name)
            target = self._client.target(name)
            undo.pop_all()
        return target

    def remove(self, image_id: str, clone_id: str) -> bool:
        """Remove a clone with all that was written to it; return whether there was one."""
        return self._client.delete_app_instance(model.clone_name(image_id, clone_id))

    def of(self, image_id: str) -> tuple[str, ...]:
        """Return the ids of an image's clones, half-made ones too, sorted."""
        prefix = model.clone_prefix(image_id)
        found = self._client.app_instances(prefix)
        return tuple(sorted(each.name.removeprefix(prefix) for each in found))

    def all(self) -> dict[str, tuple[str, ...]]:
        """Return the ids of all clones by what the names of an image's clones begin with."""
        found: dict[str, list[str]] = collections.defaultdict(list)
        for each in self._client.app_instances(model.CLONE):
            prefix, clone_id = model.split_clone(each.name)
            found[prefix].append(clone_id)
        return {prefix: tuple(sorted(ids)) for prefix, ids in found.items()}

    def _snapshot(self, image_id: str) -> str:
        name = model.image_name(image_id)
        made = self._client.snapshots(name) or [self._client.snapshot(name)]
        return made[0].path

    def _remove_quietly(self, name: str) -> None:
        try:
            self._client.delete_app_instance(name)
        except exceptions.ContainerStackError as exc:
            LOG.warning("The failed clone %(name)s stays: %(why)s", {"name": name, "why": exc})
