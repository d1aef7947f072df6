# SPDX-License-Identifier: Apache-2.0
"""A file on its way to a store, in parts whose names and etags are known beforehand."""

import dataclasses
import logging
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Self

from container_stack import exceptions
from container_stack.storlets import model, objects
from container_stack.storlets.store import digests

LOG = logging.getLogger(__name__)

PIECE = 1024 * 1024
CONTENT_TYPE = "application/x-tar"


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """Bytes of the file that become an object; it can be iterated again and again.

    :param tell: is told how many of its bytes have been read.
    """

    fd: int
    offset: int
    size: int
    tell: Callable[[int], None]

    def __iter__(self) -> Iterator[bytes]:
        done = 0
        while done < self.size:
            piece = os.pread(self.fd, min(PIECE, self.size - done), self.offset + done)
            if not piece:
                # The store refuses less than was announced.
                return
            yield piece
            done += len(piece)
            self.tell(done)


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """What a file becomes.

    :param segments: none if it is stored whole.
    :param etag: of the object that comes of it.
    """

    container: str
    name: str
    size: int
    sha256: str
    etag: str
    segments: Sequence[objects.Segment]

    @classmethod
    def of(
        cls, fd: int, container: str, name: str, segment_size: int, progress: model.Progress
    ) -> Self:
        """Read a file and return what it becomes.

        :raises InvalidRequest: it is no plain file, or has too many segments.
        """
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise exceptions.InvalidRequest(f"What becomes {container}/{name} must be a file.")
        size = status.st_size
        starts = range(0, size, segment_size)
        if len(starts) > objects.MAX_SEGMENTS:
            raise exceptions.InvalidRequest(
                f"{size} bytes are more than {objects.MAX_SEGMENTS} segments of {segment_size}; "
                f"make segments larger."
            )
        sizes = [min(segment_size, size - start) for start in starts]
        taken = digests.Digests(sizes)
        for piece in Part(fd, 0, size, lambda done: progress(f"Hashing {name}", done, size)):
            taken.update(piece)
        if len(sizes) <= 1:
            etag = next(iter(taken.md5s), digests.EMPTY)
            return cls(container, name, size, taken.sha256, etag, ())
        prefix = f"{name}/{taken.sha256[:32]}-{segment_size}"
        segments = [
            objects.Segment(segments_container(container), f"{prefix}/{number:08d}", md5, part)
            for number, (md5, part) in enumerate(zip(taken.md5s, sizes, strict=True))
        ]
        etag = digests.of_segments(taken.md5s)
        return cls(container, name, size, taken.sha256, etag, segments)


def segments_container(container: str) -> str:
    """Return where the segments of a container's objects are."""
    return f"{container}_segments"


def pattern(name: str) -> re.Pattern[str]:
    """Return what the names of an object's segments match, and no other object's do."""
    return re.compile(rf"{re.escape(name)}/[0-9a-f]{{32}}-[0-9]+/[0-9]{{8}}")


class Upload:
    """One object on its way.

    :ivar moved: bytes that have been sent.
    """

    def __init__(
        self,
        store: objects.ObjectStore,
        plan: Plan,
        fd: int,
        progress: model.Progress,
    ) -> None:
        self._store = store
        self._plan = plan
        self._fd = fd
        self._progress = progress
        self._segments = segments_container(plan.container)
        self.moved = 0
        self._before = self._object_before()
        self._old = self._segments_before()

    def run(self, metadata: Mapping[str, str]) -> None:
        """Send what isn't there."""
        plan = self._plan
        if plan.segments:
            self._send_segments()
            self._store.write_manifest(
                plan.container,
                plan.name,
                plan.segments,
                metadata=metadata,
                content_type=CONTENT_TYPE,
            )
        elif not self._is_there():
            self._send(plan.container, plan.name, plan.etag, 0, plan.size, metadata)
        elif self._before and self._before.metadata != metadata:
            self._store.set_metadata(plan.container, plan.name, metadata)
        self._tell(plan.size)

    def sweep(self) -> None:
        """Remove what other uploads of this name left; what can't be removed stays for later."""
        needed = {each.name for each in self._plan.segments}
        ours = pattern(self._plan.name)
        try:
            there = [each.name for each in self._listed() if ours.fullmatch(each.name)]
            for name in sorted({*there, *self._old} - needed):
                self._store.remove(self._segments, name)
        except (exceptions.NotFound, exceptions.AccessDenied):
            # No container, or none of ours: nothing of ours is in it.
            return
        except exceptions.ServiceUnavailable as exc:
            LOG.warning(
                "Segments of an earlier %(name)s are left for later: %(why)s",
                {"name": self._plan.name, "why": exc},
            )

    def _object_before(self) -> objects.Object | None:
        try:
            return self._store.head(self._plan.container, self._plan.name)
        except exceptions.NotFound:
            return None

    def _is_there(self) -> bool:
        before = self._before
        if before is None or before.segmented:
            return False
        return (before.etag, before.size) == (self._plan.etag, self._plan.size)

    def _segments_before(self) -> Sequence[str]:
        """Return the segments of the object as it is, in so far as they are its own.

        Others' names in a manifest could be anything; who wrote it may want us to remove it.
        """
        if self._before is None or not self._before.segmented:
            return ()
        plan = self._plan
        try:
            segments = self._store.segments(plan.container, plan.name)
        except (exceptions.NotFound, exceptions.InvalidRequest):
            return ()
        return [
            each.name
            for each in segments
            if each.container == self._segments and each.name.startswith(f"{plan.name}/")
        ]

    def _send_segments(self) -> None:
        there = {each.name: each for each in self._present()}
        offset = 0
        for each in self._plan.segments:
            found = there.get(each.name)
            if found is None or (found.etag, found.size) != (each.etag, each.size):
                self._send(each.container, each.name, each.etag, offset, each.size, {})
            offset += each.size

    def _present(self) -> Iterator[objects.Object]:
        try:
            return self._listed()
        except exceptions.NotFound:
            self._store.set_container(self._segments, {})
            return iter(())

    def _listed(self) -> Iterator[objects.Object]:
        return self._store.list(self._segments, f"{self._plan.name}/")

    def _send(
        self,
        container: str,
        name: str,
        etag: str,
        offset: int,
        size: int,
        metadata: Mapping[str, str],
    ) -> None:
        part = Part(self._fd, offset, size, lambda done: self._tell(offset + done))
        self._store.write(
            container,
            name,
            part,
            size=size,
            etag=etag,
            metadata=metadata,
            content_type=CONTENT_TYPE,
        )
        self.moved += size

    def _tell(self, done: int) -> None:
        self._progress(f"Uploading {self._plan.name}", done, self._plan.size)
