# SPDX-License-Identifier: Apache-2.0
"""What servers keep beside their roots, and what goes with them from container to container.

Anonymous volumes, which their images declare or their tenants asked for, and ephemeral disks: they
are no part of a container's root, and so of none of its states: what is in them goes to the
server's next container by archive, with owners, modes and links as they are.
"""

import contextlib
import dataclasses
import io
import os
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, cast

from container_stack import exceptions
from container_stack.host import containers
from container_stack.servers import ephemerals


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """Where a container has a volume, and whose its root directory is."""

    target: str
    mode: int
    uid: int
    gid: int


def places(engine: containers.Engine, container: containers.Container) -> Sequence[Place]:
    """Return where a container has such that it may write to, one in another behind that."""
    found = (each for each in container.mounts if _is_kept(each) and not each.read_only)
    return [_place(engine, container.id, target) for target in sorted(e.target for e in found)]


def empty(volumes: Sequence[Place]) -> Sequence[containers.Mount]:
    """Return mounts that begin empty: what the image has there may have been deleted since.

    Where the server's plan has an ephemeral disk, that one comes before.
    """
    return [containers.Mount("", each.target, "volume", copy=False) for each in volumes]


def read(engine: containers.Engine, container_id: str, target: str) -> Iterator[bytes]:
    """Yield what is in a volume, as a tar archive of names relative to it."""
    return engine.get_archive(container_id, f"{target.rstrip('/')}/.")


def fill(
    engine: containers.Engine, container_id: str, place: Place, archive: Iterable[bytes]
) -> None:
    """Put what :func:`read` yields into a volume of a container that doesn't run."""
    engine.put_archive(container_id, place.target, archive)
    # The engine leaves a directory as it is that an archive calls ".".
    directory = tarfile.TarInfo(os.path.basename(place.target))
    directory.type = tarfile.DIRTYPE
    directory.mode, directory.uid, directory.gid = place.mode, place.uid, place.gid
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        tar.addfile(directory)
    # What is above the volume may be read-only; then its root stays as the engine has made it.
    with contextlib.suppress(exceptions.InvalidRequest):
        engine.put_archive(container_id, os.path.dirname(place.target), packed.getvalue())


def _is_kept(mount: containers.Mount) -> bool:
    return mount.kind == "volume" or ephemerals.is_one(mount)


def _place(engine: containers.Engine, container_id: str, target: str) -> Place:
    stream = _File(read(engine, container_id, target))
    with tarfile.open(fileobj=cast(IO[bytes], stream), mode="r|", bufsize=tarfile.BLOCKSIZE) as tar:
        first = tar.next()
    if first is None:
        raise exceptions.NotFound(f"The engine shows nothing of {target}.")
    return Place(target, first.mode, first.uid, first.gid)


class _File:
    """A stream as tarfile wants it, for its first entry."""

    def __init__(self, stream: Iterator[bytes]) -> None:
        self._stream = stream
        self._left = b""

    def read(self, size: int) -> bytes:
        while len(self._left) < size and (piece := next(self._stream, None)) is not None:
            self._left += piece
        data, self._left = self._left[:size], self._left[size:]
        return data
