# SPDX-License-Identifier: Apache-2.0
"""Images on an array: their values, the names of their app instances, and what is noted there.

An image is one app instance with one volume. It is finished when its length is noted, which
nothing changes afterwards; until then it is an upload under way, or what a dead one left.
"""

import dataclasses
import hashlib
import time
from collections.abc import Mapping

from container_stack import exceptions
from container_stack.imagestore import edf_model, journal

GIB = edf_model.GIB
LARGEST_GIB = edf_model.LARGEST

#: What the names of app instances begin with.
IMAGE, CLONE = "OS-IMAGE-", "OS-CLONE-"
_KEY_LENGTH = 12


@dataclasses.dataclass(frozen=True, slots=True)
class Stored:
    """An image that was just stored.

    :param size: bytes.
    :param digests: hexadecimal, by algorithm.
    """

    image_id: str
    size: int
    digests: Mapping[str, str]


@dataclasses.dataclass(frozen=True, slots=True)
class Image:
    """An image as an array tells of it.

    :param size: bytes; None for one that isn't finished.
    :param checksum: MD5, in hexadecimal; empty when unknown.
    :param host: which host uploads it or did; empty when unknown.
    :param begun: when that began, in seconds since 1970 by that host's clock; None when unknown.
    :param clones: ids of the clones that depend on it.
    """

    image_id: str
    size: int | None
    checksum: str
    host: str
    begun: float | None
    clones: tuple[str, ...]


def image_name(image_id: str) -> str:
    """Return the name of an image's app instance.

    :raises InvalidRequest: the id can't be part of one.
    """
    journal.check_id(image_id)
    return IMAGE + image_id


def image_id(name: str) -> str:
    """Return the id in the name of an image's app instance."""
    return name.removeprefix(IMAGE)


def clone_prefix(image_id: str) -> str:
    """Return what the names of an image's clones begin with: both ids would be too long."""
    return f"{CLONE}{hashlib.sha256(image_id.encode()).hexdigest()[:_KEY_LENGTH]}-"


def split_clone(name: str) -> tuple[str, str]:
    """Return what the name of a clone begins with, and the clone's id."""
    end = len(CLONE) + _KEY_LENGTH + 1
    return name[:end], name[end:]


def clone_name(image_id: str, clone_id: str) -> str:
    """Return the name of a clone's app instance.

    :raises InvalidRequest: the id can't be part of one.
    """
    journal.check_id(clone_id)
    return clone_prefix(image_id) + clone_id


def gib(size: int) -> int:
    """Return the GiB that a volume for so many bytes must have.

    :raises InvalidRequest: no volume is as large.
    """
    needed = max(edf_model.SMALLEST, -(-size // GIB))
    if needed > LARGEST_GIB:
        raise exceptions.InvalidRequest(
            f"{size} bytes are more than the {LARGEST_GIB} GiB that a volume can have."
        )
    return needed


def length(metadata: Mapping[str, str]) -> int | None:
    """Return the bytes of a finished image by what is noted at it, else None."""
    return _number(metadata, "length")


def _number(metadata: Mapping[str, str], key: str) -> int | None:
    noted = str(metadata.get(key, ""))
    return int(noted) if noted.isascii() and noted.isdigit() else None


def begun(host: str) -> dict[str, str]:
    """Return what to note at an image that is about to be written."""
    return {"type": "image", "host": host, "begun": str(int(time.time()))}


def finished(stored: Stored) -> dict[str, str]:
    """Return what to note at an image that is complete."""
    noted = {"type": "image", "length": str(stored.size)}
    for algorithm, digest in stored.digests.items():
        if algorithm == "md5":
            noted["checksum"] = digest
        elif "os_hash_algo" not in noted:
            noted.update(os_hash_algo=algorithm, os_hash_value=digest)
    return noted


def image(image_id: str, noted: Mapping[str, str], clones: tuple[str, ...]) -> Image:
    """Return an image by what is noted at it."""
    checksum, host = str(noted.get("checksum", "")), str(noted.get("host", ""))
    return Image(image_id, length(noted), checksum, host, _number(noted, "begun"), clones)
