# SPDX-License-Identifier: Apache-2.0
"""Containers, and volumes of the loop storage that stand for those of a volume service."""

import subprocess
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from container_stack.host import containers, loop, mounts, storage
from container_stack.rootwrap import disk_record, executor
from container_stack.servers import disks, model
from container_stack.testing import privilege, storage_world

MIB = 1024**2
#: The size of every volume: the least that a file system of theirs may have is less.
SIZE = 24 * MIB


class Host:
    """A state directory, the engine, and what was made there."""

    def __init__(self, directory: Path, engine: containers.Engine) -> None:
        self.engine = engine
        self.state = directory / "state"
        self.executor = privilege.make_executor(self.state)
        self.storage = loop.LoopStorage.open(storage.Pool(self.executor, filesystem="ext4"))

    def service(self, run: executor.Executor | None = None, **settings: Any) -> disks.Disks:
        """Return the disks of servers as after a start of their service."""
        return disks.Disks(run or self.executor, disks.Settings(**settings))

    def volume(self, *, empty: bool = False) -> str:
        """Make a volume with a file system, or with nothing on it, and return its id."""
        volume_id = str(uuid.uuid4())
        self.storage.create(volume_id, SIZE, owner="cstest")
        if empty:
            subprocess.run(["wipefs", "-aq", self.device(volume_id)], check=True)
        return volume_id

    def device(self, volume_id: str) -> str:
        return self.storage.activate(volume_id)

    def disk(self, volume_id: str, target: str = "/dev/vdb", **values: Any) -> model.Disk:
        connection = {
            "driver_volume_type": "local",
            "data": {"device_path": self.device(volume_id)},
            **values.pop("connection", {}),
        }
        return model.Disk(volume_id, connection, target, **values)

    def connected(self) -> Mapping[str, list[str]]:
        """Return the users of each volume of this host that is connected."""
        found = {}
        for volume in self.storage.list():
            if record := disk_record.read(volume.id):
                found[volume.id] = record.users
        return found

    def mounted(self) -> list[str]:
        return [mount.path for mount in mounts.below(str(self.state))]

    def notes(self) -> list[Path]:
        return list(self.state.glob("servers/*/disks.json"))

    def left(self) -> list[object]:
        """Return what should have gone."""
        return [*self.connected(), *self.mounted(), *self.notes()]

    def clean(self) -> None:
        self.service().recover(())
        for volume in self.storage.list():
            self.storage.delete(volume.id)

    def close(self) -> None:
        self.clean()
        self.executor.close()
        assert storage_world.leftovers(str(self.state)) == []


def server_id() -> str:
    return str(uuid.uuid4())
