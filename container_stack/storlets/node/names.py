# SPDX-License-Identifier: Apache-2.0
"""The names that an account's images have on a node: the runtime's, and ours that keep them."""

from collections.abc import Callable, Mapping

from container_stack.host import images
from container_stack.storlets import model

#: Repository of the names that keep images for accounts.
KEPT = "container-stack-storlets"


class Names:
    """The images of one account on one node, by their names."""

    def __init__(self, engine_images: images.Images, account: model.Account) -> None:
        self._images = engine_images
        self._current = account.image
        self._repository = f"{KEPT}/{account.scope}"

    def all(self) -> Mapping[str, str]:
        """Return the IDs by the names, of which :attr:`current` needn't be one."""
        return self._images.tagged(self._current, f"{self._repository}:*")

    @property
    def current(self) -> str:
        """The name that the runtime starts a sandbox from."""
        return self._current

    def keep(self, image_id: str) -> None:
        """Name an image, so that it stays."""
        self._images.tag(image_id, self._kept(image_id))

    def keeps(self, image_id: str) -> bool:
        """Return whether an image has a name that keeps it."""
        return self.all().get(self._kept(image_id)) == image_id

    def has_served(self, image_id: str) -> bool:
        """Return whether the account's requests have run in an image before, and then another."""
        return self.all().get(self._served(image_id)) == image_id

    def change(self, image_id: str | None) -> Callable[[], None]:
        """Name what the runtime starts next, and return what takes that back."""
        before = self._images.find(self._current)
        if before is not None and before.id != image_id:
            # It may have been known by this name only.
            self.keep(before.id)
            self._images.tag(before.id, self._served(before.id))
        self._name(image_id)
        return lambda: self._name(before.id if before else None)

    def forget(self, image_id: str) -> None:
        """Take an image's names away, and the image if no other account keeps it."""
        names = self.all()
        for name in (self._served(image_id), self._kept(image_id)):
            if names.get(name) == image_id:
                self._images.remove(name)

    def _name(self, image_id: str | None) -> None:
        if image_id is None:
            self._images.remove(self._current)
        else:
            self._images.tag(image_id, self._current)

    def _kept(self, image_id: str) -> str:
        return f"{self._repository}:{image_id.removeprefix('sha256:')[:12]}"

    def _served(self, image_id: str) -> str:
        return f"{self._kept(image_id)}-served"
