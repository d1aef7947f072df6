# SPDX-License-Identifier: Apache-2.0
"""A volume service over directories and SQLite, for tests that make its steps fail or die."""

import dataclasses
import os
import pathlib
from collections.abc import Callable, Iterable
from typing import Any

from container_stack.testing import memory_volumes
from container_stack.volumes import backend, model, ownership, sql
from container_stack.volumes import registry as registries
from container_stack.volumes import service as services

#: The registry's methods that change something.
CHANGES = (
    "add",
    "add_event",
    "add_samples",
    "claim",
    "clear_alerts",
    "raise_alert",
    "release",
    "remove",
    "update",
)
KINDS = {"file": memory_volumes.MemoryVolumes, "block": memory_volumes.MemoryBlocks}


class SteppingRegistry:
    """A registry that tells before and after it changes anything."""

    def __init__(self, real: registries.Registry, step: Callable[[str], None]) -> None:
        self._real = real
        self._step = step

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._real, name)
        if name not in CHANGES:
            return method

        def stepping(*args: Any, **kwargs: Any) -> Any:
            self._step(f"registry {name}")
            result = method(*args, **kwargs)
            self._step(f"registry {name} done")
            return result

        return stepping


@dataclasses.dataclass
class World:
    """One host's state directory; services on it may come and go."""

    path: pathlib.Path
    kind: str = "file"
    shared: bool = False
    #: Called before and after each step with its words; may raise, wait or kill.
    step: Callable[[str], None] = lambda words: None
    node_id: str = "node-1"

    def __post_init__(self) -> None:
        self._opened: list[registries.Registry] = []

    @property
    def state_dir(self) -> str:
        return str(self.path / self.node_id)

    def registry(self) -> registries.Registry:
        """Return a new way to the registry."""
        made = sql.open(f"sqlite:///{self.path}/osd.sqlite")
        self._opened.append(made)
        return made

    def backend(self) -> memory_volumes.MemoryVolumes:
        settings = {"root": str(self.path / "data")} if self.shared else {}
        options = backend.Options(
            "one", None, os.path.join(self.state_dir, "backends", "one"), settings
        )
        return KINDS[self.kind](options, lambda step, _volume: self.step(f"backend {step}"))

    def service(self, *, start: bool = True) -> services.VolumeService:
        """Return a service as a new daemon has it."""
        volumes: Any = SteppingRegistry(self.registry(), lambda words: self.step(words))
        made = services.VolumeService(
            "one",
            self.backend(),
            volumes,
            ownership.Alone(volumes, self.node_id),
            state_dir=self.state_dir,
        )
        if start:
            made.start()
        return made

    def other(self, node_id: str) -> "World":
        """Return another host with the same registry, and the same data if they are shared."""
        return World(self.path, self.kind, self.shared, node_id=node_id)

    def close(self) -> None:
        while self._opened:
            self._opened.pop().close()

    def mounted(self) -> list[str]:
        """Return what is mounted, wherever."""
        top = os.path.join(os.path.realpath(self.state_dir), "mounts")
        found = (
            os.path.join(directory, name)
            for directory, names, files in os.walk(top)
            for name in (*names, *files)
        )
        return sorted(path for path in found if os.path.islink(path))

    def check_whole(self, volumes: services.VolumeService) -> None:
        """What is on the host, in the records and in the registry is the same, and nothing else."""
        rows = {volume.id: volume for volume in volumes.list()}
        assert {each.state for each in rows.values()} <= {
            model.State.AVAILABLE,
            model.State.ATTACHED,
        }
        assert volumes.backend.list() == sorted(rows)
        uses = volumes.uses()
        assert self.mounted() == sorted({use.path for use in uses})
        for row in rows.values():
            paths = tuple(sorted({use.path for use in uses if use.volume_id == row.id}))
            assert row.mount_paths == paths
            assert not row.device_path or os.path.exists(row.device_path)
            used = bool(paths or row.device_path)
            assert row.attached_on == (self.node_id if used else "")
        devices = [*pathlib.Path(self.path).rglob("device")]
        assert len(devices) == len([row for row in rows.values() if row.device_path])
        assert locks(pathlib.Path(self.state_dir)) == []


def locks(state_dir: pathlib.Path) -> list[str]:
    """Return the lock files that are left."""
    return [each.name for each in (state_dir / "locks").rglob("*") if each.is_file()]


def live(*paths: str) -> dict[str, frozenset[str]]:
    """Return what the engine says when one container has these paths."""
    return {"container": frozenset(paths)}


def held_by(volumes: services.VolumeService) -> dict[str, int]:
    """Return how often each holder uses anything."""
    found: dict[str, int] = {}
    for use in volumes.uses():
        found[use.holder] = found.get(use.holder, 0) + use.count
    return found


def names(volumes: Iterable[model.Volume]) -> list[str]:
    return [volume.name for volume in volumes]
