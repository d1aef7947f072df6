# SPDX-License-Identifier: Apache-2.0
"""Which share servers there are, by what the engine says of their containers.

The container's name tells how far its making or unmaking has come, because a name can be
changed in one step and survives any crash: ``cs-share-ID.creating`` until it serves, then
``cs-share-ID``, then ``cs-share-ID.deleting``. Whoever works on a server holds its lock, and a
lock dies with its holder; so a name with a suffix and a free lock means a crash.
"""

from collections.abc import Sequence

from container_stack import exceptions
from container_stack.host import containers, records
from container_stack.shares import model

PREFIX = "cs-share-"
CREATING = ".creating"
DELETING = ".deleting"
#: States of servers on which somebody works, or that a crash left so.
HALF_MADE = ("creating", "deleting")


class Roster:
    """Finds the containers of one owner's share servers, and tells what each is.

    :param changed: what servers are to be that got further addresses.
    """

    def __init__(self, engine: containers.Engine, changed: records.Records, *, owner: str) -> None:
        self._engine = engine
        self._changed = changed
        self._owner = owner

    def labels(self, server_id: str | None = None) -> dict[str, str]:
        """Return what marks the things of a server in the engine, or those of all servers."""
        labels = {"container_stack.kind": model.KIND, "container_stack.owner": self._owner}
        return labels | ({"container_stack.id": server_id} if server_id else {})

    def list(self) -> Sequence[model.Server]:
        """Return every server, by id, in one call to the engine."""
        found = [self.server(each) for each in self._engine.list(self.labels())]
        return sorted(found, key=lambda server: server.id)

    def container(self, server_id: str) -> containers.Container:
        """Return the container of a server.

        :raises NotFound: there is none with this id.
        """
        found = self._engine.list(self.labels(server_id))
        if not found:
            raise exceptions.NotFound(f"There is no share server {server_id} on this host.")
        return found[0]

    def server(self, found: containers.Container) -> model.Server:
        """Return the server that a container is."""
        if found.name.endswith(CREATING):
            state = "creating"
        elif found.name.endswith(DELETING):
            state = "deleting"
        else:
            state = "active" if found.state == "running" else "stopped"
        changed = self._changed.read(found.labels["container_stack.id"])
        text = changed["spec"] if changed else found.labels["container_stack.spec"]
        return model.Server(model.ServerSpec.from_json(text), state, found.id)

    def rename(self, server: model.Server, suffix: str) -> None:
        """Let a server's container say how far it has come."""
        name = PREFIX + server.id + suffix
        if self._engine.inspect(server.container_id).name != name:
            self._engine.rename(server.container_id, name)
