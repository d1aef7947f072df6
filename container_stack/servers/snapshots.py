# SPDX-License-Identifier: Apache-2.0
"""What a server has written, as an image archive that streams; nothing of it is kept here.

As with a virtual machine, it is the file system that is taken and not how the server was started:
command, environment and labels of the new image are those of the one that the server was made
from. So a tenant's secrets among them go nowhere, and labels of ours pass for nothing.
"""

import contextlib
import logging
import os
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any, Protocol

from container_stack import exceptions
from container_stack.host import containers, images, locks
from container_stack.host.image_archive import bounds, transit
from container_stack.servers import images as server_images
from container_stack.servers import model, names, spec
from container_stack.servers.moving import states

LOG = logging.getLogger(__name__)

#: Label of an image that a snapshot is made of, with a name for the snapshot.
SNAPSHOT = "container_stack.snapshot"
_OWNER = "container_stack.owner"
#: What a server could write, others may read.
_LIMITS = bounds.Bounds(archive=2**62, unpacked=2**62, entries=server_images.ENTRIES)


class Archive(Protocol):
    """A snapshot's archive; each iteration yields it anew, and gives the same image."""

    def __iter__(self) -> Iterator[bytes]: ...


class Snapshots:
    """Takes snapshots of the servers of one owner.

    :param directory: where archives lie while they are read; None streams them from the engine.
    """

    def __init__(
        self,
        engine: containers.Engine,
        engine_images: images.Images,
        object_locks: locks.ObjectLocks,
        *,
        owner: str,
        directory: str | None = None,
    ) -> None:
        self._engine = engine
        self._images = engine_images
        self._locks = object_locks
        self._owner = owner
        self._directory = directory

    @contextlib.contextmanager
    def taking(self, server_id: str) -> Iterator[Archive]:
        """Lend the archive of a server as it is now; a running one stands still for a moment.

        What volumes hold isn't part of it.

        :raises ServerNotFound: there is no such server.
        """
        name = uuid.uuid4().hex
        with contextlib.ExitStack() as undo:
            undo.enter_context(self._locks.hold(f"snapshot-{name}"))
            image_id, config = self._commit(server_id, name, undo)
            archive = _Streamed(self._images, image_id, config)
            if self._directory is None:
                yield archive
                return
            with _spooled(archive, self._directory) as file:
                undo.close()
                yield file

    def start(self) -> Sequence[str]:
        """Remove what crashes left behind, and return that in words."""
        return [f"Removed {each}: its snapshot had been given up." for each in self.prune()]

    def prune(self) -> Sequence[str]:
        """Remove what nobody reads any more, and return the engine's ids of it."""
        removed = []
        for image in self._images.labelled(SNAPSHOT):
            if image.labels.get(_OWNER) != self._owner or image.tags:
                continue
            try:
                with self._locks.hold(f"snapshot-{image.labels[SNAPSHOT]}", wait=False):
                    self._images.remove(image.id)
                    removed.append(image.id)
            except exceptions.Busy as exc:
                LOG.debug("Image %(id)s stays: %(why)s", {"id": image.id, "why": exc})
        return removed

    def _commit(
        self, server_id: str, name: str, undo: contextlib.ExitStack
    ) -> tuple[str, Mapping[str, Any]]:
        """Return an image of the server's root and the configuration that it shall have."""
        found = self._container(server_id)
        base = self._images.find(found.image_id)
        undo.callback(self._discard, name)
        try:
            # The container's labels, its owner's among them, go into it too.
            image_id = self._engine.commit(found.id, changes=[f"LABEL {SNAPSHOT}={name}"])
        except exceptions.NotFound as exc:
            raise _missing(server_id) from exc
        return image_id, states.origin(base) if base else {}

    def _container(self, server_id: str) -> containers.Container:
        labels = spec.labels(self._owner, model.check_id(server_id))
        found = self._engine.list(labels | {model.ROLE: model.Role.MAIN})
        own = [each for each in found if names.is_main(each)]
        if not own:
            raise _missing(server_id)
        return own[0]

    def _discard(self, name: str) -> None:
        try:
            for image in self._images.labelled(f"{SNAPSHOT}={name}"):
                self._images.remove(image.id)
        except (exceptions.Busy, exceptions.EngineUnavailable) as exc:
            LOG.warning("A snapshot's image stays until the next start: %(why)s", {"why": exc})


class _Streamed:
    """The archive of an image as the engine saves it, but for its configuration."""

    def __init__(
        self, engine_images: images.Images, image_id: str, config: Mapping[str, Any]
    ) -> None:
        self._images = engine_images
        self._image_id = image_id
        self._config = config

    def __iter__(self) -> Iterator[bytes]:
        saved = self._images.save([self._image_id])
        return iter(transit.Transit(saved, _LIMITS, change=self._changed))

    def _changed(self, made: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the image's configuration, without what tells how its container ran."""
        labels = {
            name: value
            for name, value in (self._config.get("Labels") or {}).items()
            if not name.startswith(server_images.OUR_LABELS)
        }
        history = [dict(each) for each in made.get("history") or ()]
        if history:
            history[-1] |= {"created_by": "snapshot of a server", "comment": ""}
        kept = {key: made[key] for key in made.keys() - {"container", "container_config"}}
        return kept | {"config": {**self._config, "Labels": labels or None}, "history": history}


class _Spooled:
    """The same, in a file without a name, which no crash leaves behind."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def __iter__(self) -> Iterator[bytes]:
        self._file.seek(0)
        return iter(lambda: self._file.read(images.CHUNK), b"")


@contextlib.contextmanager
def _spooled(archive: Archive, directory: str) -> Iterator[Archive]:
    os.makedirs(directory, mode=0o700, exist_ok=True)
    with tempfile.TemporaryFile(dir=directory) as file:
        for piece in archive:
            file.write(piece)
        yield _Spooled(file)


def _missing(server_id: str) -> model.ServerNotFound:
    return model.ServerNotFound(f"There is no server {server_id} on this host.")
