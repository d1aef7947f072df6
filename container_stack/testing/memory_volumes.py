# SPDX-License-Identifier: Apache-2.0
"""A backend for tests of what stands on backends: volumes are plain directories.

Nothing is privileged and nothing is mounted: a mount point is a symbolic link to the volume's
directory, so that what is written there is in the volume. A read-only mount is of a copy, which
goes with the mount. Limits aren't enforced. It passes
:mod:`container_stack.testing.volume_backend_contract`, as file volumes and as block volumes, whose
device is a file.
"""

import contextlib
import hashlib
import os
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from container_stack import exceptions
from container_stack.host import records
from container_stack.volumes import backend, model

#: Called with a method's name and the volume's id before it does anything, and with the name and
#: ".done" after: may raise, wait, or kill the process.
Hook = Callable[[str, str], None]


class MemoryVolumes(backend.Backend, backend.Snapshots, backend.Growing, backend.Restoring):
    """Directories as file volumes.

    Settings: ``root``, a directory that all nodes share, instead of one in ``options.directory``;
    ``limit``, bytes that all volumes together may have.

    :param hook: what is to happen on the way; may be replaced at any time.
    """

    def __init__(self, options: backend.Options, hook: Hook = lambda step, volume_id: None) -> None:
        self._root = options.settings.get("root") or os.path.join(options.directory, "volumes")
        self._shared = "root" in options.settings
        self._limit = int(options.settings.get("limit", model.LARGEST))
        self._made = records.Records(os.path.join(options.directory, "mounted"))
        self._lock = threading.RLock()
        self.hook = hook
        #: Mount points that somebody uses: they can't be unmounted.
        self.busy: set[str] = set()

    @property
    def filesystems(self) -> tuple[str, ...]:
        return ("none",)

    @property
    def shared(self) -> bool:
        return self._shared

    def start(self) -> None:
        self.hook("start", "")
        os.makedirs(self._root, exist_ok=True)
        for name in os.listdir(self._root):
            if name.startswith("."):
                _remove_tree(os.path.join(self._root, name))
            elif os.path.exists(old := self._path(name, "data.old")):
                if not os.path.exists(self._data(name)):
                    os.rename(old, self._data(name))
                _remove_tree(old)
        self.hook("start.done", "")

    def create(self, volume_id: str, spec: model.Spec) -> None:
        if spec.filesystem not in ("", *self.filesystems):
            raise exceptions.InvalidRequest(f"{spec.filesystem!r} can't be had here.")
        with self._step("create", volume_id):
            if not os.path.exists(self._path(volume_id)):
                self._make(volume_id, {"size": spec.size, "read_only": False})

    def delete(self, volume_id: str) -> None:
        with self._step("delete", volume_id):
            self._refuse_used(volume_id)
            gone = os.path.join(self._root, f".gone.{volume_id}")
            with contextlib.suppress(FileNotFoundError):
                os.rename(self._path(volume_id), gone)
            _remove_tree(gone)

    def mount(self, volume_id: str, path: str, *, read_only: bool = False) -> None:
        with self._step("mount", volume_id):
            self._record(volume_id)
            made = {"path": path, "id": volume_id, "read_only": read_only}
            if os.path.islink(path):
                if self._made.read(_key(path)) == made:
                    return
                raise exceptions.Busy(f"Something else is mounted at {path}.")
            where = self._data(volume_id)
            if read_only:
                where = self._made.path(_key(path), ".copy")
                _remove_tree(where)
                shutil.copytree(self._data(volume_id), where, symlinks=True)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with contextlib.suppress(FileNotFoundError):
                os.rmdir(path)
            self._made.write(_key(path), made)
            os.symlink(where, path)

    def unmount(self, volume_id: str, path: str) -> None:
        with self._step("unmount", volume_id):
            if path in self.busy:
                raise exceptions.Busy(f"{path} is in use.")
            with contextlib.suppress(FileNotFoundError):
                os.rmdir(path) if not os.path.islink(path) else os.unlink(path)
            _remove_tree(self._made.path(_key(path), ".copy"))
            self._made.remove(_key(path))

    def mounted(self, paths: Iterable[str]) -> frozenset[str]:
        return frozenset(path for path in paths if os.path.islink(path))

    def list(self) -> list[str]:
        with contextlib.suppress(FileNotFoundError):
            return sorted(name for name in os.listdir(self._root) if not name.startswith("."))
        return []

    def usage(self, volume_id: str) -> model.Usage:
        limit = self._record(volume_id)["size"]
        files = (
            os.path.join(directory, name)
            for directory, _, names in os.walk(self._data(volume_id))
            for name in names
        )
        return model.Usage(used=sum(os.lstat(file).st_size for file in files), limit=limit)

    def snapshot(self, volume_id: str, snapshot_id: str, *, read_only: bool) -> None:
        with self._step("snapshot", volume_id):
            if not os.path.exists(self._path(snapshot_id)):
                record = {**self._record(volume_id), "read_only": read_only}
                self._make(snapshot_id, record, self._data(volume_id))

    def grow(self, volume_id: str, size: int) -> None:
        with self._step("grow", volume_id):
            record = self._record(volume_id)
            if size < record["size"]:
                raise exceptions.InvalidRequest(f"It is larger already: {record['size']} bytes.")
            self._reserve(size - record["size"])
            self._write(volume_id, {**record, "size": size})

    def restore(self, volume_id: str, snapshot_id: str) -> None:
        with self._step("restore", volume_id):
            self._refuse_used(volume_id)
            self._record(volume_id)
            source = self._record(snapshot_id)
            data, new = self._data(volume_id), os.path.join(self._root, f".new.{volume_id}")
            _remove_tree(new)
            shutil.copytree(self._data(snapshot_id), new, symlinks=True)
            os.rename(data, data + ".old")
            os.rename(new, data)
            _remove_tree(data + ".old")
            self._write(volume_id, {**self._record(volume_id), "size": source["size"]})
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path(volume_id, "device"))

    @contextlib.contextmanager
    def _step(self, name: str, volume_id: str) -> Iterator[None]:
        self.hook(name, volume_id)
        with self._lock:
            yield
        self.hook(f"{name}.done", volume_id)

    def _make(self, volume_id: str, record: records.Record, source: str = "") -> None:
        self._reserve(record["size"])
        new = os.path.join(self._root, f".new.{volume_id}")
        _remove_tree(new)
        os.makedirs(new)
        if source:
            shutil.copytree(source, os.path.join(new, "data"), symlinks=True)
        else:
            os.mkdir(os.path.join(new, "data"))
        records.Records(new).write("record", record)
        os.rename(new, self._path(volume_id))

    def _reserve(self, more: int) -> None:
        taken = sum(self._record(each)["size"] for each in self.list())
        if taken + more > self._limit:
            raise exceptions.NoSpace(f"{self._limit - taken} bytes are free.")

    def _refuse_used(self, volume_id: str) -> None:
        for made in self._made.all().values():
            if made["id"] == volume_id and os.path.islink(made["path"]):
                raise exceptions.Busy(f"{volume_id} is mounted at {made['path']}.")

    def _record(self, volume_id: str) -> dict[str, Any]:
        record = records.Records(self._path(volume_id)).read("record")
        if record is None:
            raise exceptions.NotFound("Volume does not exist.")
        return record

    def _write(self, volume_id: str, record: records.Record) -> None:
        records.Records(self._path(volume_id)).write("record", record)

    def _path(self, volume_id: str, *names: str) -> str:
        return os.path.join(self._root, volume_id, *names)

    def _data(self, volume_id: str) -> str:
        return self._path(volume_id, "data")


class MemoryBlocks(MemoryVolumes, backend.BlockBackend, backend.Counting):
    """The same as block volumes: attached, formatted, and then mounted."""

    @property
    def filesystems(self) -> tuple[str, ...]:
        return ("ext4", "xfs")

    def attach(self, volume_id: str) -> str:
        with self._step("attach", volume_id):
            self._record(volume_id)
            device = self._path(volume_id, "device")
            with open(device, "ab"):
                return device

    def detach(self, volume_id: str) -> None:
        with self._step("detach", volume_id):
            self._record(volume_id)
            self._refuse_used(volume_id)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path(volume_id, "device"))

    def format(self, volume_id: str, filesystem: str) -> None:
        with self._step("format", volume_id):
            record = self._attached(volume_id)
            present = record.get("filesystem", "")
            filesystem = filesystem or present or self.filesystems[0]
            if filesystem not in self.filesystems or present not in ("", filesystem):
                raise exceptions.InvalidRequest(f"{filesystem!r} can't be had, there is {present}.")
            self._write(volume_id, {**record, "filesystem": filesystem})

    def mount(self, volume_id: str, path: str, *, read_only: bool = False) -> None:
        if "filesystem" not in self._attached(volume_id):
            raise exceptions.InvalidRequest(f"{volume_id} has no file system: format it first.")
        super().mount(volume_id, path, read_only=read_only)

    def stats(self, volume_id: str) -> model.Stats:
        try:
            self._attached(volume_id)
        except exceptions.InvalidRequest as exc:
            raise exceptions.NotSupported(f"{volume_id} has no device now.") from exc
        return model.Stats(reads=3, read_bytes=12288, writes=2, write_bytes=8192)

    def _attached(self, volume_id: str) -> dict[str, Any]:
        record = self._record(volume_id)
        if not os.path.exists(self._path(volume_id, "device")):
            raise exceptions.InvalidRequest(f"{volume_id} is detached: attach it first.")
        return record


def _key(path: str) -> str:
    return hashlib.sha256(path.encode()).hexdigest()[:32]


def _remove_tree(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(path)
