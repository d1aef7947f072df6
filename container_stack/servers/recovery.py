# SPDX-License-Identifier: Apache-2.0
"""What a start does about servers that a crash, a reboot or an engine's restart has left."""

import contextlib
import dataclasses
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent import futures

from container_stack import exceptions
from container_stack.host import containers, locks
from container_stack.servers import lives, names, records, spec

LOG = logging.getLogger(__name__)

#: Servers brought back at once; the engine is fastest with about eight.
WORKERS = 8

Step = records.Step


class Recovery:
    """Finishes or undoes what was begun with servers of one owner, and plugs again what runs.

    It is done as often as one likes, while others work: who holds a server's lock is left alone.
    """

    def __init__(self, life: lives.Lives, object_locks: locks.ObjectLocks) -> None:
        self._life = life
        self._records = life.records
        self._locks = object_locks

    def recover(self) -> Sequence[str]:
        """Do it, and return in words what was done and what couldn't be."""
        self._locks.sweep()
        self._life.interfaces.start()
        standing = self._standing()
        known = [*self._records.ids(), *self._records.strays()]
        with futures.ThreadPoolExecutor(WORKERS) as pool:
            said = list(pool.map(lambda each: self._one(each, standing), known))
        said.append(self._attempt("what servers have left", self._release))
        said += self._life.ephemerals.recover(self._locks)
        return [words for words in said if words]

    def _standing(self) -> Mapping[str, containers.Container]:
        """Return the owner's containers that are servers, by the ids of these."""
        found = self._life.engine.list(spec.labels(self._life.owner))
        return {each.labels["container_stack.id"]: each for each in found if names.is_main(each)}

    def _one(self, server_id: str, standing: Mapping[str, containers.Container]) -> str:
        return self._attempt(server_id, self._bring_back, server_id, standing)

    def _bring_back(self, server_id: str, standing: Mapping[str, containers.Container]) -> str:
        with contextlib.ExitStack() as held:
            try:
                held.enter_context(self._locks.hold(f"server-{server_id}", wait=False))
            except exceptions.Busy:
                return ""
            record = self._records.read(server_id)
            if record is None:
                return self._sweep(server_id)
            if record.step is Step.MOVING:
                # That is for :mod:`move_recovery`.
                return ""
            if record.step in (Step.MAKING, Step.REMOVING):
                self._life.remove(server_id)
                what = "Undid the boot" if record.step is Step.MAKING else "Finished the removal"
                return f"{what} of server {server_id}."
            if self._is_gone(server_id, standing):
                self._life.remove(server_id)
                return f"Server {server_id} had no container any more; removed what was left of it."
            return self._return(record, standing.get(server_id))

    def _is_gone(self, server_id: str, standing: Mapping[str, containers.Container]) -> bool:
        """Tell whether somebody has removed all of a server's containers."""
        labels = spec.labels(self._life.owner, server_id)
        return server_id not in standing and not self._life.engine.list(labels)

    def _return(self, record: records.Record, container: containers.Container | None) -> str:
        if container is not None and container.state in ("running", "paused"):
            # Listed containers lack their network; and it may have ended since.
            self._plug(record)
        if record.step is Step.READY:
            return ""
        self._records.write(dataclasses.replace(record, step=Step.READY))
        return f"Finished the start of server {record.id}."

    def _plug(self, record: records.Record) -> None:
        container = self._life.find(record.id)
        if container is not None:
            self._life.present(container, record.id)
            self._life.plug_again(container, record.id, record.ports)
            if record.step is Step.STARTING:
                self._life.engine.unpause(container.id)

    def _sweep(self, server_id: str) -> str:
        """Remove the directory of a server whose record was never written, or is removed."""
        if self._life.engine.list(spec.labels(self._life.owner, server_id)):
            return ""
        if server_id in self._records.strays():
            self._life.remove(server_id)
        return ""

    def _release(self) -> str:
        alive = _Alive(self._life)
        self._life.disks.recover(alive)
        gone = self._life.interfaces.recover(alive)
        return f"Unplugged servers that are gone: {', '.join(gone)}." if gone else ""

    def _attempt(self, name, action, *arguments) -> str:  # type: ignore[no-untyped-def]
        try:
            words: str = action(*arguments)
            return words
        except exceptions.ContainerStackError as exc:
            LOG.warning("Could not bring back %(name)s: %(why)s", {"name": name, "why": exc})
            return f"Could not bring back {name}: {exc}"


class _Alive(Collection[str]):
    """The ids of the servers that there are, as of each question: others go on making them."""

    def __init__(self, life: lives.Lives) -> None:
        self._life = life

    def __iter__(self) -> Iterator[str]:
        yield from {*self._life.records.ids(), *(each.id for each in self._life.list())}

    def __contains__(self, server_id: object) -> bool:
        name = str(server_id)
        return self._life.records.read(name) is not None or self._life.find(name) is not None

    def __len__(self) -> int:
        return sum(1 for _ in self)
