# SPDX-License-Identifier: Apache-2.0
"""Volumes of one driver: what the REST API, the Docker plugin and the command line call."""

from collections.abc import Mapping, Sequence

from container_stack.volumes import backend as keepers
from container_stack.volumes import driver as drivers
from container_stack.volumes import lives, model, mounting, uses
from container_stack.volumes import ownership as owners
from container_stack.volumes import registry as registries


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

    @property
    def capabilities(self) -> keepers.Capabilities:
        """What the backend can do on this host."""
        return self._driver.backend.capabilities

    def start(self) -> None:
        """Make ready, and finish or undo what a crash left half-done. Nothing is mounted.

        :raises HostNotReady: what the operator has to do first.
        """
        self._mounting.places.prepare()
        self._driver.backend.start()

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

    def uses(self) -> Sequence[uses.Use]:
        """Return who uses what on this host, by the volumes' ids."""
        return self._driver.uses.list()
