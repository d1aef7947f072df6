# SPDX-License-Identifier: Apache-2.0
"""The steps of a server's life. Whoever takes them holds the server's lock.

A step that is taken again changes nothing. The order of a boot: record, files, disks, container,
start, interfaces; what goes away goes in the opposite order.
"""

import contextlib
import dataclasses
import logging
import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from container_stack import exceptions
from container_stack.host import containers
from container_stack.servers import (
    config_drive,
    disks,
    ephemerals,
    keys,
    model,
    names,
    records,
    spec,
)

LOG = logging.getLogger(__name__)

#: Of the engine: what has no network namespace, or is about to lose it.
_STOPPED = ("created", "exited", "dead", "removing")
#: Entered around the plugging of ports that somebody reports; see :meth:`Lives.start`.
Plugging = AbstractContextManager[object]


class Interfaces(Protocol):
    """What servers need of the network; see :class:`interfaces.Interfaces`."""

    def start(self) -> None:
        """Prepare the host; idempotent."""

    def plug(self, server_id: str, sandbox: str, ports: Sequence[model.Port]) -> None:
        """Plug the ports into a running server; idempotent, all of them or none."""

    def unplug(self, server_id: str, ports: Sequence[model.Port]) -> None:
        """Unplug ports, whether or not the server runs; idempotent."""

    def unplug_all(self, server_id: str) -> None:
        """Unplug whatever a server has."""

    def ports(self, server_id: str) -> Sequence[model.Port]:
        """Return the ports that a server has when it runs."""

    def is_others(self, port: model.Port) -> bool:
        """Tell whether another owner's server on this host has a port."""

    def recover(self, server_ids: Collection[str]) -> Sequence[str]:
        """Unplug what servers have left that are none of these, and return their ids."""


class Lives:
    """Takes steps with the servers of one owner.

    :param owner: others' containers are never touched.
    """

    def __init__(
        self,
        engine: containers.Engine,
        interfaces: Interfaces,
        server_disks: disks.Disks,
        server_ephemerals: ephemerals.Ephemerals,
        server_records: records.ServerRecords,
        *,
        owner: str,
        defaults: spec.Defaults,
    ) -> None:
        self.engine = engine
        self.interfaces = interfaces
        self.disks = server_disks
        self.ephemerals = server_ephemerals
        self.records = server_records
        self.owner = owner
        self.defaults = defaults
        self._names = names.Names(engine, owner)

    def find(
        self, server_id: str, role: model.Role = model.Role.MAIN
    ) -> containers.Container | None:
        """Return a server's container as it is now, or None."""
        return self._names.find(server_id, role)

    def get(self, server_id: str) -> containers.Container:
        """Return a server's container as it is now.

        :raises ServerNotFound: there is none.
        """
        found = self.find(server_id)
        if found is None:
            raise model.ServerNotFound(f"There is no server {server_id} on this host.")
        return found

    def list(self) -> Sequence[model.Server]:
        """Return every server of this owner, by id, by one call to the engine."""
        found = self.engine.list(spec.labels(self.owner))
        return sorted(map(self.server, filter(names.is_main, found)), key=lambda server: server.id)

    def make(self, plan: model.Plan, image_id: str, mounts: Sequence[containers.Mount] = ()) -> str:
        """Write the configuration drive, connect and make the disks, and create the container.

        The record is there before. What was done stays when a step fails: see :meth:`remove`.

        :param mounts: more of them, which come before others at their places.
        :return: the container's id.
        :raises AlreadyExists: there is such a container, or somebody else's of its name.
        :raises NotFound: the image is missing.
        """
        drive = self.write_drive(plan)
        connected = self.disks.connect(plan.id, plan.disks)
        wanted = spec.container_spec(
            plan, image_id, connected, self.defaults, owner=self.owner, config_drive=drive
        )
        with self.ephemerals.made(plan.id, plan.ephemerals) as own:
            places = {each.target: each for each in (*wanted.mounts, *mounts, *own)}
            complete = dataclasses.replace(wanted, mounts=tuple(places.values()))

            def create(name: str) -> str:
                with self.engine.creating(dataclasses.replace(complete, name=name)) as container_id:
                    self.ephemerals.give(container_id, own)
                    if plan.key:
                        keys.inject(self.engine, container_id, plan.key)
                return container_id

            return self._names.use(plan.id, create)

    def rename(self, container_id: str, server_id: str, role: model.Role = model.Role.MAIN) -> None:
        """Let a container be this for its server; idempotent."""
        self._names.use(server_id, lambda name: self.engine.rename(container_id, name), role)

    def write_drive(self, plan: model.Plan) -> str | None:
        """Write a server's configuration drive anew and return its directory, if it has one."""
        if plan.files is None:
            return None
        path = os.path.join(self.records.directory(plan.id), "config-drive")
        config_drive.write(path, plan.files)
        return path

    def start(
        self, server_id: str, ports: Sequence[model.Port], plugging: Plugging | None = None
    ) -> None:
        """Start a server and plug its ports; one that was stopped is stopped again on failure.

        A server that ends at once has no ports, and that is no failure.

        :param plugging: it is entered around the plugging, and its end waits until the network
            has taken the ports. Meanwhile the server is held (paused). Without it a server runs
            for the moment that plugging takes.
        """
        container = self.get(server_id)
        with contextlib.ExitStack() as undo:
            if container.state in _STOPPED:
                undo.callback(self._halt, container.id)
                self.ephemerals.mount(container)
                self.engine.start(container.id)
                container = self.engine.inspect(container.id)
            self.present(container, server_id)
            with self._held(container, plugging if ports else None):
                self.plug(container, server_id, ports)
            undo.pop_all()

    def plug(
        self, container: containers.Container, server_id: str, ports: Sequence[model.Port]
    ) -> None:
        """Plug ports into a container, if it runs; idempotent."""
        if not ports or not _runs(container):
            return
        try:
            self.interfaces.plug(server_id, container.sandbox or "", ports)
        except exceptions.ContainerStackError:
            if self._sandbox(container.id) == container.sandbox:
                raise
            # It ended meanwhile, and its interfaces with it.

    def plug_again(
        self, container: containers.Container, server_id: str, ports: Sequence[model.Port]
    ) -> None:
        """Plug ports that a container had, but for those that another owner's has; idempotent."""
        self.plug(container, server_id, [e for e in ports if not self.interfaces.is_others(e)])

    def unplug_others(self, server_id: str, ports: Sequence[model.Port]) -> None:
        """Unplug what a server has besides these ports; idempotent."""
        kept = {port.id for port in ports}
        others = [each for each in self.interfaces.ports(server_id) if each.id not in kept]
        if others:
            self.interfaces.unplug(server_id, others)

    def present(self, container: containers.Container, server_id: str) -> None:
        """Show a container its disks, if it runs; idempotent."""
        if _runs(container):
            self.disks.present(container, server_id)

    def stop(self, container: containers.Container, timeout: int) -> None:
        """Stop a container; idempotent.

        :param timeout: seconds until SIGKILL; 0 is at once.
        """
        if container.state not in _STOPPED:
            self.engine.stop(container.id, timeout=timeout)

    def remove(
        self,
        server_id: str,
        ports: Sequence[model.Port] = (),
        server_disks: Sequence[model.Disk] = (),
    ) -> None:
        """Remove a server but for what stands aside for its resize; idempotent.

        :param ports: those to unplug besides what is known; ``server_disks`` likewise.
        """
        record = self.records.read(server_id)
        if record:
            self.records.write(dataclasses.replace(record, step=records.Step.REMOVING))
        parked = spec.container_names(self.owner, server_id, model.Role.RESIZED)
        found = self.engine.list(spec.labels(self.owner, server_id))
        for each in found:
            if each.name not in parked:
                self.engine.remove(each.id)
        known = {port.id: port for port in (*(record.ports if record else ()), *ports)}
        self.interfaces.unplug(server_id, list(known.values()))
        self.interfaces.unplug_all(server_id)
        if server_disks:
            self.disks.disconnect(server_id, server_disks)
        self.disks.disconnect(server_id)
        self.ephemerals.prune(server_id)
        if not any(each.name in parked for each in found):
            self.records.remove(server_id)
        elif record:
            self.records.write(dataclasses.replace(record, step=records.Step.READY, ports=()))

    def state(self, container: containers.Container) -> model.State:
        """Return how a server stands whose container this is."""
        if container.state == "paused":
            return model.State.PAUSED
        return model.State.STOPPED if container.state in _STOPPED else model.State.RUNNING

    def server(self, container: containers.Container) -> model.Server:
        """Return the server whose container this is."""
        return model.Server(
            id=container.labels["container_stack.id"],
            name=container.labels.get(model.NAME, ""),
            container_id=container.id,
            image_id=container.image_id,
            state=self.state(container),
            started_at=container.started_at,
            exit_code=container.exit_code,
        )

    def new_record(self, container: containers.Container) -> records.Record:
        """Return a record for a server that has lost its own."""
        server = self.server(container)
        return records.Record(server.id, self.owner, server.name, records.Step.READY)

    @contextlib.contextmanager
    def _held(self, container: containers.Container, plugging: Plugging | None) -> Iterator[None]:
        """Hold a container in the body, and until ``plugging`` lets go."""
        if plugging is None or not _runs(container):
            yield
            return
        was_paused = container.state == "paused"
        with contextlib.suppress(exceptions.Busy):
            self.engine.pause(container.id)
        with plugging:
            yield
        if not was_paused:
            with contextlib.suppress(exceptions.Busy):
                self.engine.unpause(container.id)

    def _halt(self, container_id: str) -> None:
        try:
            self.engine.stop(container_id, timeout=0)
        except exceptions.ContainerStackError as exc:
            LOG.warning("Could not stop %(id)s again: %(why)s", {"id": container_id, "why": exc})

    def _sandbox(self, container_id: str) -> str | None:
        try:
            return self.engine.inspect(container_id).sandbox
        except exceptions.NotFound:
            return None


def _runs(container: containers.Container) -> bool:
    return container.state not in _STOPPED and bool(container.sandbox)
