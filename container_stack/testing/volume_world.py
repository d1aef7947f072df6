# SPDX-License-Identifier: Apache-2.0
"""What the suites of volume backends stand on: a backend under test, and volumes in use."""

import contextlib
import dataclasses
import os
import pathlib
import uuid
from collections.abc import Callable, Iterator

import pytest

from container_stack import exceptions
from container_stack.volumes import backend, model

MIB = 1024**2
#: Sizes that every file system can have; no two the same multiple of anything.
SMALL, MEDIUM, LARGE = 304 * MIB, 420 * MIB, 536 * MIB

# A field of World is called "backend", too.
Options = backend.Options
Backend = backend.Backend
BlockBackend = backend.BlockBackend
Snapshots = backend.Snapshots
Growing = backend.Growing
Restoring = backend.Restoring
Sending = backend.Sending
Taking = backend.Taking
Open = Callable[[Options], Backend]


@dataclasses.dataclass(frozen=True, slots=True)
class World:
    """A backend under test.

    :param open: makes one, such as its class.
    """

    options: Options
    open: Open
    backend: Backend

    def again(self) -> Backend:
        """Return the backend as a daemon has it that has just started."""
        fresh = self.open(self.options)
        fresh.start()
        return fresh

    def create(self, size: int = SMALL, filesystem: str = "") -> str:
        """Make a volume and return its id."""
        volume_id = str(uuid.uuid4())
        self.backend.create(volume_id, model.Spec(size=size, filesystem=filesystem))
        return volume_id

    def place(self, name: str = "One.1") -> str:
        """Return a path where a volume may be mounted."""
        state_dir = os.path.dirname(os.path.dirname(self.options.directory))
        return os.path.join(state_dir, "mounts", self.options.name, name)

    def mount(self, volume_id: str, path: str, *, read_only: bool = False) -> None:
        """Mount a volume as the service does: attached and formatted first if it is a device."""
        if isinstance(self.backend, BlockBackend):
            self.backend.attach(volume_id)
            self.backend.format(volume_id, "")
        self.backend.mount(volume_id, path, read_only=read_only)

    def unmount(self, volume_id: str, path: str) -> None:
        """Unmount it, and detach it unless it is mounted elsewhere."""
        self.backend.unmount(volume_id, path)
        if isinstance(self.backend, BlockBackend):
            with contextlib.suppress(exceptions.Busy):
                self.backend.detach(volume_id)

    @contextlib.contextmanager
    def mounted(self, volume_id: str, *, read_only: bool = False) -> Iterator[pathlib.Path]:
        """Mount a volume for a while; yield where."""
        path = self.place(volume_id)
        self.mount(volume_id, path, read_only=read_only)
        try:
            yield pathlib.Path(path)
        finally:
            self.unmount(volume_id, path)

    def write(self, volume_id: str, text: str) -> None:
        """Write a text into a file of the volume."""
        with self.mounted(volume_id) as path:
            (path / "text").write_text(text, encoding="utf-8")

    def read(self, volume_id: str) -> str:
        """Return that text, read from a read-only mount."""
        with self.mounted(volume_id, read_only=True) as path:
            return (path / "text").read_text(encoding="utf-8")

    @contextlib.contextmanager
    def used(self, path: str) -> Iterator[None]:
        """Have a mount in use: here by an open file."""
        with open(os.path.join(path, "used"), "w", encoding="utf-8"):
            yield

    # Abilities -----------------------------------------------------------------------------

    def snapshots(self) -> Snapshots:
        """Return the backend as one that snapshots; skip what needs it otherwise."""
        if not isinstance(self.backend, Snapshots):
            pytest.skip("the backend doesn't claim to snapshot")
        return self.backend

    def growing(self) -> Growing:
        """Return the backend as one whose volumes grow; skip what needs it otherwise."""
        if not isinstance(self.backend, Growing):
            pytest.skip("the backend doesn't claim that volumes grow")
        return self.backend

    def restoring(self) -> Restoring:
        """Return the backend as one that restores; skip what needs it otherwise."""
        if not isinstance(self.backend, Restoring):
            pytest.skip("the backend doesn't claim to restore")
        return self.backend

    def sending(self) -> Sending:
        """Return the backend as one whose snapshots travel; skip what needs it otherwise."""
        if not isinstance(self.backend, Sending):
            pytest.skip("the backend doesn't claim to send")
        return self.backend

    def taking(self) -> Taking:
        """Return the backend as one whose volumes are taken; skip what needs it otherwise."""
        if not isinstance(self.backend, Taking):
            pytest.skip("the backend doesn't claim to take volumes from dead hosts")
        return self.backend

    def blocks(self) -> BlockBackend:
        """Return the backend as one of devices; skip what needs it otherwise."""
        if not isinstance(self.backend, BlockBackend):
            pytest.skip("the backend doesn't claim to keep devices")
        return self.backend


class VolumeFixtures:
    """Fixtures that a backend's test class overrides or takes as they are."""

    @pytest.fixture
    def open_backend(self) -> Open:
        """Override: what makes a backend of options, such as its class."""
        raise NotImplementedError

    @pytest.fixture
    def options(self) -> backend.Options:
        """Override: ``<state_dir>/backends/<name>`` with the executor of that state directory."""
        raise NotImplementedError

    @pytest.fixture
    def world(self, options: backend.Options, open_backend: Open) -> Iterator[World]:
        """The backend, started; what a failed test leaves is unmounted and deleted."""
        made = open_backend(options)
        made.start()
        world = self.make_world(options, open_backend, made)
        yield world
        clean_up(world)
        made.close()

    def make_world(
        self, options: backend.Options, open_backend: Open, made: backend.Backend
    ) -> World:
        """Override for a world of your own."""
        return World(options, open_backend, made)


def write(path: pathlib.Path, size: int) -> None:
    """Write so many random bytes onto the disk."""
    with path.open("wb") as file:
        for _ in range(size // MIB):
            file.write(os.urandom(MIB))
        os.fsync(file.fileno())


def clean_up(world: World) -> None:
    """Unmount and delete everything."""
    top = pathlib.Path(world.place()).parent
    for volume_id in world.backend.list():
        for path in sorted(top.glob("*")):
            with contextlib.suppress(exceptions.ContainerStackError):
                world.unmount(volume_id, str(path))
    for volume_id in world.backend.list():
        if isinstance(world.backend, backend.BlockBackend):
            world.backend.detach(volume_id)
        world.backend.delete(volume_id)
    assert world.backend.list() == []
