# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks of images share: an array, a store on it, and the floor beneath."""

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path

from container_stack.host import attach, filesystem, loop
from container_stack.imagestore import assembly, edf, service
from container_stack.testing import privilege
from container_stack.testing.edf import simulator

MIB = 1024**2
GIB = 1024**3
PIECE = 8 * MIB
#: Bytes that a benchmark may fill; volumes are thin.
SPACE = 10 * GIB


def place() -> "tempfile.TemporaryDirectory[str]":
    """Return a new directory: in memory where that is large, so that no disk sets the pace."""
    memory = "/dev/shm"
    roomy = os.path.isdir(memory) and shutil.disk_usage(memory).free > 2 * SPACE
    return tempfile.TemporaryDirectory(prefix="cs-bench-", dir=memory if roomy else None)


@contextlib.contextmanager
def array() -> Iterator[simulator.Simulator]:
    """Run a simulated array with a real iSCSI target, on a file system that shares blocks.

    A real array's snapshots take no time; the simulator's do so where files can share blocks.
    """
    with contextlib.ExitStack() as undo:
        directory = Path(undo.enter_context(place()))
        runner = undo.enter_context(contextlib.closing(privilege.make_executor(directory / "fs")))
        filesystems = filesystem.Filesystems(runner)
        storage = loop.LoopStorage(runner, filesystems)
        undo.callback(storage.delete, "array")
        storage.create("array", SPACE, owner="bench")
        mounted = str(directory / "fs" / "mounts" / "array")
        filesystems.mount(storage.activate("array"), mounted, "xfs")
        undo.callback(filesystems.unmount, mounted)
        made = simulator.Simulator(Path(mounted) / "array", login="bench", password="bench")
        yield undo.enter_context(made)


def settings(made: simulator.Simulator) -> assembly.Settings:
    """Return the settings of a store on the array, reached by libiscsi."""
    return assembly.Settings(
        name="bench",
        endpoint=edf.Endpoint(
            made.address, made.login, made.password, port=made.port, ca_file=str(made.ca_file)
        ),
        state_dir=str(made.directory / "state"),
        attacher="libiscsi",
        chunk_size=PIECE,
    )


def store(made: simulator.Simulator) -> service.ImageStore:
    """Return a store on the array."""
    images = assembly.open_images(settings(made))
    images.recover()
    return images


class Random:
    """A stream of random bytes, made before it is timed, and repeated."""

    def __init__(self, size: int) -> None:
        self._block = os.urandom(64 * MIB)
        self.size = self._left = size

    def read(self, size: int, /) -> bytes:
        """Return the next bytes."""
        size = min(size, self._left, PIECE)
        start = (self.size - self._left) % (len(self._block) - PIECE)
        self._left -= size
        return self._block[start : start + size]


class Sparse(Random):
    """The same, but of every twenty pieces nineteen are zero."""

    def read(self, size: int, /) -> bytes:
        """Return the next bytes."""
        number = (self.size - self._left) // PIECE
        data = super().read(size)
        return data if number % 20 == 0 else bytes(len(data))


def floor_write(device: attach.BlockDevice, stream: Random, *, skip: bool = False) -> None:
    """Write and hash a stream twice, overlapped: the least that any store must do."""
    hashes = (hashlib.md5(usedforsecurity=False), hashlib.sha512())
    zeros = bytes(PIECE)
    with futures.ThreadPoolExecutor(3) as pool:
        offset = 0
        while data := stream.read(PIECE):
            jobs: list[Callable[[], object]] = [lambda h=h, d=data: h.update(d) for h in hashes]
            if not (skip and data == zeros[: len(data)]):
                jobs.append(lambda o=offset, d=data: device.write(o, d))
            futures.wait([pool.submit(job) for job in jobs])
            offset += len(data)
    device.flush()


def floor_read(device: attach.BlockDevice, size: int) -> None:
    """Read a device, one piece ahead."""
    with futures.ThreadPoolExecutor(1) as pool:
        ahead = pool.submit(device.read, 0, min(PIECE, size))
        for offset in range(PIECE, size, PIECE):
            ahead.result()
            ahead = pool.submit(device.read, offset, min(PIECE, size - offset))
        ahead.result()
