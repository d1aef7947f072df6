# SPDX-License-Identifier: Apache-2.0
"""Volumes of one driver: what the REST API, the Docker plugin and the command line call."""

import datetime
from collections.abc import Mapping, Sequence

from container_stack import exceptions
from container_stack.volumes import backend as keepers
from container_stack.volumes import changes, lives, model, mounting, recovery, uses
from container_stack.volumes import driver as drivers
from container_stack.volumes import ownership as owners
from container_stack.volumes import registry as registries
from container_stack.volumes import upkeep as upkeeps


class VolumeService:
    """One driver of one daemon; safe under threads, and beside other processes.

    Looking at volumes waits for nothing that is done to them. What is done to one volume comes one
    at a time, and waits for no other. Whatever fails is undone, and whatever is killed is finished
    or undone at the next start.

    :param driver: its name, under which the backend is configured.
    :param state_dir: of the daemon, on a local file system that restarts don't empty.
    """

    def __init__(
        self,
        driver: str,
        backend: keepers.Backend,
        registry: registries.Registry,
        ownership: owners.Ownership,
        *,
        state_dir: str,
    ) -> None:
        self._driver = drivers.Driver(driver, backend, registry, ownership, state_dir)
        self._mounting = mounting.Mounting(self._driver)
        self._lives = lives.Lives(self._driver)
        self._changes = changes.Changes(self._driver)
        self._recovery = recovery.Recovery(self._driver, self._mounting, self._lives)
        self._upkeep = upkeeps.Upkeep(self._driver, self._mounting, self._lives, self._recovery)

    @property
    def driver(self) -> str:
        """The driver's name."""
        return self._driver.name

    @property
    def node_id(self) -> str:
        """This node's id."""
        return self._driver.node_id

    @property
    def backend(self) -> keepers.Backend:
        """Who keeps the volumes."""
        return self._driver.backend

    def start(self) -> None:
        """Make ready, and finish or undo what a crash left half-done. Nothing is mounted.

        :raises HostNotReady: what the operator has to do first.
        """
        self._mounting.places.prepare()
        self._driver.backend.start()
        self._recovery.start()

    def stop(self) -> None:
        """Let go of what isn't needed any more; mounts stay as they are."""
        self._driver.backend.close()

    # Volumes --------------------------------------------------------------------------------

    def create(
        self,
        name: str,
        spec: model.Spec = model.Spec(),  # noqa: B008 - frozen
        *,
        labels: Mapping[str, str] = {},
        source: model.Source = model.Source(),  # noqa: B008 - frozen
        exist_ok: bool = False,
    ) -> model.Volume:
        """Make a volume, and return it.

        :param source: with a parent, a volume or snapshot, it begins as a clone of that; it has
            the parent's file system, and at least its size.
        :param exist_ok: return the volume of that name if it is what is asked for; one that has
            grown since, or has another schedule, is.
        :raises InvalidRequest: the name, specification or labels can't be meant.
        :raises AlreadyExists: the name is taken.
        :raises NotFound: there is no such parent.
        :raises NotSupported: this backend can't clone.
        :raises NoSpace: nothing was made.
        """
        return self._lives.create(name, spec, labels, source, exist_ok)

    def delete(self, volume_id: str) -> None:
        """Delete a volume or snapshot with its data.

        :raises NotFound: there is none.
        :raises Busy: it is attached or mounted somewhere, or has snapshots; nothing was changed.
        """
        self._lives.delete(volume_id)

    def get(self, volume_id: str) -> model.Volume:
        """Return a volume.

        :raises NotFound: there is none.
        """
        return self._driver.get(volume_id)

    def find(self, name: str) -> model.Volume:
        """Return the volume of a name.

        :raises NotFound: there is none.
        """
        return self._driver.registry.find(self.driver, name)

    def list(self, query: model.Query = model.EVERYTHING) -> list[model.Volume]:
        """Return the volumes that a query wants, by name."""
        return self._driver.registry.list(self.driver, query)

    def snapshot(
        self,
        volume_id: str,
        name: str = "",
        *,
        labels: Mapping[str, str] = {},
        read_only: bool = True,
    ) -> model.Volume:
        """Make a volume with the content that another has now, and return it.

        :param name: "" means one made of the volume's.
        :raises NotFound: there is no such volume.
        :raises NotSupported: this backend makes no snapshots.
        :raises AlreadyExists: the name is taken.
        :raises Busy: another node uses the volume.
        :raises NoSpace: nothing was made.
        """
        return self._lives.snapshot(volume_id, name, labels, read_only)

    def restore(self, volume_id: str, snapshot_id: str) -> model.Volume:
        """Give a volume the content and size of a snapshot of its own, which remains.

        :raises NotFound: there is no such volume or snapshot.
        :raises InvalidRequest: it is no snapshot of this volume.
        :raises Busy: the volume is attached or mounted; nothing was changed.
        """
        return self._changes.restore(volume_id, snapshot_id)

    def grow(self, volume_id: str, size: int) -> model.Volume:
        """Give a volume a size in bytes, while it is mounted too; idempotent.

        :raises InvalidRequest: it is larger, or read-only; nothing was changed.
        :raises NoSpace: nothing was changed.
        :raises NotSupported: this backend's volumes don't grow.
        """
        return self._changes.grow(volume_id, size)

    def set_labels(self, volume_id: str, labels: Mapping[str, str | None]) -> model.Volume:
        """Set labels, remove those that are None, and leave the others as they are."""
        return self._changes.set_labels(volume_id, labels)

    def set_schedule(self, volume_id: str, interval: int, keep: int) -> model.Volume:
        """Let a volume be snapshot regularly.

        :param interval: minutes; 0 means no more.
        :param keep: scheduled snapshots of it that are kept.
        """
        return self._changes.set_schedule(volume_id, interval, keep)

    # Use ------------------------------------------------------------------------------------

    def mount(self, volume_id: str, path: str = "", *, holder: str = "") -> str:
        """Mount a volume here, and return the path; attached and formatted first if need be.

        Each call of a holder with an ID counts; who has none uses a path once.

        :param path: below ``<state_dir>/mounts``; "" means ``mounts/<driver>/<name>``.
        :param holder: an ID of Docker's, or "".
        :raises InvalidRequest: the path lies elsewhere.
        :raises Busy: another node has the volume, or another volume the path.
        :raises ServiceUnavailable: this node may not serve now.
        """
        return self._mounting.mount(volume_id, path, holder)

    def unmount(self, volume_id: str, path: str = "", *, holder: str = "") -> None:
        """End one use of a holder; the last one unmounts and detaches. Idempotent.

        :raises Busy: something has files open there; nothing was changed.
        """
        self._mounting.unmount(volume_id, path, holder)

    def attach(self, volume_id: str) -> str:
        """Attach a block volume until :meth:`detach`, and return its device's path; idempotent.

        :raises NotSupported: this driver's volumes are files.
        :raises Busy: another node has it.
        """
        return self._mounting.attach(volume_id)

    def detach(self, volume_id: str) -> None:
        """Detach a block volume; idempotent.

        :raises NotSupported: this driver's volumes are files.
        :raises Busy: it is mounted; nothing was changed.
        """
        self._mounting.detach(volume_id)

    def format(self, volume_id: str, filesystem: str = "") -> None:
        """Make a file system on a block volume; one that has it already keeps its data.

        :param filesystem: "" means the one of its specification.
        :raises NotSupported: this driver's volumes are files.
        :raises Busy: it is mounted; nothing was changed.
        :raises InvalidRequest: it has another one already.
        """
        self._mounting.format(volume_id, filesystem)

    def uses(self, volume_id: str = "") -> Sequence[uses.Use]:
        """Return who uses what on this host, or this volume here, by the volumes' ids."""
        return self._driver.uses.list(volume_id)

    # Looking --------------------------------------------------------------------------------

    def stats(self, volume_id: str) -> model.Stats:
        """Return what a volume's device did.

        :raises NotSupported: nobody knows.
        """
        if not isinstance(self.backend, keepers.Counting):
            raise exceptions.NotSupported(drivers.NOT_SUPPORTED)
        return self.backend.stats(self._driver.usable(volume_id).id)

    def usage(self, volume_id: str) -> model.Usage:
        """Return what a volume's data take now."""
        return self.backend.usage(self._driver.usable(volume_id).id)

    def samples(
        self, volume_id: str, *, since: datetime.datetime | None = None, limit: int = 500
    ) -> Sequence[model.Sample]:
        """Return what a volume's data took, the oldest first."""
        return self._driver.registry.samples(self.get(volume_id).id, since=since, limit=limit)

    def alerts(self, volume_id: str = "") -> Sequence[model.Alert]:
        """Return the standing alerts of a volume, or of all of this driver, the newest first."""
        if volume_id:
            return self._driver.registry.alerts(self.get(volume_id).id)
        ours = {volume.id for volume in self.list()}
        found = self._driver.registry.alerts(limit=10_000)
        return [alert for alert in found if alert.volume_id in ours]

    def events(
        self, volume_id: str = "", *, after: int = 0, limit: int = 100
    ) -> Sequence[model.Event]:
        """Return what happened to this driver's volumes, or to one, the newest first."""
        return self._driver.registry.events(
            driver=self.driver, volume_id=volume_id, after=after, limit=limit
        )

    # Upkeep ---------------------------------------------------------------------------------

    def tick(self) -> None:
        """Do what is due: to be called each minute or so; never fails.

        Scheduled snapshots, measurements, alerts, what failed before, mounts that were lost.
        """
        self._upkeep.run(self._driver.now())

    def reconcile(
        self, live: Mapping[str, frozenset[str]] | None = None, *, grace: float = 150.0
    ) -> Sequence[str]:
        """End the uses of holders that live no more; mount again what lost its mount.

        Docker's IDs are not its containers': a use lives if any container that lives has its path.

        :param live: by container, the mount paths it has; None: nobody knows, so that all live.
        :param grace: seconds after a mount in which its container needn't be seen yet: Docker
            mounts volumes before it starts a container, and gives each up to two minutes.
        :return: what was done, in words.
        """
        return self._recovery.reconcile(live, grace)

    def fence(self) -> None:
        """End every use of every volume here, and return when nothing is mounted any more.

        Containers hold mounts of their own: who calls this kills them first. Ownership must say
        already that this node may not serve, so that nothing new begins.
        """
        self._recovery.fence()
