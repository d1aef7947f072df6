# SPDX-License-Identifier: Apache-2.0
"""Backends for daemons that tests start, registered as anybody's own would be."""

import os
from pathlib import Path

from container_stack import exceptions
from container_stack.testing import memory_volumes

_CLASSES = {
    "memory": "container_stack.testing.memory_volumes:MemoryVolumes",
    "memory_block": "container_stack.testing.memory_volumes:MemoryBlocks",
    "moody": "functional.osd.osd_backends:Moody",
}


class Moody(memory_volumes.MemoryVolumes):
    """Isn't ready until the file that its setting ``wants`` names is there."""

    SETTINGS = {"wants": "a file", "root": "a directory", "limit": "bytes"}  # noqa: RUF012

    def __init__(self, options: memory_volumes.backend.Options) -> None:
        self._wants = options.settings["wants"]
        super().__init__(options)

    def start(self) -> None:
        if not os.path.exists(self._wants):
            raise exceptions.HostNotReady(f"There is no {self._wants}.")
        super().start()


def register(directory: Path) -> str:
    """Make a distribution with these backends; return what PYTHONPATH must have."""
    metadata = directory / "cstest_backends-1.dist-info"
    metadata.mkdir(parents=True)
    points = "\n".join(f"{name} = {_CLASSES[name]}" for name in _CLASSES)
    (metadata / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: cstest-backends\nVersion: 1\n", encoding="utf-8"
    )
    (metadata / "entry_points.txt").write_text(
        f"[container_stack.volume_backends]\n{points}\n", encoding="utf-8"
    )
    return f"{directory}:{Path(__file__).parents[2]}"
