# SPDX-License-Identifier: Apache-2.0
"""How all servers stand, from one call to the engine for many questions.

Who looks after a thousand servers asks for each of them every few minutes. One list of the engine
answers all of that for :data:`AGE` seconds; a server of which a change is known meanwhile is
asked for alone.
"""

import threading
import time
from collections.abc import Callable, Sequence

from container_stack.servers import model

#: Seconds that a list answers for.
AGE = 10.0


class Standing:
    """What :class:`service.Servers` listed last. Threads may share it.

    :param list_all: asks the engine for all servers.
    :param get: asks for one; raises :class:`ServerNotFound`.
    """

    def __init__(
        self,
        list_all: Callable[[], Sequence[model.Server]],
        get: Callable[[str], model.Server],
        *,
        age: float = AGE,
    ) -> None:
        self._list, self._get, self._age = list_all, get, age
        self._listing = threading.Lock()
        self._guard = threading.Lock()
        self._states: dict[str, model.State] = {}
        self._changed: set[str] = set()
        self._until = 0.0

    def servers(self) -> Sequence[model.Server]:
        """Return all servers as they are now, by one call."""
        with self._listing:
            return self._refresh()

    def state(self, server_id: str) -> model.State:
        """Return how a server stands; at most :data:`AGE` seconds ago, if nothing was told.

        :raises ServerNotFound: there is none.
        """
        with self._listing:
            if time.monotonic() >= self._until:
                self._refresh()
        with self._guard:
            known = None if server_id in self._changed else self._states.get(server_id)
        return self._get(server_id).state if known is None else known

    def forget(self, server_id: str) -> None:
        """Let the next question for this server go to the engine: something was done to it."""
        with self._guard:
            self._changed.add(server_id)

    def _refresh(self) -> Sequence[model.Server]:
        with self._guard:
            self._until = 0.0
            # What changes while the engine answers may be missing in the answer.
            self._changed.clear()
        found = self._list()
        with self._guard:
            self._states = {each.id: each.state for each in found}
            self._until = time.monotonic() + self._age
        return found
