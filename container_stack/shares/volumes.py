# SPDX-License-Identifier: Apache-2.0
"""The volumes of shares: which there are, where each is mounted, and what its labels say of it.

All that is known of a share stands on its volume, so whoever comes after a crash finds it there.
"""

import contextlib
import ctypes
import os
from collections.abc import Iterator, Sequence

from container_stack import exceptions
from container_stack.host import device_limits, filesystem, storage, transfers
from container_stack.shares import limits, model, protocol, protocols, servers

#: Labels of a share's volume.
SERVER = "server"
STATE = "state"
PROTOCOL = "protocol"
#: The id that the service knows the share by, where it was managed under another than its first.
SHARE = "share"
#: The last part of the export location, where the volume has changed under it.
NAME = "name"
#: Nobody may use the share for the moment; its rules are kept.
CLOSED = "closed"
#: Of a snapshot's view: the volume that its snapshot is of.
VIEW = "view"
#: Of what is to become a share here: the id of the share that it is a copy of, elsewhere.
INCOMING = "incoming"
#: It is COMING until that share is gone: see :mod:`container_stack.shares.moving`.
CREATING, COMING, READY, DELETING = "creating", "coming", "ready", "deleting"
#: It is served as before, but the service has forgotten it.
UNMANAGED = "unmanaged"


class ShareVolumes:
    """Finds, mounts and removes the volumes of shares. Callers hold the share's lock.

    :param moved: what fills the volumes of shares that come from elsewhere.
    :param owner: the back end that these shares belong to; others' are never touched.
    """

    def __init__(
        self,
        volumes: storage.Storage,
        filesystems: filesystem.Filesystems,
        share_servers: servers.ShareServers,
        throttle: limits.Throttle,
        moved: transfers.Transfers,
        *,
        owner: str,
    ) -> None:
        self.storage = volumes
        self.filesystems = filesystems
        self.servers = share_servers
        self.transfers = moved
        self.owner = owner
        self._throttle = throttle

    def list(self) -> Sequence[storage.Volume]:
        """Return the volumes of all shares, also of those half-made or unmanaged, by id."""
        volumes = self.storage.list(self.owner)
        return sorted((each for each in volumes if SERVER in each.labels), key=lambda v: v.id)

    def find(self, share_id: str) -> storage.Volume | None:
        """Return a share's volume, whatever its state, if there is one."""
        with contextlib.suppress(exceptions.NotFound):
            volume = self.storage.get(share_id)
            if volume.owner == self.owner and identity(volume) == share_id:
                return volume
        return next((each for each in self.list() if identity(each) == share_id), None)

    def get(self, share_id: str) -> storage.Volume:
        """Return a share's volume.

        :raises ShareNotFound: there is none, or none that is managed.
        """
        volume = self.find(share_id)
        if volume is None:
            raise model.ShareNotFound(f"There is no share {share_id} on this host.")
        return volume

    def share(self, volume: storage.Volume, server: model.Server) -> model.Share:
        """Return the share that a volume holds."""
        speaks = protocol_of(volume)
        at = protocols.get(speaks).export_location
        locations = tuple(at(each.address, name(volume)) for each in server.spec.interfaces)
        return model.Share(identity(volume) or volume.id, server.id, volume.size, locations, speaks)

    def path(self, volume: storage.Volume) -> str:
        """Return where a share is mounted on the host."""
        return os.path.join(self.servers.directory(volume.labels[SERVER]), name(volume))

    def mount(self, volume: storage.Volume) -> None:
        """Mount a share where its server sees it, with its limits; idempotent."""
        device = self.storage.activate(volume.id)
        self.filesystems.mount(device, self.path(volume), volume.filesystem)
        self.limit(volume)

    def complete(self, volume: storage.Volume) -> None:
        """Let a share that never had a rule have the directory that clients see; idempotent.

        Else its snapshots had none, in which nothing can be made.
        """
        if not os.path.isdir(os.path.join(self.path(volume), protocol.DATA)):
            self.speaking(volume).set_share(name(volume), ())

    def limit(self, volume: storage.Volume) -> None:
        """Set a share's limits, if it has any, for it and for its snapshots' views; idempotent."""
        if text := volume.labels.get(limits.LABEL):
            size = self.storage.get(volume.id).size
            self._limit(volume, self._devices(volume), limits.from_label(text).of(size))

    def lift(self, volume: storage.Volume, device: str | None = None) -> None:
        """Take a share's limits, if it has any, from all of its devices or from one; idempotent."""
        if limits.LABEL in volume.labels:
            devices = [device] if device else self._devices(volume)
            self._limit(volume, devices, device_limits.Limits())

    @contextlib.contextmanager
    def unlimited(self, volume: storage.Volume) -> Iterator[None]:
        """Lift a share's limits while the body runs: what has a deadline mustn't wait for them."""
        with contextlib.ExitStack() as undo:
            undo.callback(self.limit, volume)
            self.lift(volume)
            yield

    def usage(self, volume: storage.Volume) -> filesystem.Usage:
        """Return how full a share is.

        :raises NotFound: it isn't mounted.
        """
        return self.filesystems.usage(self.path(volume))

    def flush(self, volume: storage.Volume) -> None:
        """Have what clients wrote on the disk, so that a freeze has little left to wait for."""
        directory = os.open(self.path(volume), os.O_RDONLY | os.O_DIRECTORY)
        try:
            if ctypes.CDLL(None, use_errno=True).syncfs(directory):
                raise OSError(ctypes.get_errno(), "syncfs")
        finally:
            os.close(directory)

    def speaking(self, volume: storage.Volume) -> protocol.Protocol:
        """Return what serves a share, with its server running.

        :raises NotFound: its server is gone.
        """
        server = self.servers.running(volume.labels[SERVER])
        return self.servers.speaking(server, protocol_of(volume))

    def withdraw(self, volume: storage.Volume, share_name: str) -> None:
        """Stop serving this name on a share's server, if that is left."""
        with contextlib.suppress(exceptions.NotFound):
            server = self.servers.get(volume.labels[SERVER])
            if server.state in ("active", "stopped"):
                self.speaking(volume).remove_share(share_name)

    def remove(self, volume: storage.Volume) -> None:
        """Remove a share and its volume for good; idempotent."""
        if INCOMING in volume.labels:
            self.transfers.stop(volume.id)
        self.withdraw(volume, name(volume))
        self.lift(volume)
        self.filesystems.unmount(self.path(volume))
        self.storage.delete(volume.id)

    @contextlib.contextmanager
    def closed(self, volume: storage.Volume) -> Iterator[None]:
        """Keep a share from everybody, unmounted, while the body runs; then let them in again.

        Its clients are cut off and may come back afterwards, by the same rules and passwords.
        """
        with contextlib.ExitStack() as undo:
            undo.callback(self.reopen, volume)
            self.close(volume)
            yield

    def close(self, volume: storage.Volume) -> None:
        """Keep a share from everybody, unmounted, until it is reopened; idempotent."""
        self.storage.set_labels(volume.id, {CLOSED: "yes"})
        self.speaking(volume).suspend(name(volume))
        self.lift(volume)
        self.filesystems.unmount(self.path(volume))

    def reopen(self, volume: storage.Volume) -> None:
        """Mount a share and let in again whom its rules name; idempotent."""
        self.mount(volume)
        speaking = self.speaking(volume)
        if rules := speaking.shares().get(name(volume)):
            speaking.set_share(name(volume), rules)
        self.storage.set_labels(volume.id, {CLOSED: None})

    def _devices(self, volume: storage.Volume) -> Sequence[str]:
        views = [e.id for e in self.storage.list(self.owner) if e.labels.get(VIEW) == volume.id]
        devices = []
        for each in (volume.id, *views):
            # One whose image somebody removed has no device; whoever mounts it is told so.
            with contextlib.suppress(exceptions.CommandFailed):
                devices.append(self.storage.activate(each))
        return devices

    def _limit(
        self, volume: storage.Volume, devices: Sequence[str], most: device_limits.Limits
    ) -> None:
        container_id = None
        with contextlib.suppress(exceptions.NotFound):
            container_id = self.servers.get(volume.labels[SERVER]).container_id
        self._throttle.set(devices, container_id, most)


def identity(volume: storage.Volume) -> str | None:
    """Return the id that the service knows a share by; None if it has forgotten it."""
    if volume.labels.get(STATE) == UNMANAGED or SERVER not in volume.labels:
        return None
    return volume.labels.get(SHARE, volume.id)


def name(volume: storage.Volume) -> str:
    """Return what a share is called on its server."""
    return volume.labels.get(NAME, volume.id)


def protocol_of(volume: storage.Volume) -> str:
    """Return the name of the protocol by which a share is served."""
    return volume.labels.get(PROTOCOL, protocols.DEFAULT)


def is_settled(volume: storage.Volume) -> bool:
    """Tell whether a share is neither half-made nor half-deleted."""
    return volume.labels.get(STATE) in (READY, UNMANAGED)
