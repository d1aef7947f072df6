# SPDX-License-Identifier: Apache-2.0
"""What a Docker Engine makes of an image archive: layers that it holds need not be in it."""

import dataclasses
import hashlib
import io
import itertools
import json
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from container_stack.testing import tiny_images

#: Bytes up to which a member may be JSON.
_JSON = 1024**2


class Unusable(Exception):
    """The engine refuses an archive."""


@dataclasses.dataclass(frozen=True, slots=True)
class Image:
    """An image that an engine has.

    :param layers: diff IDs.
    :param fault: what :mod:`.tiny_images` made it have.
    """

    image_id: str
    layers: tuple[str, ...]
    fault: str = ""


def load(pieces: Iterator[bytes], held: Iterable[Sequence[str]]) -> Image:
    """Return the image of an archive, whose names are of no interest.

    What ``pieces`` raises comes through.

    :param held: diff IDs of images that are there.
    :raises Unusable: it is no archive, or lacks layers that aren't there either.
    """
    try:
        small, digests = _members(pieces)
        entry = json.loads(small["manifest.json"])[0]
        text = small[entry["Config"]]
        config: dict[str, Any] = json.loads(text)
        layers = tuple(config["rootfs"]["diff_ids"])
        labels = config.get("config", {}).get("Labels") or {}
    except (tarfile.TarError, ValueError, LookupError, TypeError, AttributeError) as exc:
        raise Unusable(f"it is no image archive: {exc}") from exc
    here = common(layers, held)
    for name, layer in list(zip(entry["Layers"], layers, strict=True))[here:]:
        if digests.get(name) != layer:
            raise Unusable(f"layer {layer} is neither here nor in it")
    image_id = "sha256:" + hashlib.sha256(text).hexdigest()
    return Image(image_id, layers, labels.get(tiny_images.FAULT, ""))


def common(layers: Sequence[str], held: Iterable[Sequence[str]]) -> int:
    """Return how many of the layers, from the first on, one of the images there has as well."""
    return max((sum(1 for _ in _prefix(layers, each)) for each in held), default=0)


def _prefix(one: Sequence[str], other: Sequence[str]) -> Iterator[str]:
    pairs = zip(one, other, strict=False)
    return (mine for mine, _its in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


def _members(pieces: Iterator[bytes]) -> tuple[dict[str, bytes], dict[str, str]]:
    """Return the small members' contents, and all members' digests."""
    small, digests = {}, {}
    with tarfile.open(fileobj=_Pieces(pieces), mode="r|") as tar:
        for member in tar:
            file = tar.extractfile(member)
            if file is None:
                continue
            digest, head = hashlib.sha256(), b""
            while data := file.read(65536):
                digest.update(data)
                head += data if member.size <= _JSON else b""
            small[member.name] = head
            digests[member.name] = "sha256:" + digest.hexdigest()
    return small, digests


class _Pieces(io.RawIOBase):
    """A file that is read to its end once."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""

    def read(self, size: int = -1) -> bytes:
        while size < 0 or len(self._rest) < size:
            piece = next(self._pieces, None)
            if piece is None:
                break
            self._rest += piece
        size = len(self._rest) if size < 0 else size
        data, self._rest = self._rest[:size], self._rest[size:]
        return data
