# SPDX-License-Identifier: Apache-2.0
"""Images of the image service in the engine: fetched once, checked on the way, kept while of use.

An image is known by the service's id and the digest of its archive, never by a name; the engine
holds it under a name that is made of both. The archive is a tenant's, and hostile.
"""

import contextlib
import hashlib
import logging
import os
import re
import stat
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from container_stack import exceptions
from container_stack.host import images, locks
from container_stack.host.image_archive import bounds, transit
from container_stack.servers import model

LOG = logging.getLogger(__name__)

#: Labels that begin so are ours: an image that has one could pass for something else.
OUR_LABELS = "container_stack."

#: Bytes of the largest image, unless told otherwise, and files of any.
SIZE, ENTRIES = 64 * 1024**3, 2_000_000

#: What an image service may use; those of variable length aren't among them.
ALGORITHMS = frozenset(
    {"md5", "sha1", "sha224", "sha256", "sha384", "sha512", "sha3_256", "sha3_512", "blake2b"}
)
#: Characters of a digest in a name, of which the engine takes 128.
_DIGITS = 64
_HEX = re.compile(r"[0-9a-f]+")

Download = Callable[[], Iterable[bytes]]


class ServerImages:
    """The images that servers of one owner are made from.

    :param owner: whose; others' images are never touched.
    :param state_dir: where it is kept when an image was last of use.
    :param shared_directory: where archives may lie ready, named by their ids; None is nowhere.
    :param size: bytes of the largest image, packed and unpacked.
    """

    def __init__(
        self,
        engine_images: images.Images,
        object_locks: locks.ObjectLocks,
        *,
        owner: str,
        state_dir: str,
        shared_directory: str | None = None,
        size: int = SIZE,
    ) -> None:
        self._images = engine_images
        self._locks = object_locks
        #: A file for each image, as old as its last use.
        self._uses = os.path.join(state_dir, "images")
        self._shared = shared_directory
        self._limits = bounds.Bounds(archive=size, unpacked=size, entries=ENTRIES)
        self._prefix = f"cs-server-image-{hashlib.sha256(owner.encode()).hexdigest()[:12]}"

    def ensure(self, image: model.Image, download: Download) -> str:
        """Return the engine's id of an image, fetching it if it isn't there; idempotent.

        Who asks for one that is being fetched waits for it. After a failure nothing is left.

        :param download: gives the archive; isn't called when it lies in the shared directory.
        :raises InvalidRequest: it is no image archive, has another digest or size than the image
            service says, is too large, or has what a tenant's image must not have.
        """
        reference = self._reference(image)
        found = self.find(image)
        if found is None:
            with self._locks.hold(f"image-{_key(reference)}"):
                found = self.find(image) or self._fetch(image, reference, download)
        self._use(reference)
        return found

    def find(self, image: model.Image) -> str | None:
        """Return the engine's id of an image, or None when it isn't there."""
        found = self._images.find(self._reference(image))
        return found.id if found else None

    def cached(self) -> Mapping[str, str]:
        """Return the engine's ids of what is here, by the image service's; one HTTP call."""
        return {_service_id(name): image_id for name, image_id in self._tagged().items()}

    def prune(self, in_use: Collection[str], *, older_than: float) -> Sequence[str]:
        """Remove what has been of no use for long, and return the image service's ids of it.

        What servers are made from stays.

        :param in_use: the image service's ids.
        :param older_than: seconds.
        """
        removed, now = [], time.time()
        there = self._tagged()
        for reference in there:
            service_id = _service_id(reference)
            if service_id in in_use:
                self._use(reference)
            elif now - self._last_use(reference, now) >= older_than and self._remove(reference):
                removed.append(service_id)
        with contextlib.suppress(FileNotFoundError):
            for stray in set(os.listdir(self._uses)) - set(map(_key, there)):
                self._forget(stray)
        return removed

    def _fetch(self, image: model.Image, reference: str, download: Download) -> str:
        if image.size is not None:
            bounds.check("bytes", image.size, self._limits.archive)
        with contextlib.ExitStack() as undo:
            pieces = undo.enter_context(self._opened(image, download))
            passing = transit.Transit(
                _verified(pieces, image), self._limits, names=[reference], change=_checked
            )
            try:
                self._images.load(iter(passing))
            except exceptions.InvalidRequest as exc:
                raise type(exc)(f"Image {image.id} can't be used: {exc}") from exc
        found = self.find(image)
        if found is None:
            raise exceptions.NotFound(f"Image {image.id} was removed meanwhile; try again.")
        LOG.info("Fetched image %(image)s as %(id)s", {"image": image.id, "id": found})
        return found

    @contextlib.contextmanager
    def _opened(self, image: model.Image, download: Download) -> Iterator[Iterable[bytes]]:
        path = os.path.join(self._shared, model.check_id(image.id)) if self._shared else ""
        if path and os.path.exists(path):
            with open(path, "rb") as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise exceptions.HostNotReady(f"{path} is no file; put the archive there.")
                yield iter(lambda: file.read(images.CHUNK), b"")
            return
        pieces = download()
        try:
            yield pieces
        finally:
            close = getattr(pieces, "close", None)
            if close is not None:
                close()

    def _tagged(self) -> Mapping[str, str]:
        return self._images.tagged(f"{self._prefix}/*:*")

    def _reference(self, image: model.Image) -> str:
        return f"{self._prefix}/{model.check_id(image.id)}:{_tag(image)}"

    def _use(self, reference: str) -> None:
        path = os.path.join(self._uses, _key(reference))
        try:
            _touch(path)
        except FileNotFoundError:
            os.makedirs(self._uses, mode=0o700, exist_ok=True)
            _touch(path)

    def _last_use(self, reference: str, now: float) -> float:
        """Return when an image was last of use; from now on, if nobody has noted that."""
        with contextlib.suppress(FileNotFoundError):
            return os.stat(os.path.join(self._uses, _key(reference))).st_mtime
        self._use(reference)
        return now

    def _forget(self, key: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(self._uses, key))

    def _remove(self, reference: str) -> bool:
        try:
            with self._locks.hold(f"image-{_key(reference)}", wait=False):
                self._images.remove(reference)
                self._forget(_key(reference))
        except exceptions.Busy as exc:
            LOG.debug("Image %(image)s stays: %(why)s", {"image": reference, "why": exc})
            return False
        return True


def _touch(path: str) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
    os.utime(path)


def _tag(image: model.Image) -> str:
    """Return what tells two archives of the same id apart."""
    if not image.digest:
        return "unknown"
    digest = image.digest.lower()
    if image.algorithm not in ALGORITHMS or not _HEX.fullmatch(digest):
        raise exceptions.InvalidRequest(
            f"This host can't compute {image.algorithm!a}, by which image {image.id} is known."
        )
    return f"{image.algorithm}-{digest[:_DIGITS]}"


def _key(reference: str) -> str:
    return reference.partition("/")[2].replace(":", "-")


def _service_id(reference: str) -> str:
    return reference.partition("/")[2].partition(":")[0]


def _verified(pieces: Iterable[bytes], image: model.Image) -> Iterator[bytes]:
    """Yield an archive as it comes; its end raises unless it is the one that was promised."""
    digest = hashlib.new(image.algorithm or "md5", usedforsecurity=False)
    size = 0
    for piece in pieces:
        size += len(piece)
        digest.update(piece)
        if image.size is not None and size > image.size:
            raise exceptions.InvalidRequest(
                f"It has more than the {image.size} bytes that the image service says."
            )
        yield piece
    if image.size is not None and size < image.size:
        raise exceptions.InvalidRequest(
            f"It is cut off: {size} bytes came of {image.size}; try again, or upload it again."
        )
    if image.digest and digest.hexdigest() != image.digest.lower():
        raise exceptions.InvalidRequest(
            f"Its {image.algorithm} is {digest.hexdigest()}, and the image service says "
            f"{image.digest}: it was changed, or damaged on its way."
        )


def _checked(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return an image's configuration.

    :raises InvalidRequest: it has a label of ours.
    """
    for name in config["config"].get("Labels") or {}:
        if name.lower().startswith(OUR_LABELS):
            raise exceptions.InvalidRequest(f"It has the label {name[:80]!a}, which is reserved.")
    return config
