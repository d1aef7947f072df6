# SPDX-License-Identifier: Apache-2.0
"""What the storage suites stand on: a throw-away pool, and volumes that are written and read."""

import contextlib
import dataclasses
import glob
import os
import pathlib
from collections.abc import Callable, Iterator

import pytest

from container_stack.host import filesystem, mounts, storage
from container_stack.testing import privilege

MIB = 1024**2
#: Sizes that every file system can have; no two the same multiple of anything.
SMALL, MEDIUM, LARGE = 304 * MIB, 420 * MIB, 536 * MIB

Backend = storage.Storage
Open = Callable[[storage.Pool], storage.Storage]


@dataclasses.dataclass(frozen=True, slots=True)
class World:
    """A backend under test.

    :param open: the backend's factory.
    """

    pool: storage.Pool
    open: Open
    storage: Backend
    filesystems: filesystem.Filesystems

    def again(self) -> Backend:
        """Return the same storage as a process sees it that has just started."""
        return self.open(self.pool)

    def path(self, volume_id: str) -> str:
        """Return where a volume is mounted in the tests."""
        return os.path.join(self.pool.executor.state_dir, "mounts", volume_id)

    @contextlib.contextmanager
    def mounted(self, volume_id: str) -> Iterator[pathlib.Path]:
        """Mount a volume for a while, and yield where."""
        path = self.path(volume_id)
        kind = self.storage.get(volume_id).filesystem
        self.filesystems.mount(self.storage.activate(volume_id), path, kind)
        try:
            yield pathlib.Path(path)
        finally:
            self.filesystems.unmount(path)

    def write(self, volume_id: str, text: str) -> None:
        """Keep a text in a volume that isn't mounted."""
        with self.mounted(volume_id) as path:
            (path / "text").write_text(text, encoding="utf-8")

    def read(self, volume_id: str) -> str:
        """Return the text kept in a volume that isn't mounted."""
        with self.mounted(volume_id) as path:
            return (path / "text").read_text(encoding="utf-8")

    def room(self, volume_id: str) -> int:
        """Return the size of the file system in a volume that isn't mounted."""
        with self.mounted(volume_id) as path:
            return self.filesystems.usage(str(path)).total

    def clean(self) -> None:
        """Remove every volume and snapshot."""
        self.storage.recover()
        for mount in reversed(mounts.below(self.pool.executor.state_dir)):
            self.filesystems.unmount(mount.path)
        for snapshot in self.storage.list_snapshots():
            self.storage.delete_snapshot(snapshot.id)
        for volume in self.storage.list():
            self.storage.delete(volume.id)


class StorageFixtures:
    """The fixtures of the suites. A backend supplies ``open_storage``, and what differs."""

    @pytest.fixture
    def open_storage(self) -> Open:
        """Return the factory that is registered as the backend's entry point."""
        raise NotImplementedError("supply a fixture `open_storage`: see StorageContract")

    @pytest.fixture
    def pool(self, tmp_path: pathlib.Path) -> Iterator[storage.Pool]:
        """Yield an empty pool; override it to change its settings."""
        runner = privilege.make_executor(tmp_path / "state")
        yield storage.Pool(runner)
        runner.close()

    @pytest.fixture
    def world(self, pool: storage.Pool, open_storage: Open) -> Iterator[World]:
        """Yield the backend under test, and see that it leaves nothing."""
        backend = open_storage(pool)
        world = World(pool, open_storage, backend, filesystem.Filesystems(pool.executor))
        yield world
        world.clean()
        assert backend.list() == []
        assert backend.list_snapshots() == []
        assert backend.capacity().provisioned == 0
        assert leftovers(pool.executor.state_dir) == []


def leftovers(state_dir: str) -> list[str]:
    """Return the mounts, loop devices and files that tests left; directories don't count."""
    found = [mount.path for mount in mounts.below(state_dir)]
    for name in glob.glob("/sys/block/loop*/loop/backing_file"):
        with contextlib.suppress(OSError):
            found.append(pathlib.Path(name).read_text(encoding="utf-8").strip())
    for directory, _directories, files in os.walk(state_dir):
        found += [os.path.join(directory, name) for name in files]
    return [name for name in found if name.startswith(state_dir + "/")]
