# SPDX-License-Identifier: Apache-2.0
"""The contract of who remembers volumes, for all hosts of a cluster.

What this host alone knows, such as who has mounted what, isn't here: it must be known when the
registry can't be reached. ``tests/contract`` runs one suite over every database.
"""

import abc
import datetime
from collections.abc import Sequence

from container_stack.volumes import model


class Registry(abc.ABC):
    """All volumes of all drivers; safe under threads and processes.

    Every method may raise ServiceUnavailable: the database doesn't answer, in bounded time, and
    what was asked may or may not have happened; asking again is harmless.
    """

    @property
    def local(self) -> bool:
        """Whether it is a file of this host's, which looking into takes no time to speak of."""
        return False

    # Volumes ------------------------------------------------------------------------------

    @abc.abstractmethod
    def add(self, volume: model.Volume) -> None:
        """Remember a new volume.

        :raises AlreadyExists: its id, or its driver and name, are taken; nothing was changed.
        """

    @abc.abstractmethod
    def get(self, volume_id: str) -> model.Volume:
        """Return a volume.

        :raises NotFound: there is none.
        """

    @abc.abstractmethod
    def find(self, driver: str, name: str) -> model.Volume:
        """Return the volume of a name.

        :raises NotFound: there is none.
        """

    @abc.abstractmethod
    def list(self, driver: str, query: model.Query = model.EVERYTHING) -> list[model.Volume]:
        """Return the volumes that a query wants, by name."""

    @abc.abstractmethod
    def update(
        self, volume_id: str, *, fence: int | None = None, **changes: object
    ) -> model.Volume:
        """Change fields of a volume, named as in :class:`model.Volume`, and return it.

        :param fence: refuse if it has grown: another node has come to own the volume.
        :raises NotFound: there is no such volume.
        :raises Busy: the fence has grown; nothing was changed.
        """

    @abc.abstractmethod
    def remove(self, volume_id: str, *, fence: int | None = None) -> None:
        """Forget a volume, its samples and its alerts; idempotent.

        :param fence: as in :meth:`update`.
        :raises Busy: the fence has grown; nothing was changed.
        """

    @abc.abstractmethod
    def claim(self, volume_id: str, node_id: str) -> model.Volume:
        """Let a node own a volume that nobody else owns, and return it; idempotent.

        Its fence grows unless the node owned it already.

        :raises Busy: another node owns it (the text names it); nothing was changed.
        """

    @abc.abstractmethod
    def release(self, volume_id: str, node_id: str) -> None:
        """Let a node own it no more; idempotent. Another's ownership isn't touched.

        Its device path and mount paths, which were that node's, are gone with it.
        """

    @abc.abstractmethod
    def release_all(self, node_id: str) -> Sequence[str]:
        """Let a node own nothing any more; return the ids of what it owned."""

    # Nodes --------------------------------------------------------------------------------

    @abc.abstractmethod
    def put_node(self, node: model.Node) -> model.Node:
        """Remember a node as it is now; its timestamp is the database's time."""

    @abc.abstractmethod
    def nodes(self) -> Sequence[model.Node]:
        """Return all nodes, by id."""

    @abc.abstractmethod
    def remove_node(self, node_id: str) -> None:
        """Forget a node; idempotent.

        :raises Busy: it owns volumes.
        """

    # What happened ------------------------------------------------------------------------

    @abc.abstractmethod
    def add_event(
        self, kind: str, *, driver: str = "", volume_id: str = "", node_id: str = "", text: str = ""
    ) -> None:
        """Remember that something happened; never fails.

        Here it is known at once, and elsewhere a second later. What this process noted just
        before it was killed may be forgotten.
        """

    @abc.abstractmethod
    def events(
        self, *, driver: str = "", volume_id: str = "", after: int = 0, limit: int = 100
    ) -> Sequence[model.Event]:
        """Return what happened after an event, the newest first."""

    @abc.abstractmethod
    def add_samples(self, samples: Sequence[model.Sample]) -> None:
        """Remember how much volumes take; sets their ``usage`` and ``last_scan``, too."""

    @abc.abstractmethod
    def samples(
        self, volume_id: str, *, since: datetime.datetime | None = None, limit: int = 500
    ) -> Sequence[model.Sample]:
        """Return how much a volume took, the oldest first."""

    @abc.abstractmethod
    def raise_alert(self, volume_id: str, severity: model.Severity, text: str) -> None:
        """Raise an alert; one of the same volume, severity and text that stands is left alone."""

    @abc.abstractmethod
    def clear_alerts(self, volume_id: str, text: str = "") -> None:
        """Clear a volume's alerts, or those of a text; idempotent."""

    @abc.abstractmethod
    def alerts(
        self, volume_id: str = "", *, standing: bool = True, limit: int = 100
    ) -> Sequence[model.Alert]:
        """Return alerts, the newest first."""

    @abc.abstractmethod
    def trim(self, before: datetime.datetime) -> None:
        """Forget events, samples and cleared alerts from before a moment."""

    def close(self) -> None:
        """Let go of the database."""
        return
