# SPDX-License-Identifier: Apache-2.0
"""What servers have written into their roots, kept as images while they change containers.

The engine alone knows these images: their names tell whose they are, and a label which container
they were made of.
"""

import base64
import binascii
import hashlib
import json
import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from container_stack import exceptions
from container_stack.host import containers, images
from container_stack.servers import model, names

LOG = logging.getLogger(__name__)

#: Label with the id of the container that a state was made of.
STATE = "container_stack.state"
#: Label with the configuration of the image that the server was first made of: a state has that of
#: the container, with all that its tenant and the operator have said.
ORIGIN = "container_stack.origin"
#: Layers on top of each other that the engine's storage can take (overlay2: 127), less a few.
DEEPEST = 120

_OWNER = "container_stack.owner"
#: Characters that the engine takes in a line.
_LINE = 60_000


class States:
    """The states of all servers of one owner; one server's are changed under its lock.

    :param owner: whose servers; others' are never touched.
    """

    def __init__(
        self, engine: containers.Engine, engine_images: images.Images, *, owner: str
    ) -> None:
        self._engine = engine
        self._images = engine_images
        self._owner = owner
        digest = hashlib.sha256(owner.encode()).hexdigest()
        self._prefix = f"cs-server-state-{digest[:12]}"

    def keep(self, server_id: str, container: containers.Container) -> images.Image:
        """Return the state of a container that stands aside, made now or before; idempotent.

        :raises NotSupported: the engine takes no more layers on top of what there are.
        """
        return self.find(server_id, container) or self.make(server_id, container)

    def make(self, server_id: str, container: containers.Container) -> images.Image:
        """Return the state of a container as it is now; older ones of it are given up.

        :raises NotSupported: the engine takes no more layers on top of what there are.
        """
        self.tidy(server_id)
        below = self._images.find(container.image_id)
        if below is not None and len(below.layers) >= DEEPEST:
            raise exceptions.NotSupported(
                f"Server {server_id} has {len(below.layers)} layers and can't take one more; "
                "boot another one from a snapshot whose layers were merged."
            )
        labels = f"{STATE}={container.id}"
        if below is not None:
            labels += f" {ORIGIN}={_encoded(origin(below))}"
        made = self._engine.commit(container.id, changes=[f"LABEL {labels}"[:_LINE]])
        return self.adopt(server_id, made)

    def find(self, server_id: str, container: containers.Container) -> images.Image | None:
        """Return the state that was made of a container, or None."""
        for image_id in self._images.tagged(f"{self._name(server_id)}:*").values():
            found = self._images.find(image_id)
            if found is not None and found.labels.get(STATE) == container.id:
                return found
        return None

    def adopt(self, server_id: str, image_id: str) -> images.Image:
        """Let an image be a state of this server, and return it; idempotent.

        :raises NotFound: the engine hasn't got it.
        """
        found = self._images.find(image_id)
        if found is None:
            raise exceptions.NotFound(f"The engine has no {image_id}.")
        self._images.tag(found.id, f"{self._name(server_id)}:{_short(found.id)}")
        return found

    def tidy(self, server_id: str) -> None:
        """Remove the states that none of the server's containers needs; idempotent."""
        self._remove_unused(f"{self._name(server_id)}:*", self._needed(server_id))

    def prune(self) -> Sequence[str]:
        """Remove what crashes left behind, of all servers, and return that in words."""
        needed = self._needed(None)
        removed = self._remove_unused(f"{self._prefix}-*:*", needed)
        for found in self._images.labelled(STATE):
            mine = not found.tags and found.labels.get(_OWNER) == self._owner
            if mine and found.id not in needed and self._remove(found.id):
                removed.append(found.id)
        return [f"Removed {each}: no server needs this state." for each in removed]

    def _remove_unused(self, pattern: str, needed: Collection[str]) -> list[str]:
        """Remove named states, but what their containers need, and return the names."""
        removed = []
        for name, image_id in self._images.tagged(pattern).items():
            found = None if image_id in needed else self._images.find(image_id)
            if found and found.labels.get(STATE) not in needed and self._remove(name):
                removed.append(name)
        return removed

    def _needed(self, server_id: str | None) -> set[str]:
        """Return the ids of what stands aside, for one server or all, and of images in use.

        A container that is its server's own goes on writing: what was made of it is too old.
        """
        labels = {"container_stack.kind": model.KIND, _OWNER: self._owner}
        if server_id is not None:
            labels["container_stack.id"] = server_id
        found = self._engine.list(labels)
        standing = {each.id for each in found if not names.is_main(each)}
        return standing | {each.image_id for each in found}

    def _remove(self, reference: str) -> bool:
        try:
            self._images.remove(reference)
        except exceptions.Busy:
            # Of a container that is being removed, or of a snapshot; the next start finds it.
            LOG.debug("State %(name)s is in use", {"name": reference})
            return False
        return True

    def _name(self, server_id: str) -> str:
        return f"{self._prefix}-{model.check_id(server_id)}"


def origin(image: images.Image) -> Mapping[str, Any]:
    """Return the configuration of the image that a server was first made of.

    :param image: what its container is made of now: that image, or a state.
    """
    try:
        found: Mapping[str, Any] = json.loads(base64.b64decode(image.labels[ORIGIN], validate=True))
        return found
    except (KeyError, ValueError, binascii.Error):
        return image.config


def _encoded(config: Mapping[str, Any]) -> str:
    return base64.b64encode(json.dumps(config).encode()).decode()


def _short(image_id: str) -> str:
    return image_id.removeprefix("sha256:")[:12]
