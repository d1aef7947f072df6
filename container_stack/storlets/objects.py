# SPDX-License-Identifier: Apache-2.0
"""The part of an object store that the image flow stands on: a Swift account, seen by one user.

:class:`container_stack.drivers.swift.Swift` is the real one,
:class:`container_stack.testing.objects.MemoryObjects` one for tests, and
:mod:`container_stack.testing.object_contract` the suite that both run.
"""

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from container_stack import exceptions

#: Swift's own bounds: bytes of names, of metadata, and segments of one object.
MAX_CONTAINER, MAX_NAME, MAX_KEY, MAX_VALUE, MAX_SEGMENTS = 256, 1024, 128, 256, 1000

_KEY = re.compile(rf"[A-Za-z0-9-]{{1,{MAX_KEY}}}")


@dataclasses.dataclass(frozen=True, slots=True)
class Object:
    """An object as its store knows it.

    :param size: bytes, of all segments.
    :param etag: hex MD5 of the bytes; of a segmented object it is something else, and empty
        where nothing says which bytes are to come.
    :param modified: seconds since 1970.
    :param metadata: by the part of X-Object-Meta-... in lower case; empty in lists.
    :param segmented: it is a static large object; False in lists.
    """

    container: str
    name: str
    size: int
    etag: str
    modified: float
    metadata: Mapping[str, str] = dataclasses.field(default_factory=dict)
    content_type: str = ""
    segmented: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Segment:
    """A part of a static large object."""

    container: str
    name: str
    etag: str
    size: int


class ObjectStore(Protocol):
    """One account. Every operation may be repeated, unless it says otherwise.

    Names are those that can stand in a URL's path: see :func:`check_name`.

    :raises NotFound: a container or an object isn't there.
    :raises AccessDenied: the user may not do that there; the text names what was asked.
    :raises ServiceUnavailable: the store doesn't answer, or only with errors.
    """

    @property
    def account(self) -> str:
        """The account's name, as in its URL: ``AUTH_...``"""

    def head(self, container: str, name: str) -> Object:
        """Return what the store knows of an object."""

    def list(self, container: str, prefix: str = "") -> Iterator[Object]:
        """Yield the objects whose names begin so, in the order of their names."""

    def read(
        self,
        container: str,
        name: str,
        start: int = 0,
        length: int | None = None,
        *,
        etag: str = "",
    ) -> Iterator[bytes]:
        """Yield the bytes of a range, which must not be empty; the rest is not fetched.

        It is cut off where the object ends. An empty object is read from 0 and without length.

        :param etag: only while the object is this one.
        :raises InvalidRequest: the object ends before the range begins.
        :raises Busy: the object has another etag by now, or segments of it are gone or closed
            to this user.
        """

    def segments(self, container: str, name: str) -> Sequence[Segment]:
        """Return what a static large object is made of, in order.

        :raises InvalidRequest: it is none, or is made of anything but whole objects with etags.
        """

    def write(
        self,
        container: str,
        name: str,
        data: bytes | Iterable[bytes],
        *,
        size: int | None = None,
        etag: str = "",
        metadata: Mapping[str, str] | None = None,
        content_type: str = "application/octet-stream",
        new: bool = False,
    ) -> str:
        """Store an object whole or not at all, and return its etag.

        :param size: bytes of ``data``, if known; neither more nor less is stored.
        :param etag: hex MD5 of ``data``, if known; nothing else is stored.
        :param new: only if there is none. Swift looks before it takes the bytes: of two that
            come at the same moment, both may be stored.
        :raises AlreadyExists: there is one, and ``new`` was asked for. It may be this very one,
            when the connection broke and the request was repeated.
        :raises InvalidRequest: the name or the metadata can't be stored, or ``size`` or ``etag``
            is wrong.
        :raises NoSpace: a quota, or the store, has no room for it.
        """

    def write_manifest(
        self,
        container: str,
        name: str,
        segments: Sequence[Segment],
        *,
        metadata: Mapping[str, str] | None = None,
        content_type: str = "application/octet-stream",
    ) -> None:
        """Make a static large object of segments that are there.

        :raises InvalidRequest: a segment isn't there, is another by now, or can't be read.
        """

    def set_metadata(self, container: str, name: str, metadata: Mapping[str, str]) -> None:
        """Replace an object's metadata, all of it."""

    def remove(self, container: str, name: str) -> None:
        """Remove an object with its segments; fine if it is gone. It takes both ACLs.

        :raises InvalidRequest: it is made of more than whole objects; nothing was removed.
        """

    def container(self, name: str) -> Mapping[str, str]:
        """Return a container's headers, in lower case."""

    def set_container(self, name: str, headers: Mapping[str, str]) -> None:
        """Make a container if need be, and set headers of it."""

    def account_headers(self) -> Mapping[str, str]:
        """Return the account's headers, in lower case."""

    def set_account(self, headers: Mapping[str, str]) -> None:
        """Set headers of the account."""


def check_name(container: str, name: str | None = None) -> None:
    """Refuse names that Swift doesn't take, or that lead elsewhere as parts of a path.

    :raises InvalidRequest: no URL could mean what has such a name.
    """
    _check(container, MAX_CONTAINER)
    if "/" in container:
        raise exceptions.InvalidRequest(f"{container!r} is no container's name.")
    if name is not None:
        _check(name, MAX_NAME)


def check_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return metadata as a store gives it back: keys in lower case, nothing without a value.

    :raises InvalidRequest: a key or a value can't be a header's.
    """
    kept = {}
    for key, value in metadata.items():
        if not _KEY.fullmatch(key):
            raise exceptions.InvalidRequest(
                f"{key!r} is no name of metadata; it takes letters, digits and dashes, since "
                f"Swift drops what has underscores."
            )
        if not value.isprintable() or len(value.encode()) > MAX_VALUE:
            raise exceptions.InvalidRequest(
                f"The value of {key} must be one line of at most {MAX_VALUE} bytes."
            )
        if value.strip():
            kept[key.lower()] = value.strip()
    return kept


def _check(name: str, longest: int) -> None:
    parts = name.split("/")
    # HTTP libraries take . and .. out of a path, so that the rest would mean something else.
    if not name or "\0" in name or "." in parts or ".." in parts:
        raise exceptions.InvalidRequest(f"{name!r} can't be reached by a URL.")
    try:
        length = len(name.encode())
    except UnicodeEncodeError as exc:
        raise exceptions.InvalidRequest(f"{name!r} isn't Unicode.") from exc
    if length > longest:
        raise exceptions.InvalidRequest(f"A name has at most {longest} bytes: {name[:40]!r}...")
