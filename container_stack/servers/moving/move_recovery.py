# SPDX-License-Identifier: Apache-2.0
"""What a start does about moves, rebuilds and rescues that a crash has interrupted."""

import logging
from collections.abc import Sequence

from container_stack import exceptions
from container_stack.host import locks
from container_stack.servers import lives, model, names, service, spec
from container_stack.servers.moving import aside, roots, states

LOG = logging.getLogger(__name__)

Role = model.Role


class MoveRecovery:
    """Lets who stands aside without need be their servers again.

    A server that was resized is left as it is: the compute service finishes or reverts that. What
    comes back doesn't run, as only that service knows its disks.
    """

    def __init__(
        self,
        life: lives.Lives,
        object_locks: locks.ObjectLocks,
        server_states: states.States,
        server_roots: roots.Roots,
    ) -> None:
        self._life = life
        self._locks = object_locks
        self._aside = aside.Aside(life)
        self._states = server_states
        self._roots = server_roots

    def recover(self) -> Sequence[str]:
        """Do it, and say in words what was done; call it after :meth:`service.Servers.start`."""
        standing = self._life.engine.list(spec.labels(self._life.owner))
        aside_now = {
            each.labels["container_stack.id"] for each in standing if not names.is_main(each)
        }
        moving = {each for each in self._life.records.ids() if self._aside.half_made(each)}
        said = [self._attempt(each) for each in sorted(aside_now | moving)]
        return [*(words for words in said if words), *self._states.prune()]

    def _attempt(self, server_id: str) -> str:
        try:
            with self._locks.hold(service.lock_name(server_id), wait=False):
                return self._bring_back(server_id)
        except exceptions.ContainerStackError as exc:
            LOG.warning("Could not bring back %(name)s: %(why)s", {"name": server_id, "why": exc})
            return f"Could not bring back {server_id}: {exc}"

    def _bring_back(self, server_id: str) -> str:
        half_made = self._aside.half_made(server_id)
        if half_made:
            self._aside.unmake(server_id)
        main = self._life.find(server_id)
        found = {role: self._aside.find(server_id, role) for role in Role}
        if replaced := found[Role.REPLACED]:
            if main is not None:
                self._life.engine.remove(replaced.id)
                return f"Finished the rebuild of server {server_id}."
            self._aside.take_back(server_id, Role.REPLACED)
            return f"Undid the rebuild of server {server_id}."
        if found[Role.RESCUED] and main is None:
            self._roots.hide(server_id)
            self._aside.take_back(server_id, Role.RESCUED)
            return f"Server {server_id} is no longer rescued."
        if half_made and not found[Role.RESIZED]:
            self._life.remove(server_id)
        return f"Undid the move of server {server_id}." if half_made else ""
