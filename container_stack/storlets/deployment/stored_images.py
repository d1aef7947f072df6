# SPDX-License-Identifier: Apache-2.0
"""Images that are put by in the storlet manager's own account, each layer once.

In the container :data:`CONTAINER`, below the name of an account's scope::

    images/<image ID>   a document: which layers, and the head of the archive
    layers/<diff ID>    a layer with its tar header, as it goes into the archive

The document is written last and removed first, so what it names is there. Only who has the
account's lease saves or removes.
"""

import base64
import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence

from container_stack import exceptions
from container_stack.host.image_archive import tar
from container_stack.storlets import model, objects
from container_stack.storlets.deployment import versions
from container_stack.storlets.store import documents

CONTAINER = "storlet_images"
SEGMENTS = "storlet_images_segments"

#: What :meth:`container_stack.storlets.image.archive.ImageArchive.stream` ends with.
END = bytes(2 * tar.BLOCK)

_GIB = 1024**3
_KIND = "image"
_Passed = Callable[[Iterator[bytes]], Iterator[bytes]]


class StoredImages:
    """What :class:`container_stack.storlets.deployment.supply.Archives` asks for.

    :param segment_size: bytes; larger layers are stored in segments.
    """

    def __init__(self, store: objects.ObjectStore, segment_size: int = _GIB) -> None:
        self._store = store
        self._segment_size = segment_size

    def save(self, account: model.Account, image: versions.Image, passed: _Passed) -> None:
        """Put an image by; only layers that aren't there are sent."""
        if self.has(account, image.image_id):
            return
        for container in (CONTAINER, SEGMENTS):
            self._store.set_container(container, {})
        head = b"".join(image.stream(len(image.layers))).removesuffix(END)
        there = set(self._layers(account))
        for number, layer in enumerate(image.layers):
            if layer.diff_id not in there:
                member = _Member(image, number, len(head), tar.BLOCK + _blocks(layer.size), passed)
                self._write(_layer_name(account, layer.diff_id), member)
                there.add(layer.diff_id)
        content = {
            "account": account.name,
            "image_id": image.image_id,
            "head": base64.b64encode(head).decode(),
            "layers": [{"diff_id": each.diff_id, "size": each.size} for each in image.layers],
        }
        data = documents.encode(_KIND, content)
        self._store.write(CONTAINER, _image_name(account, image.image_id), data, size=len(data))

    def has(self, account: model.Account, image_id: str) -> bool:
        """Return whether an image is there."""
        try:
            self._store.head(CONTAINER, _image_name(account, image_id))
        except exceptions.NotFound:
            return False
        return True

    @contextlib.contextmanager
    def open(self, account: model.Account, image_id: str) -> Iterator[versions.Image]:
        """Yield an image; its layers are read from the store each time that they are wanted.

        :raises NotFound: it isn't there.
        """
        yield self._read(account, image_id)

    def list(self, account: model.Account) -> Iterator[str]:
        """Yield the IDs of all images of an account."""
        return self._digests(f"{account.scope}/images/")

    def remove(self, account: model.Account, image_id: str) -> None:
        """Remove an image, and all layers that no image has."""
        self._store.remove(CONTAINER, _image_name(account, image_id))
        used = {
            layer.diff_id
            for other in self.list(account)
            for layer in self._read(account, other).layers
        }
        for diff_id in list(self._layers(account)):
            if diff_id not in used:
                self._store.remove(CONTAINER, _layer_name(account, diff_id))

    def _read(self, account: model.Account, image_id: str) -> "StoredImage":
        name = _image_name(account, image_id)
        document = documents.fetch(self._store, CONTAINER, name, _KIND)
        if document is None:
            raise exceptions.NotFound(
                f"Image {image_id} of {account.name} isn't kept in Swift any more: "
                f"deploy it from its archive."
            )
        if (document.text("account"), document.text("image_id")) != (account.name, image_id):
            raise document.corrupt("is another image, or of another account")
        layers = [
            versions.Layer(each.image_id("diff_id"), each.integer("size"))
            for each in document.parts("layers")
        ]
        try:
            head = base64.b64decode(document.text("head"), validate=True)
        except ValueError as exc:
            raise document.corrupt("has no head") from exc
        return StoredImage(self._store, account, image_id, tuple(layers), head)

    def _write(self, name: str, member: "_Member") -> None:
        if member.size <= self._segment_size:
            self._store.write(CONTAINER, name, member, size=member.size)
            return
        segments = []
        for number, start in enumerate(range(0, member.size, self._segment_size)):
            size = min(self._segment_size, member.size - start)
            part = dataclasses.replace(member, start=member.start + start, size=size)
            segment = f"{name}/{number:08d}"
            etag = self._store.write(SEGMENTS, segment, part, size=size)
            segments.append(objects.Segment(SEGMENTS, segment, etag, size))
        self._store.write_manifest(CONTAINER, name, segments)

    def _layers(self, account: model.Account) -> Iterator[str]:
        return self._digests(f"{account.scope}/layers/")

    def _digests(self, prefix: str) -> Iterator[str]:
        try:
            for each in self._store.list(CONTAINER, prefix):
                yield f"sha256:{each.name.removeprefix(prefix)}"
        except exceptions.NotFound:
            return


@dataclasses.dataclass(frozen=True, slots=True)
class StoredImage:
    """An image that was put by; as :class:`container_stack.storlets.deployment.versions.Image`.

    :param head: the archive's first bytes, before its layers.
    """

    store: objects.ObjectStore = dataclasses.field(repr=False)
    account: model.Account
    image_id: str
    layers: Sequence[versions.Layer]
    head: bytes = dataclasses.field(repr=False)

    def stream(self, skip: int = 0) -> Iterator[bytes]:
        """Yield the archive, as it was when it was put by."""
        yield self.head
        for diff_id in dict.fromkeys(layer.diff_id for layer in self.layers[skip:]):
            yield from self.store.read(CONTAINER, _layer_name(self.account, diff_id))
        yield END


@dataclasses.dataclass(frozen=True, slots=True)
class _Member:
    """A part of an image's archive that can be read again and again.

    :param number: of the layer that it belongs to; the archive without those below begins so.
    :param start: where in that archive it begins.
    """

    image: versions.Image
    number: int
    start: int
    size: int
    passed: _Passed

    def __iter__(self) -> Iterator[bytes]:
        return self.passed(self._pieces())

    def _pieces(self) -> Iterator[bytes]:
        before, left = self.start, self.size
        for piece in self.image.stream(self.number):
            part = piece[before : before + left]
            before -= min(before, len(piece))
            left -= len(part)
            if part:
                yield part
            if not left:
                return


def _blocks(size: int) -> int:
    return size + -size % tar.BLOCK


def _image_name(account: model.Account, image_id: str) -> str:
    return f"{account.scope}/images/{image_id.removeprefix('sha256:')}"


def _layer_name(account: model.Account, diff_id: str) -> str:
    return f"{account.scope}/layers/{diff_id.removeprefix('sha256:')}"
