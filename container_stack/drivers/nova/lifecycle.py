# SPDX-License-Identifier: Apache-2.0
"""What happens to servers by itself, as Nova's lifecycle events."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
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
#: Seconds after our own work, and after the time before, at which Nova is told that a server has
#: ended. Until it has written down that the work is done it ignores events; a busy cloud takes its
#: time for that.
SETTLED = (1.0, 9.0)


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
        #: When our last work with servers has ended, by the monotonic clock, for those just done.
        self._done: dict[str, float] = {}
        self._reminders: dict[str, threading.Thread] = {}
        # Nova's own look at a server takes several calls to its conductor; and who starts mustn't
        # keep waiting who ends.
        self._tellers = futures.ThreadPoolExecutor(4, thread_name_prefix="lifecycle")
        self._pluggers = futures.ThreadPoolExecutor(4, thread_name_prefix="plugging")

    def close(self) -> None:
        """Tell nothing more."""
        for each in (self._tellers, self._pluggers):
            each.shutdown(wait=False, cancel_futures=True)

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
                    self._note_done(server_id)
                ended = last and server_id in self._ended
                if ended:
                    self._ended.remove(server_id)
            if ended:
                self._remind(server_id, SETTLED)

    def changed(self, change: model.Change) -> None:
        """Pass one change on, without waiting for what comes of it."""
        stopped = change.state is model.State.STOPPED
        with self._guard:
            if not stopped:
                self._reminders.pop(change.server_id, None)
            if change.server_id in self._doing:
                # Of one that is there no more Nova knows.
                (self._ended.add if stopped else self._ended.discard)(change.server_id)
                return
            just_done = change.server_id in self._done and not self._is_settled(change.server_id)
        if change.state is model.State.RUNNING:
            self._submit(self._pluggers, self._plug, change.server_id)
        else:
            self._submit(self._tellers, self._tell, change.server_id, change.state)
        if stopped and just_done:
            self._remind(change.server_id, SETTLED)

    def _note_done(self, server_id: str) -> None:
        self._done = {each: at for each, at in self._done.items() if not self._is_settled(each)}
        self._done[server_id] = time.monotonic()

    def _is_settled(self, server_id: str) -> bool:
        return time.monotonic() - self._done[server_id] > sum(SETTLED)

    def _remind(self, server_id: str, pauses: Sequence[float]) -> None:
        """Tell later that a server has ended, unless it runs again or is gone until then."""
        later = threading.Timer(pauses[0], self._again, (server_id, pauses[1:]))
        later.daemon = True
        with self._guard:
            self._reminders[server_id] = later
        later.start()

    def _again(self, server_id: str, pauses: Sequence[float]) -> None:
        with self._guard:
            if self._reminders.get(server_id) is not threading.current_thread():
                return
            del self._reminders[server_id]
            if server_id in self._doing:
                self._ended.add(server_id)
                return
        if self._submit(self._tellers, self._tell, server_id, model.State.STOPPED) and pauses:
            self._remind(server_id, pauses)

    def _submit(self, workers: futures.Executor, work: Callable[..., None], *args: object) -> bool:
        try:
            workers.submit(work, *args)
        except RuntimeError:
            # It is closed.
            return False
        return True

    def _plug(self, server_id: str) -> None:
        try:
            self._plug_again(server_id)
        except model.ServerNotFound:
            return
        except exceptions.ContainerStackError as exc:
            LOG.error(
                "Server %(id)s has started, and has no network: %(why)s",
                {"id": server_id, "why": exc},
            )
        self._submit(self._tellers, self._tell, server_id, model.State.RUNNING)

    def _tell(self, server_id: str, state: model.State | None) -> None:
        try:
            self._emit(event.LifecycleEvent(server_id, TRANSITIONS[state]))
        except Exception:
            LOG.exception("Nova didn't take a change of server %(id)s", {"id": server_id})
