# SPDX-License-Identifier: Apache-2.0
"""What the contract of shares' protocols needs of a guest: one server and two machines."""

import contextlib
import os
import uuid
from collections.abc import Mapping
from pathlib import Path

from container_stack.testing import share_protocol_contract as contract

from . import share_server


class KernelFile(contract.File):
    def __init__(self, path: Path, flags: int) -> None:
        self._fd = os.open(path, flags, 0o660)

    def write(self, data: bytes) -> None:
        os.pwrite(self._fd, data, 0)
        os.fsync(self._fd)

    def read(self) -> bytes:
        os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_DONTNEED)
        return os.pread(self._fd, 65536, 0)

    def close(self) -> None:
        # What couldn't be written is told once more.
        with contextlib.suppress(OSError):
            os.close(self._fd)


class World(contract.World):
    """Shares on volumes of the guest's. A protocol's own says how its clients speak."""

    def __init__(
        self,
        server: share_server.Server,
        machines: tuple[share_server.Machine, share_server.Machine],
    ) -> None:
        self.server = server
        self.machines = machines

    def make_share(self) -> str:
        name = f"share-{uuid.uuid4().hex[:8]}"
        self.server.mount(name)
        return name

    def unmount(self, share: str) -> None:
        self.server.unmount(share)

    def mount(self, share: str) -> None:
        self.server.mount(share)

    def stop(self, *, kill: bool) -> None:
        self.server.stop(kill=kill)

    def start(self) -> None:
        self.server.start()
        self.speaking.wait_ready(60)


def fill(path: Path) -> None:
    with path.open("wb", 0) as file:
        while True:
            file.write(bytes(1024**2))
            os.fsync(file.fileno())


def write_tree(top: Path, tree: Mapping[str, bytes]) -> None:
    for name, data in tree.items():
        (top / name).parent.mkdir(exist_ok=True)
        (top / name).write_bytes(data)


def read_tree(top: Path) -> dict[str, bytes]:
    return {
        str(each.relative_to(top)): each.read_bytes() for each in top.rglob("*") if each.is_file()
    }
