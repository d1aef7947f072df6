# SPDX-License-Identifier: Apache-2.0
"""Which volumes the containers of a Docker Engine really use, and plugins that are told so.

Docker names a mount by an id of its own, which no interface of its shows. What can be seen is
which running container has a volume of which name. So a volume that no running container has
isn't used, whatever was counted; one that some have is.
"""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from container_stack import exceptions
from container_stack.host import containers

LOG = logging.getLogger(__name__)

#: Seconds between looks, and that the engine may keep silent.
INTERVAL, PATIENCE = 60.0, 20.0
#: Seconds in which a container starts after Docker mounted its volume: another of its volumes may
#: take the two minutes that Docker waits for.
GRACE = 300.0

#: States in which a container has its volumes mounted.
_LIVE = ["running", "paused"]

#: By a volume's driver and name, as the engine calls them: the ids of the containers that run
#: with it.
Live = Mapping[tuple[str, str], frozenset[str]]


class Plugin(Protocol):
    """What has uses that may be wrong."""

    def settle(self, live: Live | None) -> Sequence[str]:
        """Make its uses what they are, as far as anybody knows; say in words what was done."""


def live(engine: containers.Engine) -> Live:
    """Return which volumes running containers have.

    :raises EngineUnavailable: nobody knows.
    """
    with engine.connection.use(PATIENCE) as client:
        found = client.containers(filters={"status": _LIVE})
    users: dict[tuple[str, str], set[str]] = {}
    for container in found:
        for mount in container.get("Mounts") or ():
            if mount.get("Type") == "volume":
                key = (mount.get("Driver", ""), mount.get("Name", ""))
                users.setdefault(key, set()).add(container["Id"])
    return {key: frozenset(ids) for key, ids in users.items()}


class Reconciler:
    """Looks at the engine's containers at the start, each minute, and when the engine came back.

    :param interval: seconds between looks.
    """

    def __init__(
        self, engine: containers.Engine, plugins: Sequence[Plugin], *, interval: float = INTERVAL
    ) -> None:
        self._engine = engine
        self._plugins = plugins
        self._interval = interval
        self._stopping = threading.Event()
        self._due = threading.Event()
        self._events: Any = None
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Look now, and again and again in the background; an engine needn't be there."""
        self.look()
        for target in (self._look_often, self._watch):
            thread = threading.Thread(target=target, name="docker uses", daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """Look no more; idempotent."""
        self._stopping.set()
        self._due.set()
        events = self._events
        if events is not None:
            events.close()
        for thread in self._threads:
            thread.join(PATIENCE)
        self._threads.clear()

    def look(self) -> Sequence[str]:
        """Tell the plugins what is used; return what they did, in words."""
        users = None
        try:
            users = live(self._engine)
        except exceptions.ContainerStackError as exc:
            LOG.warning("Nobody knows which volumes containers use: %(why)s", {"why": exc})
        done: list[str] = []
        for plugin in self._plugins:
            done += _quietly(lambda plugin=plugin: plugin.settle(users)) or ()  # type: ignore[misc]
        for words in done:
            LOG.info("Reconciled with the Docker Engine: %(words)s", {"words": words})
        return done

    def _look_often(self) -> None:
        while not self._stopping.is_set():
            self._due.wait(self._interval)
            self._due.clear()
            if not self._stopping.is_set():
                _quietly(self.look)

    def _watch(self) -> None:
        """Have a look whenever the engine can be listened to again."""
        while not self._stopping.is_set():
            try:
                with self._engine.events() as events:
                    self._events = events
                    self._due.set()
                    if self._stopping.is_set():
                        return
                    for _event in events:
                        pass
            except exceptions.ContainerStackError:
                self._stopping.wait(1)


def _quietly(function: Callable[[], Sequence[str]]) -> Sequence[str] | None:
    try:
        return function()
    except exceptions.ContainerStackError as exc:
        LOG.warning("Couldn't reconcile with the Docker Engine: %(why)s", {"why": exc})
    except Exception:
        # A thread that ends here would never look again.
        LOG.exception("Couldn't reconcile with the Docker Engine")
    return None
