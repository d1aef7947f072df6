# SPDX-License-Identifier: Apache-2.0
"""A btrfs file system in a sparse file, for tests that run as root."""

import contextlib
import pathlib
import shutil
import subprocess
from collections.abc import Iterator

#: Bytes: more than all volumes of a test, and nothing until they are written.
SIZE = 8 * 1024**3


@contextlib.contextmanager
def mounted(
    where: pathlib.Path, *, size: int = SIZE, owner: str = "root"
) -> Iterator[pathlib.Path]:
    """Mount a new file system on a directory, which is made, for a while."""
    image = where.with_name(where.name + ".img")
    where.mkdir(parents=True)
    try:
        with image.open("wb") as file:
            file.truncate(size)
        # Without the second copy of metadata: as fast as it gets.
        subprocess.run(["mkfs.btrfs", "-q", "-m", "single", image], check=True, capture_output=True)
        subprocess.run(["mount", "-o", "loop,nosuid,nodev", image, where], check=True)
        try:
            shutil.chown(where, owner)
            yield where
        finally:
            subprocess.run(["umount", where], check=True)
        where.rmdir()
    finally:
        image.unlink(missing_ok=True)
