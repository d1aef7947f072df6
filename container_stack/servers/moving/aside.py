# SPDX-License-Identifier: Apache-2.0
"""Containers that stand aside while another one is their server's, and how they come back.

The engine's names alone tell who stands aside: each step is one renaming. A record of
:attr:`records.Step.MOVING` tells that the server's container is half made, and it is only ever
written while the old one stands aside. Whoever takes these steps holds the server's lock.
"""

import contextlib
import dataclasses
import logging
from collections.abc import Callable, Iterator, Sequence

from container_stack import exceptions
from container_stack.host import containers
from container_stack.servers import lives, model, records

LOG = logging.getLogger(__name__)

Step = records.Step


class Aside:
    """Puts servers' containers aside, makes others in their stead, and takes them back."""

    def __init__(self, life: lives.Lives) -> None:
        self._life = life

    def find(self, server_id: str, role: model.Role) -> containers.Container | None:
        """Return the container that stands aside as this, or None."""
        return self._life.find(server_id, role)

    def put(self, container: containers.Container, server_id: str, role: model.Role) -> None:
        """Let a container that doesn't run stand aside, without interfaces."""
        self._life.interfaces.unplug_all(server_id)
        record = self._life.records.read(server_id)
        if record is not None:
            # They may be another host's soon, and aren't for this one to unplug any more.
            self._life.records.write(dataclasses.replace(record, ports=()))
        self._life.rename(container.id, server_id, role)

    def half_made(self, server_id: str) -> bool:
        """Return whether the server's container is one that a crash has left half made."""
        record = self._life.records.read(server_id)
        return record is not None and record.step is Step.MOVING

    @contextlib.contextmanager
    def made(
        self,
        plan: model.Plan,
        image_id: str,
        mounts: Sequence[containers.Mount],
        *,
        power_on: bool,
        plugging: lives.Plugging | None,
    ) -> Iterator[str]:
        """Make the server's container anew, lend its id to be filled, and start it then.

        If a step or the body fails, it goes again, with interfaces and disks.

        :param mounts: besides those of the plan.
        """
        with contextlib.ExitStack() as undo:
            self.write(plan, Step.MOVING)
            undo.callback(self._quietly, lambda: self.unmake(plan.id))
            container_id = self._life.make(plan, image_id, mounts)
            yield container_id
            if power_on:
                self._life.start(plan.id, plan.ports, plugging)
            self.write(plan, Step.READY)
            undo.pop_all()

    def unmake(self, server_id: str) -> None:
        """Remove the server's own container, with interfaces and disks; idempotent."""
        found = self._life.find(server_id)
        if found is not None:
            self._life.engine.remove(found.id)
        self._life.ephemerals.prune(server_id)
        self._life.interfaces.unplug_all(server_id)
        self._life.disks.disconnect(server_id)
        record = self._life.records.read(server_id)
        if record is not None:
            self._life.records.write(dataclasses.replace(record, step=Step.READY))

    def take_back(self, server_id: str, role: model.Role) -> None:
        """Let who stands aside be the server again, in place of whatever is; idempotent.

        It doesn't run yet.
        """
        standing = self.find(server_id, role)
        if standing is not None:
            self.unmake(server_id)
            self._life.rename(standing.id, server_id)

    def refresh(self, plan: model.Plan) -> None:
        """Write the configuration drive of a server anew, unless it runs and has it."""
        if self._life.state(self._life.get(plan.id)) is model.State.STOPPED:
            self._life.write_drive(plan)

    def run(self, plan: model.Plan, plugging: lives.Plugging | None = None) -> None:
        """Start the server's container as the plan has it."""
        self.refresh(plan)
        self.write(plan, Step.STARTING)
        self._life.disks.connect(plan.id, plan.disks)
        self._life.start(plan.id, plan.ports, plugging)
        self.write(plan, Step.READY)

    def write(self, plan: model.Plan, step: Step) -> None:
        """Write the server's record."""
        self._life.records.write(
            records.Record(plan.id, self._life.owner, plan.name, step, tuple(plan.ports))
        )

    def undoing(self, plan: model.Plan, role: model.Role, *, runs: bool) -> Callable[[], None]:
        """Return what brings a server back as it was before it was put aside."""

        def undo() -> None:
            self.take_back(plan.id, role)
            if runs:
                self.run(plan)

        return lambda: self._quietly(undo)

    def _quietly(self, undo: Callable[[], None]) -> None:
        """Undo what can be undone; the failure that made it necessary is the one to be told."""
        try:
            undo()
        except exceptions.ContainerStackError as exc:
            LOG.warning("Could not undo all of a move: %(why)s", {"why": exc})
