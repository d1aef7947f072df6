# SPDX-License-Identifier: Apache-2.0
"""What a share server has on this host, and how all of it goes: also what crashes leave."""

import contextlib
import logging
import os
from collections.abc import Collection

from container_stack import exceptions
from container_stack.host import containers, locks, mount_points, records
from container_stack.shares import directories, model, roster, wiring

LOG = logging.getLogger(__name__)


class Remains:
    """Removes servers whole, whatever is left of them; every method is idempotent.

    :param tree: the directory below which each server has the directory of its mounts.
    :param changed: what servers are to be that got further addresses.
    """

    def __init__(
        self,
        engine: containers.Engine,
        wires: wiring.Wiring,
        object_locks: locks.ObjectLocks,
        known: roster.Roster,
        changed: records.Records,
        tree: str,
    ) -> None:
        self._engine = engine
        self._wires = wires
        self._locks = object_locks
        self._roster = known
        self._changed = changed
        self._tree = tree

    def directory(self, server_id: str) -> str:
        """Return the directory on the host in which the server's shares are mounted."""
        return os.path.join(self._tree, server_id)

    def remove(self, spec: model.ServerSpec) -> None:
        """Remove all of a server; the caller holds its lock."""
        for each in self._engine.list(self._roster.labels(spec.id)):
            self._engine.remove(each.id)
        self._wires.release(spec)
        self._remove_volume(spec.id)

    def undo(self, server: model.Server, *, wait: bool) -> bool:
        """Remove a half-made server unless somebody finishes it; tell if that was done.

        :param wait: for who works on it; else it is left to him.
        """
        with contextlib.ExitStack() as held:
            try:
                held.enter_context(self._locks.hold(f"server-{server.id}", wait=wait))
            except exceptions.Busy:
                return False
            if not self._still(server):
                return False
            directories.report(server.spec, "a crash left it half-made or half-deleted.")
            self.remove(server.spec)
        return True

    def sweep(self, serving: Collection[str]) -> None:
        """Remove volumes and directories whose container is gone: a crash came between.

        :param serving: the ids of servers that have shares, whose users are kept for them.
        """
        for volume in self._engine.list_volumes(self._roster.labels()):
            server_id = volume.labels["container_stack.id"]
            with self._locks.hold(f"server-{server_id}"):
                gone = not self._engine.list(self._roster.labels(server_id))
                if gone and server_id not in serving:
                    self._remove_volume(server_id)
        self._wires.recover()

    def _remove_volume(self, server_id: str) -> None:
        directory = self.directory(server_id)
        mount_points.prune(directory)
        if os.path.lexists(directory):
            LOG.warning("Left %(path)s, in which is what no share put there", {"path": directory})
        self._changed.remove(server_id)
        # Made first and removed last: where it is, something may be left.
        self._engine.remove_volume(state_volume(server_id))

    def _still(self, server: model.Server) -> bool:
        """Tell whether nobody has finished the server since it was listed."""
        try:
            found = self._roster.server(self._roster.container(server.id))
        except exceptions.NotFound:
            return False
        return found.state in roster.HALF_MADE


def state_volume(server_id: str) -> str:
    """Return the name of the engine's volume with a server's users and rules."""
    return roster.PREFIX + server_id
