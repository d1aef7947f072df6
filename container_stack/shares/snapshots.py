# SPDX-License-Identifier: Apache-2.0
"""Snapshots of shares: taken while clients write, mounted beside the share, and gone back to.

A snapshot that somebody may look into has a view: a volume with its content, mounted read-only
below the share's server and called as the snapshot is. Where clients see previous versions of
their files every snapshot has one, also below ``<share>.past``, in which Samba looks for them.
"""

import contextlib
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence

from container_stack import exceptions
from container_stack.host import locks, mount_points, storage
from container_stack.shares import model, protocol, protocols, volumes

LOG = logging.getLogger(__name__)

#: What Samba is told that directories of previous versions are called: see ``image/smb.conf``.
_STAMP = "%Y.%m.%d-%H.%M.%S"


class ShareSnapshots:
    """Takes, shows, finds and removes snapshots; every method is idempotent.

    :param previous_versions: clients see every snapshot in the share itself, too.
    """

    def __init__(
        self,
        held: volumes.ShareVolumes,
        object_locks: locks.ObjectLocks,
        *,
        previous_versions: bool,
    ) -> None:
        self._held = held
        self._storage = held.storage
        self._locks = object_locks
        self._previous_versions = previous_versions

    def create(self, share_id: str, snapshot_id: str) -> model.Snapshot:
        """Keep a share's content as it is now, and return the snapshot.

        Clients wait while it is taken, with all that they wrote before in it: a moment where the
        storage can share blocks, else for as long as copying takes.

        :raises ShareNotFound: there is no such share.
        :raises AlreadyExists: the id is taken, by another share's snapshot.
        :raises NoSpace: the pool is full; nothing was made.
        """
        model.check_id(snapshot_id, "snapshot")
        with self._of(share_id) as volume:
            found = self._find(snapshot_id)
            if found is None:
                self._held.mount(volume)
                self._held.complete(volume)
                with self._held.unlimited(volume), contextlib.ExitStack() as undo:
                    self._held.flush(volume)
                    found = self._storage.snapshot(volume.id, snapshot_id)
                    undo.callback(self._storage.delete_snapshot, snapshot_id)
                    if self._previous_versions:
                        self._show(volume, found)
                    undo.pop_all()
                LOG.info("Created snapshot %(id)s", {"id": snapshot_id})
            elif found.volume_id != volume.id:
                raise exceptions.AlreadyExists(f"{snapshot_id} is another share's snapshot.")
            return self._snapshot(volume, found)

    def get(self, snapshot_id: str) -> model.Snapshot:
        """Return a snapshot.

        :raises SnapshotNotFound: there is none.
        """
        found, volume = self._both(snapshot_id)
        return self._snapshot(volume, found)

    def list(self, share_id: str) -> Sequence[model.Snapshot]:
        """Return a share's snapshots, the oldest first.

        :raises ShareNotFound: there is no such share.
        """
        volume = self._held.get(share_id)
        return [self._snapshot(volume, each) for each in self._storage.list_snapshots(volume.id)]

    def delete(self, snapshot_id: str) -> None:
        """Remove a snapshot, cutting off who looks into it.

        :raises SnapshotNotFound: there is none.
        """
        found, volume = self._both(snapshot_id)
        with self._of(volumes.identity(volume) or volume.id, volume):
            self._hide(volume, found)
            self._storage.delete_snapshot(snapshot_id)
        LOG.info("Deleted snapshot %(id)s", {"id": snapshot_id})

    def set_rules(self, snapshot_id: str, rules: Iterable[protocol.Rule]) -> Mapping[str, str]:
        """Let exactly those whom the rules name look into a snapshot; nobody may write.

        :return: the password of every user named, who has it for all shares of the server.
        :raises SnapshotNotFound: there is none.
        :raises InvalidRequest: a rule can't be obeyed; nothing was changed.
        :raises NoSpace: the pool has no room for the view; nothing was changed.
        """
        found, volume = self._both(snapshot_id)
        with self._of(volumes.identity(volume) or volume.id, volume):
            speaking = self._held.speaking(volume)
            obeyed = tuple(_looking(speaking.rule, each) for each in rules)
            if not obeyed:
                self._hide(volume, found, keep=self._previous_versions)
                return {}
            with contextlib.ExitStack() as undo:
                if not self._has_view(snapshot_id):
                    undo.callback(self._hide, volume, found)
                self._show(volume, found, shared=True)
                passwords = speaking.set_share(snapshot_id, obeyed)
                undo.pop_all()
            return passwords

    def revert(self, share_id: str, snapshot_id: str) -> model.Share:
        """Put a share's content and size back to its latest snapshot, and return the share.

        Its clients are cut off and may come back when it is done, by the same rules.

        :raises SnapshotNotFound: the share has no such snapshot.
        :raises InvalidRequest: it has a later one; nothing was changed.
        """
        with self._of(share_id) as volume:
            taken = self._storage.list_snapshots(volume.id)
            if snapshot_id not in [each.id for each in taken]:
                raise _missing(snapshot_id)
            if taken[-1].id != snapshot_id:
                raise exceptions.InvalidRequest(
                    f"Snapshot {snapshot_id} isn't the latest of share {share_id}: delete "
                    f"{taken[-1].id} first, or make a new share of it."
                )
            with self._held.closed(volume):
                volume = self._storage.restore(snapshot_id)
            server = self._held.servers.get(volume.labels[volumes.SERVER])
        LOG.info("Share %(id)s is as in %(snapshot)s", {"id": share_id, "snapshot": snapshot_id})
        return self._held.share(self._storage.get(volume.id), server)

    def find(self, share_id: str, snapshot_id: str) -> model.Snapshot:
        """Return a snapshot of this share, which the service may have forgotten.

        :raises SnapshotNotFound: the share has none of this id; the text names those that it has.
        """
        volume = self._held.get(share_id)
        taken = self._storage.list_snapshots(volume.id)
        for each in taken:
            if each.id == snapshot_id:
                return self._snapshot(volume, each)
        known = ", ".join(each.id for each in taken) or "none"
        raise model.SnapshotNotFound(
            f"{snapshot_id!r} is no snapshot of share {share_id}, which has: {known}."
        )

    def views(self) -> Sequence[storage.Volume]:
        """Return the views of all snapshots, by id."""
        return [
            each for each in self._storage.list(self._held.owner) if volumes.VIEW in each.labels
        ]

    def recover(self, snapshot_id: str) -> None:
        """Show a snapshot's view again, or remove one that a crash left half-made."""
        view = self._storage.get(snapshot_id)
        volume = self._storage.get(view.labels[volumes.VIEW])
        with self._of(volumes.identity(volume) or volume.id, volume):
            found = self._find(snapshot_id)
            if found and view.labels[volumes.STATE] == volumes.READY:
                self._mount(volume, found)
                with contextlib.suppress(exceptions.NotFound):
                    self._held.speaking(volume).restore_share(snapshot_id)
            else:
                self._remove(volume, snapshot_id)

    def prune(self, volume: storage.Volume) -> None:
        """Remove previous versions that a loss of power brought back, empty, from before.

        The caller holds the share's lock.
        """
        mount_points.prune(self._past(volume))

    @contextlib.contextmanager
    def _of(self, share_id: str, volume: storage.Volume | None = None) -> Iterator[storage.Volume]:
        with self._locks.hold(f"share-{share_id}"):
            yield volume or self._held.get(share_id)

    def _find(self, snapshot_id: str) -> storage.Snapshot | None:
        return next((s for s in self._storage.list_snapshots() if s.id == snapshot_id), None)

    def _both(self, snapshot_id: str) -> tuple[storage.Snapshot, storage.Volume]:
        """Return a snapshot and the volume of its share, which is this owner's."""
        if found := self._find(snapshot_id):
            volume = self._storage.get(found.volume_id)
            if volume.owner == self._held.owner and volumes.SERVER in volume.labels:
                return found, volume
        raise _missing(snapshot_id)

    def _snapshot(self, volume: storage.Volume, found: storage.Snapshot) -> model.Snapshot:
        server = self._held.servers.get(volume.labels[volumes.SERVER])
        at = protocols.get(volumes.protocol_of(volume)).export_location
        return model.Snapshot(
            id=found.id,
            share_id=volumes.identity(volume),
            size=found.size,
            created_at=found.created_at,
            export_locations=tuple(at(each.address, found.id) for each in server.spec.interfaces),
        )

    # Views -----------------------------------------------------------------------------------

    def _has_view(self, snapshot_id: str) -> bool:
        with contextlib.suppress(exceptions.NotFound):
            return volumes.VIEW in self._storage.get(snapshot_id).labels
        return False

    def _show(
        self, volume: storage.Volume, found: storage.Snapshot, *, shared: bool = False
    ) -> None:
        labels = {volumes.VIEW: volume.id, volumes.STATE: volumes.CREATING}
        if not self._has_view(found.id):
            self._storage.clone(found.id, found.id, owner=self._held.owner, labels=labels)
        self._mount(volume, found)
        self._storage.set_labels(found.id, {volumes.STATE: volumes.READY})

    def _hide(self, volume: storage.Volume, found: storage.Snapshot, *, keep: bool = False) -> None:
        self._held.withdraw(volume, found.id)
        if self._has_view(found.id) and not keep:
            self._remove(volume, found.id)

    def _remove(self, volume: storage.Volume, snapshot_id: str) -> None:
        filesystems = self._held.filesystems
        self._held.withdraw(volume, snapshot_id)
        self._storage.set_labels(snapshot_id, {volumes.STATE: volumes.DELETING})
        device = self._storage.activate(snapshot_id)
        self._held.lift(volume, device)
        # Also where it isn't mounted any more: a crash came before the directory was removed.
        for path in {self._path(volume, snapshot_id), *filesystems.mount_points(device)}:
            filesystems.unmount(path)
        self.prune(volume)
        self._storage.delete(snapshot_id)

    def _mount(self, volume: storage.Volume, found: storage.Snapshot) -> None:
        view = self._storage.get(found.id)
        device = self._storage.activate(view.id)
        for path in self._paths(volume, found):
            self._held.filesystems.mount(device, path, view.filesystem, read_only=True)
        self._held.limit(volume)

    def _paths(self, volume: storage.Volume, found: storage.Snapshot) -> Iterator[str]:
        yield self._path(volume, found.id)
        if self._previous_versions:
            os.makedirs(self._past(volume), exist_ok=True)
            # Clients list it.
            os.chmod(self._past(volume), 0o755)  # noqa: S103
            yield os.path.join(self._past(volume), found.created_at.strftime(_STAMP))

    def _path(self, volume: storage.Volume, snapshot_id: str) -> str:
        return os.path.join(
            self._held.servers.directory(volume.labels[volumes.SERVER]), snapshot_id
        )

    def _past(self, volume: storage.Volume) -> str:
        return f"{self._held.path(volume)}.past"


def _looking(kind: type[protocol.Rule], rule: protocol.Rule) -> protocol.Rule:
    """Return the rule that lets somebody read, or from where whoever may read can come."""
    try:
        return kind(rule.kind, rule.to, "ro")
    except exceptions.NotSupported:
        return kind(rule.kind, rule.to, "rw")


def _missing(snapshot_id: str) -> model.SnapshotNotFound:
    return model.SnapshotNotFound(f"There is no snapshot {snapshot_id} on this host.")
