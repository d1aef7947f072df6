# SPDX-License-Identifier: Apache-2.0
"""What happens to servers, told while it happens: by themselves, or by somebody at the engine."""

import logging
import threading
from collections.abc import Callable, Mapping

from container_stack import exceptions
from container_stack.host import containers, engine_events
from container_stack.servers import model, names

LOG = logging.getLogger(__name__)

#: How a server stands after what the engine calls so.
STATES: Mapping[str, model.State | None] = {
    "start": model.State.RUNNING,
    "unpause": model.State.RUNNING,
    "pause": model.State.PAUSED,
    "die": model.State.STOPPED,
    "destroy": None,
}
#: Seconds between attempts to reach an engine that went away: the first, and the longest.
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0
_LISTED = {
    "running": model.State.RUNNING,
    "restarting": model.State.RUNNING,
    "paused": model.State.PAUSED,
}

Tell = Callable[[model.Change], None]


class Watch:
    """Tells the changes of all servers of one owner, from a thread of its own.

    After each loss of the engine one list is compared with what was known, so that nothing is
    missed; a change may be told twice. What our own calls change is told too.

    :param owner: others' servers are never told of.
    :param tell: called in that thread, one change after the other; what it raises is logged.
    """

    def __init__(self, engine: containers.Engine, owner: str, tell: Tell) -> None:
        self._engine = engine
        self._labels = {
            "container_stack.kind": model.KIND,
            "container_stack.owner": owner,
        }
        self._tell = tell
        self._known: dict[str, model.State] = {}
        self._stopping = threading.Event()
        self._guard = threading.Lock()
        self._events: engine_events.Events | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin: what is now is known, and changes from now on are told.

        :raises EngineUnavailable: it doesn't answer now.
        """
        events = self._subscribe()
        self._known = self._listed()
        self._thread = threading.Thread(
            target=self._run, args=(events,), name="server-changes", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """End, and wait for it; idempotent."""
        self._stopping.set()
        with self._guard:
            if self._events is not None:
                self._events.close()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self, events: engine_events.Events | None) -> None:
        pause = FIRST_PAUSE
        while not self._stopping.is_set():
            try:
                if events is None:
                    events = self._subscribe()
                    self._compare()
                pause = FIRST_PAUSE
                with events:
                    for event in events:
                        self._heard(event)
            except exceptions.ContainerStackError as exc:
                if not self._stopping.is_set():
                    LOG.warning("No news of servers for now: %(why)s", {"why": exc})
            except Exception:
                if not self._stopping.is_set():
                    LOG.exception("Changes of servers can't be read; trying again")
            events = None
            self._stopping.wait(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    def _subscribe(self) -> engine_events.Events:
        events = self._engine.events(self._labels)
        with self._guard:
            self._events = events
            if self._stopping.is_set():
                events.close()
        return events

    def _heard(self, event: containers.Event) -> None:
        server_id = names.server_of(event.name, event.labels)
        action = event.action.partition(":")[0]
        if server_id is not None and action in STATES:
            self._changed(server_id, STATES[action])

    def _compare(self) -> None:
        now = self._listed()
        for server_id in self._known.keys() - now.keys():
            self._changed(server_id, None)
        for server_id, state in now.items():
            if self._known.get(server_id) is not state:
                self._changed(server_id, state)

    def _changed(self, server_id: str, state: model.State | None) -> None:
        if state is None:
            self._known.pop(server_id, None)
        else:
            self._known[server_id] = state
        try:
            self._tell(model.Change(server_id, state))
        except Exception:
            LOG.exception("A change of server %(id)s was lost", {"id": server_id})

    def _listed(self) -> dict[str, model.State]:
        found = {}
        for container in self._engine.list(self._labels):
            server_id = names.server_of(container.name, container.labels)
            if server_id is not None:
                found[server_id] = _LISTED.get(container.state, model.State.STOPPED)
        return found
