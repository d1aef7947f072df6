# SPDX-License-Identifier: Apache-2.0
"""An object on its way to a file, from where it stopped, each part compared with its etag."""

import logging
from collections.abc import Iterator, Sequence

from container_stack import exceptions
from container_stack.storlets import model, objects
from container_stack.storlets.store import digests, partfile

LOG = logging.getLogger(__name__)

#: Times in a row that a download may break off without having brought a byte.
TRIES = 5
#: An object's metadata that has the SHA-256 of its bytes.
SHA256 = "sha256"


class Changed(Exception):
    """What has arrived is of no use.

    :ivar moved: bytes that have come for nothing.
    """

    def __init__(self, error: exceptions.ContainerStackError, moved: int) -> None:
        super().__init__(str(error))
        self.error = error
        self.moved = moved


class Download:
    """One object on its way, as it is now.

    :ivar moved: bytes that have come.
    """

    def __init__(
        self,
        store: objects.ObjectStore,
        found: objects.Object,
        part: partfile.Part,
        progress: model.Progress,
    ) -> None:
        self._store = store
        self._found = found
        self._part = part
        self._progress = progress
        self._etags: Sequence[str] = (found.etag,)
        self._digests = digests.Digests((found.size,))
        self.moved = 0

    def run(self) -> str:
        """Fetch what isn't there, check all of it and return its SHA-256.

        :raises Changed: the object was replaced, or its bytes are wrong.
        """
        found, part = self._found, self._part
        if found.segmented:
            self._expect_segments()
        if part.size > found.size:
            part.clear()
        for piece in part.pieces():
            self._check(piece)
        self._fetch()
        sha256 = self._digests.sha256
        uploaded = found.metadata.get(SHA256, sha256)
        if uploaded != sha256:
            part.clear()
            raise exceptions.InvalidRequest(
                f"{found.container}/{found.name} isn't what was uploaded: its SHA-256 is {sha256}, "
                f"and {uploaded} by its metadata; upload it again."
            )
        part.finish()
        return sha256

    def _expect_segments(self) -> None:
        segments = self._store.segments(self._found.container, self._found.name)
        self._etags = [each.etag for each in segments if each.size]
        self._digests = digests.Digests([each.size for each in segments])
        if digests.of_segments([each.etag for each in segments]) != self._found.etag:
            raise self._changed("was replaced meanwhile")

    def _fetch(self) -> None:
        tries = 0
        while self._part.size < self._found.size:
            before = self._part.size
            try:
                for piece in self._read(before):
                    self._part.append(piece)
                    self.moved += len(piece)
                    self._check(piece)
            except exceptions.ServiceUnavailable as exc:
                LOG.info("Going on at %(at)s: %(why)s", {"at": self._part.size, "why": exc})
            tries = 0 if self._part.size > before else tries + 1
            if tries == TRIES:
                raise exceptions.ServiceUnavailable(
                    f"{self._found.name} breaks off at byte {before}; the same call goes on there."
                )

    def _read(self, start: int) -> Iterator[bytes]:
        found = self._found
        try:
            yield from self._store.read(found.container, found.name, start, etag=found.etag)
        except exceptions.Busy as exc:
            raise Changed(exc, self.moved) from exc

    def _check(self, piece: bytes) -> None:
        """Compare each part that is whole with its etag."""
        known = len(self._digests.md5s)
        self._digests.update(piece)
        for number in range(known, len(self._digests.md5s)):
            if self._digests.md5s[number] != self._etags[number]:
                self._part.clear()
                raise self._changed("arrives damaged")
        self._progress(f"Downloading {self._found.name}", self._part.size, self._found.size)

    def _changed(self, what: str) -> Changed:
        where = f"{self._found.container}/{self._found.name}"
        return Changed(exceptions.ServiceUnavailable(f"{where} {what}."), self.moved)
