# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks of storlets share: images of a size, over the operator's base image.

The base, the host that storlets need, and nodes with a Swift over them are those of the tests.
"""

import contextlib
import dataclasses
import json
import os
import random
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from acceptance import storlet_world as storlet_world
from acceptance import swift as swift
from functional import storlet_host as storlet_host

from container_stack.storlets import gateway
from container_stack.storlets.image import archive
from container_stack.storlets.verification import report
from container_stack.testing import image_archives

MIB = 1024**2
#: Bytes of an account's image, of which so many are in the layer that changes.
SIZE, CHANGED = 200 * MIB, 1 * MIB
ACCOUNT = "AUTH_cstestbench00"
LIMITS = {
    "container_mem_limit": str(256 * MIB),
    "container_pids_limit": "64",
    "container_cpu_period": "100000",
    "container_cpu_quota": "200000",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Image:
    """An image in a file."""

    path: Path

    @contextlib.contextmanager
    def open(self) -> Iterator[archive.ImageArchive]:
        """Lend what is in it."""
        with self.path.open("rb") as file:
            yield archive.ImageArchive.open(file, self.path.stat().st_size)


@contextlib.contextmanager
def place() -> Iterator[Path]:
    """Lend a directory on a disk, as an engine can't keep its images in memory."""
    with tempfile.TemporaryDirectory(prefix="cstest-bench-", dir="/var/tmp") as name:
        yield Path(name)


def image(path: Path, *, size: int = SIZE, changed: int = CHANGED, seed: int = 1) -> Image:
    """Write an image over the base: a layer that makes it this large, and one that changes.

    :param seed: tells images apart; they share all but their last layer.
    """
    with tarfile.open(storlet_host.base_archive()) as tar:
        entry = _json(tar, "manifest.json")[0]
        config = _json(tar, entry["Config"])
        layers = [_read(tar, name) for name in entry["Layers"]]
    rest = max(size - changed - sum(map(len, layers)), MIB)
    layers += [_layer("large", rest, 0), _layer("changed", changed, seed)]
    path.write_bytes(image_archives.build(layers, {**config, **_rootfs(layers)}))
    return Image(path)


def _rootfs(layers: Sequence[bytes]) -> dict[str, object]:
    made = image_archives.configuration(layers)
    return {key: made[key] for key in ("rootfs", "history")}


def _layer(name: str, size: int, seed: int) -> bytes:
    """Return a layer of files as a package has them: 64 KiB each."""
    source = random.Random(f"{name} {seed}")
    files = {
        f"opt/{name}/{number:04d}": source.randbytes(min(65536, size - start))
        for number, start in enumerate(range(0, size, 65536))
    }
    return image_archives.layer({"opt/": b"", f"opt/{name}/": b"", **files})


def _read(tar: tarfile.TarFile, name: str) -> bytes:
    file = tar.extractfile(name)
    assert file is not None
    return file.read()


def _json(tar: tarfile.TarFile, name: str) -> object:
    return json.loads(_read(tar, name))


def settings(directory: Path) -> gateway.Gateway:
    """Return a gateway's configuration with limits, as a deployment has it."""
    return gateway.Gateway.of({**LIMITS, "host_root": str(directory)})


def check(verified: report.Report) -> report.Report:
    """Return a report that must let the image pass."""
    failed = [each for each in verified.findings if each.state == report.State.FAILED]
    assert verified.passed, failed
    return verified


def passed(made: archive.ImageArchive, account: str = ACCOUNT) -> report.Report:
    """Return what a verification says of an image that is fine."""
    finding = report.Finding(1, "archive", report.State.PASSED)
    return report.Report(account, made.image_id, made.size, 0, 0, [finding])


class Lease:
    """The right to change an account, where there is one manager only."""

    def check(self) -> None:
        """We have it."""


@contextlib.contextmanager
def alone(_name: str) -> Iterator[Lease]:
    """Give out the lease."""
    yield Lease()


def user() -> str:
    """Return whom sandboxes run as."""
    return f"{os.getuid()}:{os.getgid()}"
