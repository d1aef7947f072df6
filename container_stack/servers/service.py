# SPDX-License-Identifier: Apache-2.0
"""Servers on this host: the whole life of a container that Nova takes for a machine.

A server is a container, found by its labels; a record beside it tells what the engine can't: its
ports, and what was begun with it. Whoever changes a server holds its lock.
"""

import contextlib
import dataclasses
import logging
from collections.abc import Iterator, Sequence

from container_stack import exceptions
from container_stack.host import containers, locks
from container_stack.servers import lives, model, records, recovery, spec

LOG = logging.getLogger(__name__)

Step = records.Step


class Servers:
    """Makes, changes, finds and removes servers; every method is idempotent.

    Safe under threads and several processes.

    :param life: the steps, and by it the engine, the network and the disks.
    :param object_locks: one for each server, by :func:`lock_name`.
    """

    def __init__(self, life: lives.Lives, object_locks: locks.ObjectLocks) -> None:
        self.life = life
        self._engine = life.engine
        self._records = life.records
        self._locks = object_locks

    def start(self) -> Sequence[str]:
        """Finish or undo what a crash left, and plug again what runs; return it in words.

        Call it before anything else, and when the engine was away.
        """
        return recovery.Recovery(self.life, self._locks).recover()

    @contextlib.contextmanager
    def locked(self, server_id: str) -> Iterator[None]:
        """Hold the server's lock; for who takes steps of its own."""
        with self._locks.hold(lock_name(server_id)):
            yield

    def spawn(
        self,
        plan: model.Plan,
        image_id: str,
        *,
        power_on: bool = True,
        plugging: lives.Plugging | None = None,
    ) -> None:
        """Make a server and start it; if a step fails, nothing remains.

        :param image_id: the engine's, from :class:`images.ServerImages`.
        :param plugging: see :meth:`lives.Lives.start`.
        :raises AlreadyExists: there is one with this id; nothing was changed.
        :raises InvalidRequest: the engine refuses the plan, or the image's command can't run.
        """
        with self.locked(plan.id):
            record = self._records.read(plan.id)
            if self.life.find(plan.id) and (record is None or record.step is not Step.MAKING):
                raise exceptions.AlreadyExists(f"There is a server {plan.id} already.")
            if record:
                self.life.remove(plan.id)
            with contextlib.ExitStack() as undo:
                undo.callback(self._undo, plan)
                self._write(plan, Step.MAKING)
                self.life.make(plan, image_id)
                if power_on:
                    self.life.start(plan.id, plan.ports, plugging)
                self._write(plan, Step.READY)
                undo.pop_all()
        LOG.info("Made server %(id)s", {"id": plan.id})

    def destroy(
        self,
        server_id: str,
        *,
        ports: Sequence[model.Port] = (),
        disks: Sequence[model.Disk] = (),
    ) -> None:
        """Remove a server, if it exists, and what it has on this host.

        :param ports: to unplug even if nothing is known of the server; ``disks`` likewise.
        """
        with self.locked(server_id):
            self.life.remove(server_id, ports, disks)
        LOG.info("Destroyed server %(id)s", {"id": server_id})

    def power_on(self, plan: model.Plan, *, plugging: lives.Plugging | None = None) -> None:
        """Start a server, if it doesn't run, with its disks and ports as the plan has them.

        :raises ServerNotFound: there is none.
        """
        with self.locked(plan.id):
            self.life.get(plan.id)
            self._start(plan, plugging)

    def power_off(self, server_id: str, timeout: int = 0) -> None:
        """Stop a server.

        :param timeout: seconds that it gets to end by itself; with 0 it is killed at once.
        :raises ServerNotFound: there is none.
        """
        with self.locked(server_id):
            self.life.stop(self.life.get(server_id), timeout)

    def reboot(
        self,
        plan: model.Plan,
        *,
        hard: bool = False,
        timeout: int = 0,
        plugging: lives.Plugging | None = None,
    ) -> None:
        """Stop a server and start it, with its disks and ports as the plan has them.

        :param hard: kill it at once.
        :raises ServerNotFound: there is none.
        """
        with self.locked(plan.id):
            self.life.stop(self.life.get(plan.id), 0 if hard else timeout)
            self._start(plan, plugging)

    def pause(self, server_id: str) -> None:
        """Let nothing of a server run on.

        :raises ServerNotFound: there is none.
        :raises Busy: it doesn't run.
        """
        with self.locked(server_id):
            self._engine.pause(self.life.get(server_id).id)

    def unpause(self, server_id: str) -> None:
        """Let a server run on.

        :raises ServerNotFound: there is none.
        :raises Busy: it doesn't run.
        """
        with self.locked(server_id):
            self._engine.unpause(self.life.get(server_id).id)

    def get(self, server_id: str) -> model.Server:
        """Return a server as it is now, by one call to the engine.

        :raises ServerNotFound: there is none.
        """
        return self.life.server(self.life.get(server_id))

    def list(self) -> Sequence[model.Server]:
        """Return every server of this owner, by id, by one call to the engine."""
        return self.life.list()

    def ids(self) -> Sequence[str]:
        """Return the ids of all servers of which there is a container, by one call to the engine.

        Those that only stand aside for a move are among them.
        """
        found = self._engine.list(spec.labels(self.life.owner))
        return sorted({each.labels["container_stack.id"] for each in found})

    def console(self, server_id: str, tail: int | None = None) -> bytes:
        """Return what a server wrote to its console, or the last lines of that.

        :raises ServerNotFound: there is none.
        """
        return self._engine.logs(self.life.get(server_id).id, tail)

    def attach_port(self, server_id: str, port: model.Port) -> None:
        """Give a server one more port, at once if it runs.

        :raises ServerNotFound: there is none.
        """
        with self.locked(server_id):
            container = self.life.get(server_id)
            before = self._record(server_id, container)
            others = tuple(each for each in before.ports if each.id != port.id)
            with contextlib.ExitStack() as undo:
                undo.callback(self._records.write, before)
                if len(others) == len(before.ports):
                    undo.callback(self.life.interfaces.unplug, server_id, [port])
                after = dataclasses.replace(before, ports=(*others, port))
                self._records.write(after)
                self.life.plug(container, server_id, after.ports)
                undo.pop_all()

    def detach_port(self, server_id: str, port_id: str) -> None:
        """Take a port from a server, if it has it.

        :raises ServerNotFound: there is none.
        """
        with self.locked(server_id):
            record = self._record(server_id, self.life.get(server_id))
            known = {
                port.id: port for port in (*self.life.interfaces.ports(server_id), *record.ports)
            }
            if port_id in known:
                self.life.interfaces.unplug(server_id, [known[port_id]])
            left = tuple(each for each in record.ports if each.id != port_id)
            self._records.write(dataclasses.replace(record, ports=left))

    def plug(self, plan: model.Plan) -> None:
        """Plug what of a server's ports isn't plugged, if it runs; it keeps others that it has.

        :raises ServerNotFound: there is none.
        """
        with self.locked(plan.id):
            container = self.life.get(plan.id)
            record = self._record(plan.id, container)
            ports = {port.id: port for port in (*record.ports, *plan.ports)}
            self._records.write(dataclasses.replace(record, ports=tuple(ports.values())))
            self.life.plug(container, plan.id, plan.ports)

    def plug_again(self, server_id: str) -> None:
        """Plug a server that runs as its record has it, as after a start that wasn't ours.

        :raises ServerNotFound: there is none.
        """
        with self.locked(server_id):
            container = self.life.get(server_id)
            self.life.present(container, server_id)
            self.life.plug_again(container, server_id, self._record(server_id, container).ports)

    def unplug(self, server_id: str, ports: Sequence[model.Port]) -> None:
        """Unplug ports, whether or not there is such a server; it keeps them for its next start."""
        with self.locked(server_id):
            self.life.interfaces.unplug(server_id, ports)

    def attach_disk(self, server_id: str, disk: model.Disk) -> None:
        """Give a server one more disk, at once if it runs.

        :raises ServerNotFound: there is none.
        """
        with self.locked(server_id):
            self.life.disks.attach(server_id, self.life.get(server_id), disk)

    def detach_disk(self, server_id: str, disk: model.Disk) -> None:
        """Take a disk from a server, if it has it.

        :raises ServerNotFound: there is none.
        :raises Busy: something in the server uses it.
        """
        with self.locked(server_id):
            self.life.disks.detach(server_id, self.life.get(server_id), disk.id)

    def _start(self, plan: model.Plan, plugging: lives.Plugging | None) -> None:
        self._write(plan, Step.STARTING)
        try:
            self.life.disks.connect(plan.id, plan.disks)
            self.life.unplug_others(plan.id, plan.ports)
            self.life.start(plan.id, plan.ports, plugging)
        finally:
            self._write(plan, Step.READY)

    def _undo(self, plan: model.Plan) -> None:
        """Undo a boot; what can't be undone now is undone by the next start."""
        try:
            self.life.remove(plan.id, plan.ports, plan.disks)
        except exceptions.ContainerStackError as exc:
            LOG.warning("Server %(id)s isn't undone yet: %(why)s", {"id": plan.id, "why": exc})

    def _write(self, plan: model.Plan, step: Step) -> None:
        self._records.write(
            records.Record(plan.id, self.life.owner, plan.name, step, tuple(plan.ports))
        )

    def _record(self, server_id: str, container: containers.Container) -> records.Record:
        return self._records.read(server_id) or self.life.new_record(container)


def lock_name(server_id: str) -> str:
    """Return the name of a server's lock."""
    return f"server-{model.check_id(server_id)}"
