# SPDX-License-Identifier: Apache-2.0
"""A driver: a backend under a name, and what is remembered of its volumes."""

import contextlib
import datetime
import logging
import os
from collections.abc import Iterator

from container_stack import exceptions
from container_stack.host import locks
from container_stack.volumes import backend, model, ownership, registry, uses

LOG = logging.getLogger(__name__)

#: What the original says.
NOT_SUPPORTED = "Operation not supported"
NOT_FOUND = "Volume does not exist."
ATTACHED = "Volume is attached"
HAS_SNAPSHOTS = "Volume has snapshots associated"


class Driver:
    """What all that is done with a driver's volumes needs.

    :param state_dir: of the daemon, on a local file system.
    """

    def __init__(
        self,
        name: str,
        keeper: backend.Backend,
        volumes: registry.Registry,
        owner: ownership.Ownership,
        state_dir: str,
    ) -> None:
        self.name = model.check_name(name)
        self.backend = keeper
        self.registry = volumes
        self.ownership = owner
        self.state_dir = os.path.realpath(state_dir)
        self.uses = uses.Uses(os.path.join(self.state_dir, "uses", name))
        self.locks = locks.ObjectLocks(os.path.join(self.state_dir, "locks", name))

    @property
    def node_id(self) -> str:
        return self.ownership.node_id

    def now(self) -> datetime.datetime:
        """Return the time by which volumes are dated and snapshots scheduled."""
        return datetime.datetime.now(datetime.UTC)

    def get(self, volume_id: str) -> model.Volume:
        """Return a volume of this driver.

        :raises NotFound: there is none.
        """
        volume = self.registry.get(model.check_id(volume_id))
        if volume.driver != self.name:
            raise exceptions.NotFound(NOT_FOUND)
        return volume

    def usable(self, volume_id: str) -> model.Volume:
        """Return a volume with which something can be done here.

        :raises NotFound: there is none, or it is being deleted.
        :raises Busy: it is being made.
        :raises NotSupported: only another node reaches its data.
        """
        volume = self.get(volume_id)
        if volume.state & model.State.DELETED:
            raise exceptions.NotFound(NOT_FOUND)
        if volume.state & model.State.PENDING:
            raise exceptions.Busy(f"Volume {volume.name} is being made.")
        if not self.reaches(volume):
            raise exceptions.NotSupported(
                f"Only node {volume.node_id} reaches volume {volume.name}."
            )
        return volume

    def reaches(self, volume: model.Volume) -> bool:
        """Tell whether this node reaches a volume's data."""
        return self.backend.shared or volume.node_id == self.node_id

    @contextlib.contextmanager
    def owning(self, volume_id: str) -> Iterator[None]:
        """Own a volume for a while; the caller has its lock. What is used here stays owned.

        :raises Busy: another node owns it.
        """
        self.ownership.check()
        if self.uses.get(volume_id) is not None:
            yield
            return
        try:
            self.ownership.claim(volume_id)
            self.take(volume_id)
            yield
        finally:
            self.ownership.release(volume_id)

    def take(self, volume_id: str) -> None:
        """Take a volume that has come to be ours from hosts that may not use it any more."""
        if self.ownership.exclusive and isinstance(self.backend, backend.Taking):
            self.backend.take(volume_id)

    def note(self, kind: str, volume_id: str, text: str = "") -> None:
        """Remember that something happened, if the registry answers."""
        try:
            self.registry.add_event(
                kind, driver=self.name, volume_id=volume_id, node_id=self.node_id, text=text
            )
        except exceptions.ServiceUnavailable as exc:
            LOG.warning("An event is lost: %(kind)s: %(why)s", {"kind": kind, "why": exc})
