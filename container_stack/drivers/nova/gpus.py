# SPDX-License-Identifier: Apache-2.0
"""Which server has which of the devices that the engine's device driver knows, such as GPUs.

Placement counts them (as ``PGPU``) and the flavor asks for them (``resources:PGPU=1``); which one
a server gets is chosen here, and a label of its container tells it.
"""

import threading
from collections.abc import Sequence

from container_stack import exceptions
from container_stack.host import containers
from container_stack.servers import spec

#: Label of a container with its devices, separated by commas.
LABEL = "container_stack.gpus"
#: What a flavor asks by.
EXTRA_SPEC = "resources:PGPU"


class Devices:
    """The devices of this host; threads may share it.

    :param names: as the engine's device driver knows them; all that servers may have.
    :param owner: whose servers have them.
    """

    def __init__(self, engine: containers.Engine, owner: str, names: Sequence[str]) -> None:
        self._engine = engine
        self._owner = owner
        self._names = tuple(names)
        self._guard = threading.Lock()
        self._chosen: dict[str, tuple[str, ...]] = {}

    def choose(self, server_id: str, count: int) -> tuple[str, ...]:
        """Return so many devices that no other server has; the same again for the same server.

        :raises NoSpace: there aren't so many free.
        """
        if not count:
            return ()
        with self._guard:
            mine, others = self._in_use(server_id)
            free = [*mine, *(each for each in self._names if each not in {*others, *mine})]
            if len(free) < count:
                raise exceptions.NoSpace(
                    f"The flavor wants {count} devices, and {len(free)} of this host are free."
                )
            self._chosen[server_id] = tuple(free[:count])
            return self._chosen[server_id]

    def give_back(self, server_id: str) -> None:
        """Let others have a server's devices; idempotent."""
        with self._guard:
            self._chosen.pop(server_id, None)

    def _in_use(self, server_id: str) -> tuple[tuple[str, ...], set[str]]:
        """Return a server's own devices, and those of all others."""
        mine: tuple[str, ...] = self._chosen.get(server_id, ())
        others = {
            name for other, names in self._chosen.items() if other != server_id for name in names
        }
        for container in self._engine.list(spec.labels(self._owner)):
            names = tuple(filter(None, container.labels.get(LABEL, "").split(",")))
            if container.labels.get("container_stack.id") != server_id:
                others.update(names)
            elif not mine:
                mine = tuple(name for name in names if name in self._names)
        return mine, others
