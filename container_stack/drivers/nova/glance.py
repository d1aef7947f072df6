# SPDX-License-Identifier: Apache-2.0
"""Glance, as Nova's own client speaks to it: images for servers, and snapshots of them."""

import contextlib
import logging
import queue
import threading
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import nova.conf
from nova import exception
from nova.image import glance

from container_stack import exceptions
from container_stack.drivers.nova import begun, errors
from container_stack.servers import images, model, snapshots

LOG = logging.getLogger(__name__)
CONF = nova.conf.CONF

#: What Nova's users must have given as --container-format.
CONTAINER_FORMAT = "docker"
DISK_FORMAT = "raw"

#: Pieces of a download that may wait for the engine.
_WAITING = 16


class Glance:
    """What Nova keeps in Glance and this host in its engine.

    :param state_dir: for what must be known of images on their way.
    :param api: Nova's client.
    """

    def __init__(self, server_images: images.ServerImages, state_dir: str, api: Any = None) -> None:
        self._images = server_images
        self._api = api or glance.API()
        self.begun = begun.Begun(state_dir, self._api)

    def ensure(self, context: Any, image_id: str, trusted_certs: Any = None) -> str:
        """Return the engine's id of an image, downloading it if it isn't there; idempotent.

        :param trusted_certs: of an instance, as Nova has them.
        :raises ImageUnacceptable: it can't be used; the text says why.
        """
        image = self.describe(context, image_id)
        with _refusals(image_id):
            return self._images.ensure(
                image, lambda: _download(self._api, context, image_id, trusted_certs)
            )

    def cache(self, context: Any, image_id: str) -> bool:
        """Download an image if it isn't there, and return whether it wasn't."""
        image = self.describe(context, image_id)
        with _refusals(image_id):
            there = self._images.find(image) is not None
        self.ensure(context, image_id)
        return not there

    def describe(self, context: Any, image_id: str) -> model.Image:
        """Return what Glance says of an image.

        :raises ImageUnacceptable: it is in no format that an engine takes.
        """
        found = self._api.get(context, image_id)
        if found.get("container_format") != CONTAINER_FORMAT:
            raise exception.ImageUnacceptable(
                image_id=image_id,
                reason=f"its container format is {found.get('container_format')!r}, and hosts of "
                f"containers take {CONTAINER_FORMAT!r}: docker save IMAGE | openstack image create "
                f"--container-format {CONTAINER_FORMAT} --disk-format {DISK_FORMAT} NAME",
            )
        algorithm, digest = _digest(found)
        return model.Image(
            id=image_id,
            digest=digest,
            algorithm=algorithm,
            size=found.get("size") or None,
            name=found.get("name") or "",
        )

    def upload(self, context: Any, image_id: str, archive: snapshots.Archive) -> None:
        """Put an archive into an image that Nova has made for it; its properties stay.

        :raises ImageUnacceptable: Glance has not got all of it.
        """
        values = {"disk_format": DISK_FORMAT, "container_format": CONTAINER_FORMAT}
        self._put(context, image_id, values, archive)

    def send_parcel(self, context: Any, name: str, server_id: str, parcel: Iterable[bytes]) -> str:
        """Put what goes to another host into an image of its own and return that one's id.

        :meth:`begun.Begun.discard` deletes it when the move is over. If this fails, there is none.
        """
        image_id = str(uuid.uuid4())
        values = {"name": name, "disk_format": DISK_FORMAT, "container_format": "bare"}
        self.begun.note(image_id, server_id, begun.Kind.PARCEL)
        try:
            self._api.create(context, {"id": image_id, **values})
            self._put(context, image_id, values, parcel)
        except BaseException:
            self.begun.discard(context, server_id)
            raise
        return image_id

    def parcel(self, context: Any, image_id: str) -> Iterator[bytes]:
        """Yield what another host has sent; its end raises if it arrived otherwise."""
        with _refusals(image_id):
            yield from _download(self._api, context, image_id, None)

    def manage_cache(self, instances: Iterable[Any]) -> None:
        """Remove from the engine what no instance needs any more, as Nova's options have it."""
        if not CONF.image_cache.remove_unused_base_images:
            return
        used = {each.image_ref for each in instances if each.image_ref}
        age = CONF.image_cache.remove_unused_original_minimum_age_seconds
        for removed in self._images.prune(used, older_than=age):
            LOG.info("Removed image %(image)s: it was of no use for long", {"image": removed})

    def _put(
        self, context: Any, image_id: str, values: dict[str, Any], pieces: Iterable[bytes]
    ) -> None:
        reader = _Reader(pieces)
        made = self._api.update(context, image_id, values, reader, purge_props=False)
        size = made.get("size")
        # Nova's client repeats an upload that broke, with what is left of it.
        if size and reader.taken and size != reader.taken:
            raise exception.ImageUnacceptable(
                image_id=image_id,
                reason=f"the upload broke: Glance has {size} bytes of {reader.taken}; try again",
            )


def _digest(found: Mapping[str, Any]) -> tuple[str, str]:
    """Return by what an archive can be checked: Glance's own hash, else its older checksum."""
    algorithm, digest = found.get("os_hash_algo"), found.get("os_hash_value")
    if algorithm in images.ALGORITHMS and digest:
        return str(algorithm), str(digest)
    checksum = found.get("checksum")
    return ("md5", str(checksum)) if checksum else ("", "")


@contextlib.contextmanager
def _refusals(image_id: str) -> Iterator[None]:
    try:
        yield
    except exceptions.InvalidRequest as exc:
        raise errors.refused(exc, image_id) from exc
    except exceptions.ContainerStackError as exc:
        raise errors.of(exc) from exc


class _Reader:
    """An archive as a file, which is all that Glance's client takes."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._left = b""
        #: Bytes that were read.
        self.taken = 0

    def read(self, size: int = -1) -> bytes:
        """Return so many bytes or less, none at the end; all that there is if negative."""
        if size < 0:
            data, self._left = self._left + b"".join(self._pieces), b""
        else:
            while not self._left:
                piece = next(self._pieces, None)
                if piece is None:
                    break
                self._left = piece
            data, self._left = self._left[:size], self._left[size:]
        self.taken += len(data)
        return data


class _Pipe:
    """What Nova's client writes a download into, so that it can check a signature over it."""

    def __init__(self) -> None:
        self._pieces: queue.Queue[bytes | None] = queue.Queue(_WAITING)
        self._closed = threading.Event()

    def write(self, data: bytes) -> int:
        self._put(bytes(data))
        return len(data)

    def truncate(self, size: int) -> int:
        """Say that what was written is void; an error follows that says so too."""
        return size

    def end(self) -> None:
        """Tell who reads that no more comes."""
        with contextlib.suppress(ConnectionAbortedError):
            self._put(None)

    def close(self) -> None:
        """Tell who writes that nobody reads any more."""
        self._closed.set()

    def pieces(self) -> Iterator[bytes]:
        """Yield what is written."""
        while (piece := self._pieces.get()) is not None:
            yield piece

    def _put(self, piece: bytes | None) -> None:
        while not self._closed.is_set():
            with contextlib.suppress(queue.Full):
                self._pieces.put(piece, timeout=0.5)
                return
        raise ConnectionAbortedError("The engine takes no more of the image.")


def _download(api: Any, context: Any, image_id: str, trusted_certs: Any) -> Iterator[bytes]:
    """Yield an archive; its end raises if its signature, where Nova wants one, is wrong."""
    pipe = _Pipe()
    failed: list[Exception] = []

    def run() -> None:
        try:
            api.download(context, image_id, data=pipe, trusted_certs=trusted_certs)
        except Exception as exc:
            failed.append(exc)
        finally:
            pipe.end()

    thread = threading.Thread(target=run, name=f"image-{image_id}", daemon=True)
    thread.start()
    try:
        yield from pipe.pieces()
        thread.join()
        if failed:
            raise _why_broken(image_id, failed[0])
    finally:
        pipe.close()


def _why_broken(image_id: str, exc: Exception) -> Exception:
    """Return an error of ours where Nova has none for it."""
    if isinstance(exc, OSError) and "Corrupt image download" in str(exc):
        return exceptions.InvalidRequest(f"It was changed, or damaged on its way: {exc}.")
    if isinstance(exc, OSError):
        return exceptions.ServiceUnavailable(f"Glance didn't give image {image_id}: {exc}.")
    return exc
