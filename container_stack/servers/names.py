# SPDX-License-Identifier: Apache-2.0
"""What servers' containers are called, and whose they are, on an engine that others use as well.

A server is on an engine twice where two hosts share one and the first has lost it to the second, by
an evacuation, and hasn't found that out yet. Then the second's container has another name.
"""

import contextlib
from collections.abc import Callable, Mapping
from typing import TypeVar

from container_stack import exceptions
from container_stack.host import containers
from container_stack.servers import model, spec

Result = TypeVar("Result")


class Names:
    """The names of one owner's containers."""

    def __init__(self, engine: containers.Engine, owner: str) -> None:
        self._engine = engine
        self._owner = owner

    def find(
        self, server_id: str, role: model.Role = model.Role.MAIN
    ) -> containers.Container | None:
        """Return a server's container as it is now, or None."""
        own = spec.labels(self._owner, model.check_id(server_id)).items()
        for name in spec.container_names(self._owner, server_id, role):
            with contextlib.suppress(exceptions.NotFound):
                found = self._engine.inspect(name)
                if found.labels.items() >= own and found.name == name:
                    return found
        return None

    def use(
        self, server_id: str, action: Callable[[str], Result], role: model.Role = model.Role.MAIN
    ) -> Result:
        """Do something with the name that a server's container is to have.

        :param action: raises AlreadyExists when the name is taken.
        :raises AlreadyExists: it is, and not by another owner's container of the same server.
        """
        usual, other = spec.container_names(self._owner, server_id, role)
        try:
            return action(usual)
        except exceptions.AlreadyExists:
            if not self._is_others(usual, server_id):
                raise
            return action(other)

    def _is_others(self, name: str, server_id: str) -> bool:
        try:
            labels = self._engine.inspect(name).labels
        except exceptions.NotFound:
            return False
        owner = labels.get("container_stack.owner", self._owner)
        return owner != self._owner and labels.items() >= spec.labels(owner, server_id).items()


def is_main(container: containers.Container) -> bool:
    """Tell whether a container is a server's own, and none that stands aside for it."""
    return server_of(container.name, container.labels) is not None


def server_of(name: str, labels: Mapping[str, str]) -> str | None:
    """Return the server whose own container this is; None for all others."""
    owner, server_id = labels.get("container_stack.owner", ""), labels.get("container_stack.id", "")
    return server_id if name in spec.container_names(owner, server_id) else None
