# SPDX-License-Identifier: Apache-2.0
"""Where nodes get an image from: this manager, what it has put by in Swift, or a registry."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Protocol, Self

from container_stack.storlets import model, nodes
from container_stack.storlets.deployment import events, fleet, versions

#: Pushes an image to a registry, under a name of ours, and returns the reference to pull.
Push = Callable[[model.Account, versions.Image], str]


class Archives(Protocol):
    """Images that are put by, in the storlet manager's account."""

    def save(
        self,
        account: model.Account,
        image: versions.Image,
        passed: Callable[[Iterator[bytes]], Iterator[bytes]],
    ) -> None:
        """Put an image by; fine if it is. ``passed`` sees what is sent to do so."""

    def has(self, account: model.Account, image_id: str) -> bool:
        """Return whether an image is there, whole."""

    def open(
        self, account: model.Account, image_id: str
    ) -> contextlib.AbstractContextManager[versions.Image]:
        """Open an image.

        :raises NotFound: it isn't there.
        """

    def list(self, account: model.Account) -> Iterator[str]:
        """Yield the IDs of all images of an account."""

    def remove(self, account: model.Account, image_id: str) -> None:
        """Remove an image; fine if it is gone."""


class Supply:
    """One image for many nodes; a context that closes what it had to open.

    :param image: None where it must be one that was put by; it is opened only if a node lacks it.
    """

    def __init__(
        self,
        account: model.Account,
        version: versions.Version,
        archives: Archives,
        push: Push | None,
        image: versions.Image | None = None,
    ) -> None:
        self._account = account
        self._version = version
        self._archives = archives
        self._push = push
        self._given = self._image = image
        self._lock = threading.Lock()
        self._stack = contextlib.ExitStack()
        self._reference: str | None = None

    def put_by(self, watcher: events.Watcher) -> None:
        """Put a new image by, so that other managers have it too."""
        if self._given is not None:
            told = events.Narrator(watcher, events.Event(events.Step.ARCHIVE))
            self._archives.save(self._account, self._given, told.passed)

    def deliver(self, node: nodes.Node, told: events.Narrator, halt: threading.Event) -> None:
        """Bring the image to a node, which keeps it.

        :param halt: once it is set, what is on its way is given up.
        """
        image_id = self._version.image_id

        def archive(skip: int) -> Iterator[bytes]:
            return told.passed(_until(halt, self._opened().stream(skip)))

        if self._push is None:
            node.stage(self._account, image_id, self._version.diff_ids, archive)
        elif image_id not in node.state(self._account).kept:
            node.stage_from(self._account, image_id, self._pushed(self._push))

    def _opened(self) -> versions.Image:
        with self._lock:
            return self._open_once()

    def _pushed(self, push: Push) -> str:
        with self._lock:
            if self._reference is None:
                self._reference = push(self._account, self._open_once())
            return self._reference

    def _open_once(self) -> versions.Image:
        if self._image is None:
            self._image = self._stack.enter_context(
                self._archives.open(self._account, self._version.image_id)
            )
        return self._image

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stack.close()


def _until(halt: threading.Event, pieces: Iterator[bytes]) -> Iterator[bytes]:
    for piece in pieces:
        if halt.is_set():
            raise fleet.Halted("The transfer was given up.")
        yield piece
