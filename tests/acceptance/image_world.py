# SPDX-License-Identifier: Apache-2.0
"""Glance with two arrays at once and a directory beside them.

``wire`` is reached by iSCSI (tgt and libiscsi) and has software 2.2; ``direct`` is reached through
its files and has software 3.3; ``locked`` is ``direct`` with a wrong password; ``disk`` is a
directory.
"""

import contextlib
import dataclasses
import random
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from oslo_config import cfg

from container_stack.drivers import glance as driver

from . import arrays, glance, image_rest, resources

MIB = 1024**2
#: Three pieces of a volume, the last one short.
SIZE = 17 * MIB + 1234


@dataclasses.dataclass(frozen=True, slots=True)
class World:
    """Glance and its arrays."""

    glance: glance.Glance
    arrays: dict[str, arrays.Array]

    def client(self) -> image_rest.Client:
        """Return the client of a project of its own, with a quota of its own."""
        return self.glance.client(f"project-{uuid.uuid4()}")

    def open_store(self, name: str) -> driver.Store:
        """Return a store as a service of an operator's own opens it beside Glance."""
        conf = cfg.ConfigOpts()
        conf([], default_config_files=[str(self.glance.config)])
        store = driver.Store(conf, backend=name)
        store.configure(re_raise_bsc=True)
        return store


@contextlib.contextmanager
def running(directory: Path) -> Iterator[World]:
    """Run Glance and its arrays."""
    for name in ("wire", "direct", "disk"):
        (directory / name).mkdir()
    with (
        arrays.running(directory / "wire", "tgt", "libiscsi", "2.2.0") as wire,
        arrays.running(directory / "direct", "file", "file", "3.3.0") as direct,
        glance.running(
            directory,
            {
                "wire": ("datera", wire.options),
                "direct": ("datera", direct.options),
                "locked": (
                    "datera",
                    {**direct.options, "datera_san_password": arrays.WRONG_PASSWORD},
                ),
                "disk": ("file", {"filesystem_store_datadir": directory / "disk"}),
            },
        ) as running,
    ):
        yield World(running, {"wire": wire, "direct": direct})


def make_data() -> bytes:
    """Return bytes that are alike nowhere, but for a hole of zeros."""
    made = bytearray(random.Random(7).randbytes(SIZE))
    made[3 * MIB + 5 : 6 * MIB] = bytes(3 * MIB - 5)
    return bytes(made)


def pieces(data: bytes) -> Iterator[bytes]:
    """Yield data in parts of no round size."""
    for start in range(0, len(data), 777_777):
        yield data[start : start + 777_777]


@contextlib.contextmanager
def refused(code: int, word: str = "") -> Iterator[None]:
    """Expect that Glance refuses with this code of HTTP, and says this word."""
    with pytest.raises(resources.RefusedError) as refusal:
        yield
    assert (refusal.value.code, word in str(refusal.value)) == (code, True), refusal.value
