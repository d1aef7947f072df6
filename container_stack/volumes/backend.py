# SPDX-License-Identifier: Apache-2.0
"""The contract of those who keep volumes.

A backend is a class that takes :class:`Options`, registered under the entry-point namespace
``container_stack.volume_backends``. It keeps what it knows beside the data, never in memory:
objects and processes may come and go. It isn't told names, only ids, which are safe as file names.
``container_stack.testing.volume_backend_contract`` is the test suite that every backend passes.

What a backend can do beyond the minimum it says by being a :class:`BlockBackend`,
:class:`Snapshots`, :class:`Growing`, :class:`Restoring`, :class:`Sending`, :class:`Counting`,
:class:`Taking` or :class:`Watching`.
"""

import abc
import dataclasses
from collections.abc import Iterable, Mapping
from typing import ClassVar

from container_stack.host import mounts
from container_stack.rootwrap import executor
from container_stack.volumes import model


@dataclasses.dataclass(frozen=True, slots=True)
class Options:
    """What a backend is given.

    :param name: under which it is configured.
    :param settings: from the daemon's configuration file, its own part; all values are texts.
    :param directory: where it may keep files: ``<state_dir>/backends/<name>``; not yet made.
    :param node_id: of this host.
    """

    name: str
    executor: executor.Executor
    directory: str
    settings: Mapping[str, str] = dataclasses.field(default_factory=dict, repr=False)
    node_id: str = ""


class Backend(abc.ABC):
    """Volumes of one driver. Ids are UUIDs in lower case.

    Safe under threads; calls about one volume come one at a time, which is the service's part.
    Every call is idempotent, and leaves nothing behind when it fails.
    """

    #: Its settings by name, each with what it means: others are refused before it is made. None
    #: means that it looks at them itself.
    SETTINGS: ClassVar[Mapping[str, str] | None] = None

    @property
    @abc.abstractmethod
    def filesystems(self) -> tuple[str, ...]:
        """Those that a volume can have on this host; the first is the default."""

    @property
    def shared(self) -> bool:
        """Whether every node reaches every volume; else only the one where it was made."""
        return False

    @property
    def limits(self) -> bool:
        """Whether a volume can't take more than its size."""
        return False

    @abc.abstractmethod
    def start(self) -> None:
        """Make ready, and finish or undo what a crash left half-made.

        :raises HostNotReady: what the operator has to do first; nothing else is called then.
        """

    @abc.abstractmethod
    def create(self, volume_id: str, spec: model.Spec) -> None:
        """Make an empty volume, detached.

        :raises InvalidRequest: the size or the file system can't be had; nothing was made.
        :raises NoSpace: nothing was made.
        """

    @abc.abstractmethod
    def delete(self, volume_id: str) -> None:
        """Remove a volume or snapshot for good, half-made ones too.

        :raises Busy: it is mounted, or snapshots need it; nothing was changed.
        """

    @abc.abstractmethod
    def mount(self, volume_id: str, path: str, *, read_only: bool = False) -> None:
        """Mount a volume, which is attached and formatted if it is a block volume.

        :param path: below ``<state_dir>/mounts``, made if need be.
        :raises NotFound: there is no such volume.
        :raises Busy: something else is mounted there.
        """

    @abc.abstractmethod
    def unmount(self, volume_id: str, path: str) -> None:
        """Unmount it there, and remove the mount point's directory.

        :raises Busy: somebody uses it.
        """

    @abc.abstractmethod
    def list(self) -> list[str]:
        """Return the ids of all volumes and snapshots that are here, by id."""

    @abc.abstractmethod
    def usage(self, volume_id: str) -> model.Usage:
        """Return what its data take.

        :raises NotFound: there is no such volume.
        """

    def mounted(self, paths: Iterable[str]) -> frozenset[str]:
        """Return those of these paths at which something is mounted: one look at the table."""
        there = mounts.paths()
        return frozenset(path for path in paths if mounts.resolve(path) in there)

    def close(self) -> None:
        """Let go of what isn't needed any more; volumes stay as they are."""
        return


class BlockBackend(Backend):
    """A backend whose volumes are block devices."""

    @abc.abstractmethod
    def attach(self, volume_id: str) -> str:
        """Return the path of its device on this host, making it available.

        :raises Busy: another host has it.
        """

    @abc.abstractmethod
    def detach(self, volume_id: str) -> None:
        """Take the device away.

        :raises Busy: it is mounted, or otherwise open.
        """

    @abc.abstractmethod
    def format(self, volume_id: str, filesystem: str) -> None:
        """Make a file system on an attached volume; one that has it already keeps its data.

        :raises InvalidRequest: it has another one.
        """


class Snapshots(abc.ABC):
    """A backend that snapshots."""

    @abc.abstractmethod
    def snapshot(self, volume_id: str, snapshot_id: str, *, read_only: bool) -> None:
        """Make a volume with the content that another has now, independent of it.

        :raises NoSpace: nothing was made.
        """


class Growing(abc.ABC):
    """A backend whose volumes grow, while they are mounted too."""

    @abc.abstractmethod
    def grow(self, volume_id: str, size: int) -> None:
        """Give a volume this size.

        :raises InvalidRequest: it is larger; nothing was changed.
        :raises NoSpace: nothing was changed.
        :raises NotSupported: not as it is now; the text says what would help.
        """


class Restoring(abc.ABC):
    """A backend that puts volumes back."""

    @abc.abstractmethod
    def restore(self, volume_id: str, snapshot_id: str) -> None:
        """Give a volume content and size of its snapshot, which remains; detach it.

        :raises Busy: it is mounted; nothing was changed.
        """


class Sending(abc.ABC):
    """A backend whose snapshots travel to another host, in files ``<state_dir>/streams/<UUID>``."""

    @abc.abstractmethod
    def send(self, snapshot_id: str, path: str, *, since: str = "") -> None:
        """Write a read-only snapshot into a new file.

        :param since: a snapshot that the other side has: only what changed is written.
        :raises AlreadyExists: there is such a file.
        """

    @abc.abstractmethod
    def receive(self, snapshot_id: str, path: str, size: int) -> None:
        """Make a read-only snapshot of what was sent.

        :raises InvalidRequest: the file isn't whole; nothing was made.
        """


class Counting(abc.ABC):
    """A backend that knows what its devices do."""

    @abc.abstractmethod
    def stats(self, volume_id: str) -> model.Stats:
        """Return what an attached volume's device did.

        :raises NotSupported: this volume has none now.
        """


class Taking(abc.ABC):
    """A backend whose volumes somebody else keeps attached to a host, even to one that is dead."""

    @abc.abstractmethod
    def take(self, volume_id: str) -> None:
        """Detach a volume from the other hosts of this driver; idempotent.

        Called when this host has come to own it: no other may use it, by the end of its lease if
        not by its own word, and this one doesn't use it yet.

        :raises Busy: what isn't a host of ours has it; nothing was changed there.
        """


class Watching(abc.ABC):
    """A backend that must look again and again, or tenants take more than they may."""

    @abc.abstractmethod
    def watch(self) -> None:
        """Look, and do what is to be done; called by one thread each second, so be quick."""
