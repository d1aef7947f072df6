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
    """App instances by UUID, tenants by path, initiators and their groups by tenant and name.

    Whoever changes one saves it.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory / "instances"
        self._directory.mkdir(parents=True, exist_ok=True)
        self._common = directory / "array.json"
        self.instances: dict[str, Record] = {}
        self.tenants: dict[str, Record] = {"/root": {"name": "root", "path": "/root"}}
        self.initiators: dict[str, Record] = {}
        self.groups: dict[str, Record] = {}

    def save(self, instance: Record) -> None:
        """Keep an app instance as it is now."""
        self.instances[instance["uuid"]] = instance
        _write(self._directory / f"{instance['uuid']}.json", instance)

    def remove(self, instance: Record) -> None:
        """Forget an app instance."""
        self.instances.pop(instance["uuid"], None)
        (self._directory / f"{instance['uuid']}.json").unlink(missing_ok=True)

    def save_common(self) -> None:
        """Keep all but app instances as it is now."""
        common = {"tenants": self.tenants, "initiators": self.initiators, "groups": self.groups}
        _write(self._common, common)

    def load(self) -> None:
        """Read what was kept."""
        for path in self._directory.glob("*.json"):
            record = json.loads(path.read_text(encoding="utf-8"))
            self.instances[record["uuid"]] = record
        if self._common.exists():
            common = json.loads(self._common.read_text(encoding="utf-8"))
            self.tenants.update(common["tenants"])
            self.initiators.update(common["initiators"])
            self.groups.update(common["groups"])


def _write(path: Path, value: Any) -> None:
    new = path.with_suffix(".new")
    new.write_text(json.dumps(value), encoding="utf-8")
    os.replace(new, path)
