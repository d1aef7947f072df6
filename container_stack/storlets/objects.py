# SPDX-License-Identifier: Apache-2.0
"""The part of an object store that the image flow stands on: a Swift account, seen by one user.

:class:`container_stack.drivers.swift.Swift` is the real one,
:class:`container_stack.testing.objects.MemoryObjects` one for tests, and
:mod:`container_stack.testing.object_contract` the suite that both run.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol


@dataclasses.dataclass(frozen=True, slots=True)
class Object:
    """An object as its store knows it.

    :param size: bytes, of all segments.
    :param etag: hex MD5 of the bytes; of a segmented object it is something else.
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

    :raises NotFound: a container or an object isn't there.
    :raises AccessDenied: the user may not do that there; the text names what was asked.
    :raises ServiceUnavailable: the store doesn't answer, or only with errors.
    """

    @property
    def account(self) -> str:
        """The account's name, as in its URL: AUTH_..."""

    def head(self, container: str, name: str) -> Object:
        """Return what the store knows of an object."""

    def list(self, container: str, prefix: str = "") -> Iterator[Object]:
        """Yield the objects whose names begin so, in the order of their names."""

    def read(
        self, container: str, name: str, start: int = 0, length: int | None = None
    ) -> Iterator[bytes]:
        """Yield the bytes of a range, which must not be empty; the rest is not fetched."""

    def write(
        self,
        container: str,
        name: str,
        data: bytes | Iterable[bytes],
        *,
        size: int | None = None,
        metadata: Mapping[str, str] | None = None,
        content_type: str = "application/octet-stream",
        new: bool = False,
    ) -> str:
        """Store an object whole or not at all, and return its etag.

        :param size: bytes of ``data``, if known; told to the store, which refuses less.
        :param new: only if there is none.
        :raises AlreadyExists: there is one, and ``new`` was asked for.
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
        """Make a static large object of segments that are there."""

    def set_metadata(self, container: str, name: str, metadata: Mapping[str, str]) -> None:
        """Replace an object's metadata."""

    def remove(self, container: str, name: str) -> None:
        """Remove an object with its segments; fine if it is gone."""

    def container(self, name: str) -> Mapping[str, str]:
        """Return a container's headers, in lower case."""

    def set_container(self, name: str, headers: Mapping[str, str]) -> None:
        """Make a container if need be, and set headers of it."""

    def account_headers(self) -> Mapping[str, str]:
        """Return the account's headers, in lower case."""

    def set_account(self, headers: Mapping[str, str]) -> None:
        """Set headers of the account."""
