# SPDX-License-Identifier: Apache-2.0
"""What happens to servers by itself, as Nova's lifecycle events."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

from nova.virt import event
from oslo_log import log

from container_stack import exceptions
from container_stack.servers import model

LOG = log.getLogger(__name__)

TRANSITIONS = {
    model.State.RUNNING: event.EVENT_LIFECYCLE_STARTED,
    model.State.PAUSED: event.EVENT_LIFECYCLE_PAUSED,
    model.State.STOPPED: event.EVENT_LIFECYCLE_STOPPED,
    None: event.EVENT_LIFECYCLE_STOPPED,
}
#: Seconds after our own work until Nova surely has written down that it is done. Before, it
#: ignores events, and so that a server which was just started has ended already.
SETTLED = 1.0


class Lifecycle:
    """Passes changes of servers on; threads may share it.

    :param emit: takes Nova's events; it may take its time.
    :param plug_again: gives a server its interfaces after a start that wasn't ours.
    """

    def __init__(self, emit: Callable[[Any], None], plug_again: Callable[[str], None]) -> None:
        self._emit = emit
        self._plug_again = plug_again
        self._guard = threading.Lock()
        self._doing: dict[str, int] = {}
        self._ended: set[str] = set()
        # Nova's own look at a server takes several calls to its conductor.
        self._workers = futures.ThreadPoolExecutor(4, thread_name_prefix="lifecycle")

    def close(self) -> None:
        """Tell nothing more."""
        self._workers.shutdown(wait=False, cancel_futures=True)

    @contextlib.contextmanager
    def ours(self, server_id: str) -> Iterator[None]:
        """Take what happens to a server in the body for our own doing."""
        with self._guard:
            self._doing[server_id] = self._doing.get(server_id, 0) + 1
        try:
            yield
        finally:
            with self._guard:
                self._doing[server_id] -= 1
                last = not self._doing[server_id]
                if last:
                    del self._doing[server_id]
                ended = last and server_id in self._ended
                self._ended.discard(server_id)
            if ended:
                later = threading.Timer(
                    SETTLED, self._submit, (self._tell, server_id, model.State.STOPPED)
                )
                later.daemon = True
                later.start()

    def changed(self, change: model.Change) -> None:
        """Pass one change on, without waiting for what comes of it."""
        with self._guard:
            if change.server_id in self._doing:
                if change.state is model.State.STOPPED:
                    self._ended.add(change.server_id)
                elif change.state is model.State.RUNNING:
                    self._ended.discard(change.server_id)
                return
        self._submit(self._tell, change.server_id, change.state)

    def _submit(self, work: Callable[..., None], *args: object) -> None:
        # Not after the end.
        with contextlib.suppress(RuntimeError):
            self._workers.submit(work, *args)

    def _tell(self, server_id: str, state: model.State | None) -> None:
        try:
            if state is model.State.RUNNING:
                self._plug_again(server_id)
        except model.ServerNotFound:
            return
        except exceptions.ContainerStackError as exc:
            LOG.error(
                "Server %(id)s has started, and has no network: %(why)s",
                {"id": server_id, "why": exc},
            )
        try:
            self._emit(event.LifecycleEvent(server_id, TRANSITIONS[state]))
        except Exception:
            LOG.exception("Nova didn't take a change of server %(id)s", {"id": server_id})
