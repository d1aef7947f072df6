# SPDX-License-Identifier: Apache-2.0
"""A daemon with nothing but volumes and a cluster: answers lines of JSON, until its input ends.

Its volumes are directories that all hosts share, mounted by a bind: nothing but the cluster keeps
two hosts from writing.
"""

import dataclasses
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from typing import Any

from container_stack.host import mounts
from container_stack.rootwrap import mountinfo
from container_stack.volumes import backend, model, service, sql
from container_stack.volumes.cluster import opening

DRIVER = "shared"


class Shared(backend.Backend):
    """Directories that all hosts share."""

    filesystems = ("bind",)
    shared = True

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def start(self) -> None:
        return

    def create(self, volume_id: str, spec: model.Spec) -> None:
        os.makedirs(self._path(volume_id), exist_ok=True)

    def delete(self, volume_id: str) -> None:
        raise NotImplementedError

    def mount(self, volume_id: str, path: str, *, read_only: bool = False) -> None:
        os.makedirs(path, exist_ok=True)
        if not mounts.at(path):
            subprocess.run(["mount", "--bind", self._path(volume_id), path], check=True)

    def unmount(self, volume_id: str, path: str) -> None:
        while mounts.at(path):
            subprocess.run(["umount", path], check=True)
        if os.path.isdir(path):
            os.rmdir(path)

    def mounted(self, paths: Iterable[str]) -> frozenset[str]:
        there = {mount.path for mount in mountinfo.table()}
        return frozenset(path for path in paths if path in there)

    def list(self) -> list[str]:
        return sorted(os.listdir(self._directory))

    def usage(self, volume_id: str) -> model.Usage:
        return model.Usage(used=0)

    def _path(self, volume_id: str) -> str:
        return os.path.join(self._directory, volume_id)


def main() -> None:
    order = json.loads(sys.argv[1])
    logging.basicConfig(level=logging.INFO, format="%(relativeCreated)d %(message)s")
    registry = sql.open(order["registry"])
    place = opening.Place(order["node"], order["state_dir"], helper=tuple(order["helper"]))
    owner = opening.open_(order["coordination"], registry, place, lease=order["lease"])
    keeper = Shared(order["shared"])
    volumes = service.VolumeService(DRIVER, keeper, registry, owner, state_dir=order["state_dir"])
    volumes.start()
    owner.start(volumes.fence)
    _say(result="ready")
    asked = Asked(volumes, owner)
    for line in sys.stdin:
        do, *words = json.loads(line)
        try:
            _say(result=getattr(asked, do)(*words))
        except Exception as exc:
            _say(error=str(exc), kind=type(exc).__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Asked:
    """What may be asked."""

    volumes: Any
    owner: Any

    def create(self, name: str) -> str:
        return str(self.volumes.create(name).id)

    def mount(self, name: str) -> str:
        return str(self.volumes.mount(self.volumes.find(name).id, holder="writer"))

    def unmount(self, name: str) -> None:
        self.volumes.unmount(self.volumes.find(name).id, holder="writer")

    def owner_of(self, name: str) -> list[Any]:
        volume = self.volumes.find(name)
        return [volume.attached_on, volume.fence]

    def check(self) -> None:
        self.owner.check()

    def wall_clock(self) -> float:
        return time.time()

    def stop(self) -> None:
        self.owner.stop()


def _say(**what: Any) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
