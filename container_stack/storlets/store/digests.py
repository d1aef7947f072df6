# SPDX-License-Identifier: Apache-2.0
"""Digests of a stream: SHA-256 of all of it, and MD5, which is Swift's etag, of each part."""

import hashlib
from collections.abc import Sequence

#: MD5 of nothing.
EMPTY = hashlib.md5(b"", usedforsecurity=False).hexdigest()


class Digests:
    """What has passed so far.

    :param sizes: bytes of the parts, in order; what comes after them belongs to no part.
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        self._sha256 = hashlib.sha256()
        self._sizes = [each for each in sizes if each]
        self._md5s: list[str] = []
        self._part = _md5()
        self._left = self._sizes[0] if self._sizes else 0

    @property
    def sha256(self) -> str:
        """Of everything so far, in hex."""
        return self._sha256.hexdigest()

    @property
    def md5s(self) -> Sequence[str]:
        """Of the parts that are whole, in hex."""
        return self._md5s

    def update(self, data: bytes) -> None:
        """Take note of the next bytes."""
        self._sha256.update(data)
        rest = memoryview(data)
        while rest and len(self._md5s) < len(self._sizes):
            mine, rest = rest[: self._left], rest[self._left :]
            self._part.update(mine)
            self._left -= len(mine)
            if not self._left:
                self._next()

    def _next(self) -> None:
        self._md5s.append(self._part.hexdigest())
        self._part = _md5()
        if len(self._md5s) < len(self._sizes):
            self._left = self._sizes[len(self._md5s)]


def of_segments(etags: Sequence[str]) -> str:
    """Return the etag that a static large object of such segments has."""
    return _md5("".join(etags).encode()).hexdigest()


def _md5(data: bytes = b"") -> "hashlib._Hash":
    return hashlib.md5(data, usedforsecurity=False)
