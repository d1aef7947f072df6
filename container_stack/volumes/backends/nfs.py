# SPDX-License-Identifier: Apache-2.0
"""Volumes as directories on an NFS server, or below a directory of this host's.

A server may be gone. So nothing here looks at a path on it: what has to be looked at, copied or
removed there is done by a program that is killed when it takes too long, and what is mounted is
read from the kernel's table.
"""

import contextlib
import hashlib
import ipaddress
import os
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from container_stack import exceptions
from container_stack.host import mount_points, mounts
from container_stack.rootwrap import commands, mountinfo
from container_stack.volumes import backend, model

_FILESYSTEM = "nfs"
_KNOWN = {
    kind.__name__: kind
    for kind in (
        exceptions.HostNotReady,
        exceptions.NoSpace,
        exceptions.NotFound,
        exceptions.NotSupported,
        exceptions.ServiceUnavailable,
    )
}


class NFS(backend.Backend, backend.Snapshots, backend.Restoring):
    """A directory for each volume; snapshots are copies, shared or made by the server if it can.

    All hosts that have the same server and path share all volumes. Sizes aren't limits.
    """

    SETTINGS: ClassVar[Mapping[str, str] | None] = {
        "server": "host name or address of the NFS server; without it, path is this host's own",
        "path": "directory that the server exports, or of this host",
        "version": "of NFS: 3, 4, 4.1 or 4.2; default: the highest that the server knows",
        "wait": "what programs get when the server is gone for 30 seconds: an error (soft, the "
        "default), or nothing until it is back (hard)",
    }

    filesystems = (_FILESYSTEM,)
    shared = True

    def __init__(self, options: backend.Options) -> None:
        self._executor = options.executor
        self._directory = options.directory
        self._server = _bracketed(options.settings.get("server", ""))
        self._path = options.settings.get("path", "")
        self._root = os.path.join(options.directory, "export" if self._server else "local")
        self._node = hashlib.sha256(options.node_id.encode()).hexdigest()[:16]
        self._options = options.settings.get("wait") or "soft"
        if version := options.settings.get("version"):
            self._options += f",vers={version}"
        self._points = mount_points.MountPoints(options.executor, unmounting=commands.nfs.UNBIND)
        self._exports = mount_points.MountPoints(
            options.executor, options.directory, unmounting=commands.nfs.LEAVE
        )
        self._check(options)

    def start(self) -> None:
        os.makedirs(self._directory, mode=0o700, exist_ok=True)
        if not self._server:
            self._link()
        try:
            self._run(commands.nfs.TREE_SWEEP, node=self._node)
        except exceptions.ServiceUnavailable as exc:
            raise exceptions.HostNotReady(str(exc)) from exc

    def create(self, volume_id: str, spec: model.Spec) -> None:
        if spec.filesystem not in ("", _FILESYSTEM):
            raise exceptions.InvalidRequest(f"{spec.filesystem!r} can't be had here, but nfs.")
        self._run(commands.nfs.TREE_CREATE, node=self._node, id=volume_id)

    def delete(self, volume_id: str) -> None:
        self._refuse_mounted(volume_id)
        self._run(commands.nfs.TREE_REMOVE, node=self._node, id=volume_id)

    def mount(self, volume_id: str, path: str, *, read_only: bool = False) -> None:
        # It may be half restored by a host that has died.
        self._run(commands.nfs.TREE_SETTLE, id=volume_id)
        with self._translated():
            self._points.mount(
                commands.nfs.BIND,
                path,
                lambda mount: _is_of(mount, volume_id) and mount.read_only == read_only,
                access="ro" if read_only else "rw",
                source=os.path.join(self._root, volume_id, "data"),
            )

    def unmount(self, volume_id: str, path: str) -> None:
        there = mounts.at(path)
        if there is None or _is_of(there, volume_id):
            with self._translated():
                self._points.unmount(path)

    def list(self) -> list[str]:
        return self._run(commands.nfs.TREE_LIST).split()

    def usage(self, volume_id: str) -> model.Usage:
        return model.Usage(used=int(self._run(commands.nfs.TREE_USAGE, id=volume_id)))

    def snapshot(self, volume_id: str, snapshot_id: str, *, read_only: bool) -> None:
        """Copy what is there, file by file: who must not see some older than others stops first."""
        self._run(commands.nfs.TREE_COPY, node=self._node, id=snapshot_id, origin=volume_id)

    def restore(self, volume_id: str, snapshot_id: str) -> None:
        self._refuse_mounted(volume_id)
        self._run(commands.nfs.TREE_RESTORE, node=self._node, id=volume_id, origin=snapshot_id)

    def close(self) -> None:
        """Leave the server; volumes that are mounted stay so."""
        if self._server:
            with contextlib.suppress(exceptions.ContainerStackError):
                self._exports.unmount(self._root)

    def _run(self, command: commands.Command, **values: Any) -> str:
        """Run a command of the tree's, and return what it says."""
        with self._translated():
            if self._server:
                self._connect()
            return self._executor.run(command, root=self._root, **values)

    def _connect(self) -> None:
        """Mount what the server exports, if it isn't mounted."""
        source = f"{self._server}:{self._path}"
        self._exports.mount(
            commands.nfs.MOUNT,
            self._root,
            lambda mount: mount.source == source and mount.kind.startswith("nfs"),
            source=source,
            options=self._options,
        )

    def _link(self) -> None:
        """Let the place that root's commands know be the directory."""
        link = f"{self._root}.new"
        if not os.path.isdir(self._path):
            raise exceptions.HostNotReady(f"There is no directory {self._path}: make it.")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(link)
        os.symlink(self._path, link)
        os.rename(link, self._root)

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except exceptions.CommandFailed as exc:
            raise self._error(exc) from exc

    def _error(self, exc: exceptions.CommandFailed) -> exceptions.ContainerStackError:
        where = f"NFS server {self._server}" if self._server else self._path
        name, _, text = exc.stderr.partition(": ")
        if name == "NotFound":
            return exceptions.NotFound(text)
        if name in _KNOWN:
            return _KNOWN[name](f"{where}: {text}")
        if exc.timed_out:
            return exceptions.ServiceUnavailable(f"{where} doesn't answer.")
        if exc.command == commands.nfs.MOUNT.name:
            return exceptions.ServiceUnavailable(f"{where} can't be mounted: {exc.stderr}")
        return exc

    def _refuse_mounted(self, volume_id: str) -> None:
        for mount in mountinfo.table():
            if _is_of(mount, volume_id):
                raise exceptions.Busy(f"The volume is mounted at {mount.path}; unmount it first.")

    def _check(self, options: backend.Options) -> None:
        """See that the settings can be meant.

        :raises InvalidRequest: naming the one that can't.
        """
        if not os.path.isabs(self._path):
            raise exceptions.InvalidRequest(f"{options.name}: path must be an absolute path.")
        if not self._server:
            return
        good = {"path": self._root, "source": "nas:/", "options": "soft"}
        texts = {
            "server": {"source": f"{self._server}:/"},
            "path": {"source": f"nas:{self._path}"},
            "version": {"options": f"soft,vers={options.settings.get('version') or 4}"},
            "wait": {"options": f"{options.settings.get('wait') or 'soft'},vers=4"},
        }
        for setting, values in texts.items():
            try:
                commands.nfs.MOUNT.argv(options.executor.state_dir, **{**good, **values})
            except exceptions.InvalidRequest as exc:
                raise exceptions.InvalidRequest(
                    f"{options.name}: {setting} can't be {options.settings.get(setting)!r}."
                ) from exc


def _is_of(mount: mountinfo.Mount, volume_id: str) -> bool:
    """Tell whether a mount is of a volume, which the end of its path says: NFS calls it source."""
    path = mount.source if mount.kind.startswith("nfs") else mount.root
    return path.endswith(f"/{volume_id}/data")


def _bracketed(server: str) -> str:
    """Return an IPv6 address as NFS writes it, and everything else as it is."""
    with contextlib.suppress(ValueError):
        return f"[{ipaddress.IPv6Address(server)}]"
    return server
