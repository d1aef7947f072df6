# SPDX-License-Identifier: Apache-2.0
"""Volume groups on a file, for tests that need a kernel with device-mapper."""

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

#: A guest is there for these tests, so that in one a missing device-mapper is a failure.
needs_device_mapper = pytest.mark.skipif(
    "device-mapper" not in Path("/proc/misc").read_text(encoding="utf-8")
    and "UML_GUEST" not in os.environ,
    reason="no device-mapper in this kernel: run tools/run-tests.sh guest",
)


@contextlib.contextmanager
def volume_group(directory: Path, size: int, *, thin_pool: int | None = None) -> Iterator[str]:
    """Yield the name of a new volume group, with a thin pool "pool" of so many bytes in it."""
    name = f"cstest-{os.getpid()}"
    # In a guest all but the directories of its host is memory, of which there is little.
    where = Path.cwd() if "UML_GUEST" in os.environ else directory
    with tempfile.NamedTemporaryFile(dir=where, prefix=".disk-") as disk:
        disk.truncate(size)
        device = lvm("losetup", "--find", "--show", disk.name)
    try:
        lvm("vgcreate", name, device)
        if thin_pool:
            lvm(
                "lvcreate", "--yes", "--type=thin-pool", f"--size={thin_pool}b", "--name=pool", name
            )
        yield name
    finally:
        lvm("vgremove", "--force", "--yes", name)
        lvm("losetup", "--detach", device)


def lvm(*argv: str | Path) -> str:
    """Run a command and return its output."""
    result = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert result.returncode == 0, f"{argv}: {result.stderr}"
    return result.stdout.strip()
