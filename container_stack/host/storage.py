# SPDX-License-Identifier: Apache-2.0
"""The storage contract: volumes that carry a file system, their snapshots, and the pool.

A backend keeps what it knows beside the volumes, never in memory, so any number of objects and
processes may work on one pool. Its factory, registered under the entry-point namespace
``container_stack.storage``, takes a :class:`Pool` and returns a :class:`Storage`.
``container_stack.testing.storage_contract`` is the test suite that every backend passes;
:mod:`container_stack.host.storage_checks` has the checks of input that it asks for.

Whatever is killed in the middle leaves a mark, and :meth:`Storage.recover` finishes or undoes it.
"""

import abc
import dataclasses
import datetime
from collections.abc import Mapping

from container_stack import exceptions
from container_stack.rootwrap import executor


@dataclasses.dataclass(frozen=True, slots=True)
class Volume:
    """A volume as it is recorded.

    :param size: bytes, at least what was asked for.
    :param owner: who made it, such as a driver's back end.
    :param filesystem: "xfs", "ext4" or "btrfs".
    :param labels: what its owner wrote on it.
    """

    id: str
    size: int
    owner: str
    filesystem: str
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class Snapshot:
    """A volume's content at a moment.

    :param size: bytes that the volume had then.
    :param created_at: in UTC.
    """

    id: str
    volume_id: str
    size: int
    created_at: datetime.datetime


@dataclasses.dataclass(frozen=True, slots=True)
class Capacity:
    """How full the pool is, in bytes.

    :param total: what all volumes together may take.
    :param free: what is left of it for new volumes.
    :param provisioned: what was promised; beyond ``total`` only where volumes are thin.
    """

    total: int
    free: int
    provisioned: int


@dataclasses.dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend can do on this host; the file systems for which it can.

    :param grow_online: a volume can grow while it is mounted.
    :param shrink: a volume can shrink.
    :param shrink_online: it can shrink while it is mounted.
    :param grow_with_snapshots: a volume that has snapshots can grow and shrink.
    :param cheap_snapshots: a snapshot costs nothing until data changes.
    """

    grow_online: frozenset[str]
    shrink: frozenset[str]
    shrink_online: frozenset[str]
    grow_with_snapshots: bool = True
    cheap_snapshots: bool = True


@dataclasses.dataclass(frozen=True, slots=True)
class Pool:
    """What a backend's factory is given: where and how to keep volumes.

    :param executor: runs privileged commands; its state directory is where files may live.
    :param filesystem: of new volumes.
    :param limit: bytes that all volumes together may take.
    :param options: settings that only some third-party backend knows.
    """

    executor: executor.Executor
    filesystem: str = "xfs"
    limit: int | None = None
    volume_group: str | None = None
    thin_pool: str | None = None
    options: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def accept(self, backend: str, *known: str) -> None:
        """Refuse settings that ``backend`` would ignore.

        :raises InvalidRequest: one is set that isn't among ``known``.
        """
        settings = ("limit", "volume_group", "thin_pool")
        given = {name for name in settings if getattr(self, name) not in (None, "")}
        odd = sorted((given | set(self.options)) - set(known))
        if odd:
            raise exceptions.InvalidRequest(f"{backend} storage doesn't know: {', '.join(odd)}.")


class Storage(abc.ABC):
    """Volumes with a file system, in one pool.

    Ids are lower-case letters, digits, ``-``, ``_`` and single dots within, 63 at most. Sizes are
    bytes. Safe under threads and processes: calls about one volume wait for each other, others
    don't.
    """

    @property
    @abc.abstractmethod
    def capabilities(self) -> Capabilities:
        """What this backend can do on this host."""

    @abc.abstractmethod
    def create(
        self, volume_id: str, size: int, *, owner: str, labels: Mapping[str, str] | None = None
    ) -> Volume:
        """Make a volume with an empty file system, active, and return it.

        :param size: rounded up to what the backend can give.
        :raises AlreadyExists: the id is taken; nothing was changed.
        :raises NoSpace: the pool is too full; nothing was made.
        :raises InvalidRequest: the id, the size or a label is unusable; nothing was made.
        """

    @abc.abstractmethod
    def get(self, volume_id: str) -> Volume:
        """Return a volume.

        :raises NotFound: there is none, or it is only half-made.
        """

    @abc.abstractmethod
    def set_labels(self, volume_id: str, labels: Mapping[str, str | None]) -> Volume:
        """Add or change these labels, remove those that are None, and return the volume."""

    @abc.abstractmethod
    def activate(self, volume_id: str) -> str:
        """Return the path of the volume's block device, making it available; idempotent."""

    @abc.abstractmethod
    def deactivate(self, volume_id: str) -> None:
        """Take the block device away; idempotent.

        :raises Busy: it is mounted, or otherwise open.
        """

    @abc.abstractmethod
    def grow(self, volume_id: str, size: int) -> Volume:
        """Give the volume and its file system this size, also while it is in use; idempotent.

        :raises InvalidRequest: it is larger already; nothing was changed.
        :raises NoSpace: the pool is too full; nothing was changed.
        :raises NotSupported: not as it is now; the text says what would help.
        """

    @abc.abstractmethod
    def shrink(self, volume_id: str, size: int) -> Volume:
        """Cut the volume and its file system down to this size; idempotent.

        :raises PossibleDataLoss: what is stored doesn't fit; nothing was lost.
        :raises InvalidRequest: it is smaller already; nothing was changed.
        :raises NotSupported: this file system can't shrink.
        :raises Busy: this file system can't shrink while it is mounted.
        """

    @abc.abstractmethod
    def delete(self, volume_id: str) -> None:
        """Remove a volume for good, also a half-made one; idempotent.

        :raises Busy: it is mounted or has snapshots; nothing was changed.
        """

    @abc.abstractmethod
    def snapshot(self, volume_id: str, snapshot_id: str) -> Snapshot:
        """Keep the volume's content as it is now; writers wait, and go on.

        :raises AlreadyExists: the snapshot's id is taken; nothing was changed.
        :raises NoSpace: the pool is too full; nothing was made.
        """

    @abc.abstractmethod
    def clone(
        self,
        snapshot_id: str,
        volume_id: str,
        *,
        size: int | None = None,
        owner: str,
        labels: Mapping[str, str] | None = None,
    ) -> Volume:
        """Make a volume with a snapshot's content, independent of it, and return it.

        :param size: larger than the snapshot, or None for the same.
        :raises AlreadyExists: the volume's id is taken; nothing was changed.
        :raises NoSpace: the pool is too full; nothing was made.
        """

    @abc.abstractmethod
    def restore(self, snapshot_id: str) -> Volume:
        """Put content and size of the volume back to its snapshot, which remains; return it.

        :raises Busy: the volume is mounted; nothing was changed.
        """

    @abc.abstractmethod
    def delete_snapshot(self, snapshot_id: str) -> None:
        """Remove a snapshot; idempotent. Its volume and its clones remain."""

    @abc.abstractmethod
    def list_snapshots(self, volume_id: str | None = None) -> list[Snapshot]:
        """Return all snapshots, or a volume's, the oldest first."""

    @abc.abstractmethod
    def list(self, owner: str | None = None) -> list[Volume]:
        """Return all volumes, or an owner's, by id; without those half-made."""

    @abc.abstractmethod
    def capacity(self) -> Capacity:
        """Return how full the pool is."""

    @abc.abstractmethod
    def usage(self, volume_id: str) -> int:
        """Return the bytes that the volume really occupies in the pool."""

    @abc.abstractmethod
    def recover(self) -> None:
        """Finish or undo what was killed half-way; call at every start.

        Harmless at any time: what another process is doing is left alone.
        """
