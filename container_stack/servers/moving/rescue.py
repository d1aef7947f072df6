# SPDX-License-Identifier: Apache-2.0
"""Servers that don't come up by themselves, and others that are run to repair them.

While a server is rescued its own container stands aside, and one of a rescue image has its ports
and disks. In there, the rescued server's root is at :data:`PLACE`, if this host can mount it, and
its anonymous volumes are where they belong in that.
"""

import contextlib
import dataclasses
import logging
from collections.abc import Sequence

from container_stack.host import containers, locks
from container_stack.servers import ephemerals, lives, model, service
from container_stack.servers.moving import aside, roots

LOG = logging.getLogger(__name__)

#: Where a rescued server's root is in the one that rescues it.
PLACE = "/rescued"

Role = model.Role


class Rescues:
    """Rescues the servers of one owner; every method is idempotent.

    :param object_locks: those of :class:`service.Servers`.
    """

    def __init__(
        self, life: lives.Lives, object_locks: locks.ObjectLocks, server_roots: roots.Roots
    ) -> None:
        self._life = life
        self._locks = object_locks
        self._aside = aside.Aside(life)
        self._roots = server_roots

    def rescue(
        self,
        plan: model.Plan,
        image_id: str,
        *,
        timeout: int = 0,
        plugging: lives.Plugging | None = None,
    ) -> None:
        """Stop a server, and run a rescue image in its stead.

        What its tenant chose for its container isn't done to that one, which may be why it has to
        be rescued: the image's own command is run, with a terminal. If a step fails, the server
        is what it was, and runs if it ran.

        :param plan: the server as it is.
        :raises ServerNotFound: there is none.
        """
        with self._hold(plan.id):
            if self._is_rescued(plan.id):
                return
            main = self._life.get(plan.id)
            runs = self._life.state(main) is not model.State.STOPPED
            with contextlib.ExitStack() as undo:
                undo.callback(self._aside.undoing(plan, Role.RESCUED, runs=runs))
                self._life.stop(main, timeout)
                self._aside.put(main, plan.id, Role.RESCUED)
                undo.callback(self._roots.hide, plan.id)
                mounts = [*self._root(main, plan.id), *_volumes(main)]
                wish = model.Wish(tty=True, open_stdin=True)
                rescuer = dataclasses.replace(plan, wish=wish, ephemerals=())
                with self._aside.made(rescuer, image_id, mounts, power_on=True, plugging=plugging):
                    pass
                undo.pop_all()
        LOG.info("Rescued server %(id)s", {"id": plan.id})

    def unrescue(self, plan: model.Plan, *, plugging: lives.Plugging | None = None) -> None:
        """Let a rescued server run again, and remove what rescued it.

        :raises ServerNotFound: there is none.
        """
        with self._hold(plan.id):
            rescued = self._aside.find(plan.id, Role.RESCUED)
            if rescued is not None:
                self._aside.unmake(plan.id)
                self._roots.hide(plan.id)
                self._aside.take_back(plan.id, Role.RESCUED)
            self._life.get(plan.id)
            self._aside.run(plan, plugging)
        LOG.info("Server %(id)s is no longer rescued", {"id": plan.id})

    def tidy(self, server_id: str) -> None:
        """Remove what a server that was destroyed while it was rescued has left; idempotent."""
        with self._hold(server_id):
            if self._aside.find(server_id, Role.RESCUED) is None:
                self._roots.hide(server_id)

    def _is_rescued(self, server_id: str) -> bool:
        if self._aside.find(server_id, Role.RESCUED) is None:
            return False
        if self._life.find(server_id) is not None and not self._aside.half_made(server_id):
            return True
        self._roots.hide(server_id)
        self._aside.take_back(server_id, Role.RESCUED)
        return False

    def _root(self, rescued: containers.Container, server_id: str) -> Sequence[containers.Mount]:
        shown = self._roots.show(server_id, rescued.id)
        return [containers.Mount(shown, PLACE)] if shown else []

    def _hold(self, server_id: str) -> contextlib.AbstractContextManager[None]:
        return self._locks.hold(service.lock_name(server_id))


def _volumes(rescued: containers.Container) -> Sequence[containers.Mount]:
    return [
        dataclasses.replace(each, target=f"{PLACE}{each.target}", copy=each.kind == "bind")
        for each in rescued.mounts
        if each.kind == "volume" or ephemerals.is_one(each)
    ]
