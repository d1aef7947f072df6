# SPDX-License-Identifier: Apache-2.0
"""What a simulated array knows, kept on disk: a restart, or kill -9, loses nothing.

One JSON file for each app instance, and one for tenants and initiators.
"""

import json
import os
from pathlib import Path
from typing import Any

Record = dict[str, Any]


class Records:
    """App instances by UUID, tenants by path, initiators by name. Whoever changes one saves it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory / "instances"
        self._directory.mkdir(parents=True, exist_ok=True)
        self._common = directory / "array.json"
        self.instances: dict[str, Record] = {}
        self.tenants: dict[str, Record] = {"/root": {"name": "root", "path": "/root"}}
        self.initiators: dict[str, Record] = {}
        self._load()

    def save(self, instance: Record) -> None:
        """Keep an app instance as it is now."""
        self.instances[instance["uuid"]] = instance
        _write(self._directory / f"{instance['uuid']}.json", instance)

    def remove(self, instance: Record) -> None:
        """Forget an app instance."""
        self.instances.pop(instance["uuid"], None)
        (self._directory / f"{instance['uuid']}.json").unlink(missing_ok=True)

    def save_common(self) -> None:
        """Keep tenants and initiators as they are now."""
        _write(self._common, {"tenants": self.tenants, "initiators": self.initiators})

    def _load(self) -> None:
        for path in self._directory.glob("*.json"):
            record = json.loads(path.read_text(encoding="utf-8"))
            self.instances[record["uuid"]] = record
        if self._common.exists():
            common = json.loads(self._common.read_text(encoding="utf-8"))
            self.tenants.update(common["tenants"])
            self.initiators.update(common["initiators"])


def _write(path: Path, value: Any) -> None:
    new = path.with_suffix(".new")
    new.write_text(json.dumps(value), encoding="utf-8")
    os.replace(new, path)
