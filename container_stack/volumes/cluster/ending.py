# SPDX-License-Identifier: Apache-2.0
"""Ending all use of all volumes on this host, whoever uses them and whatever doesn't answer."""

import concurrent.futures
import logging
import os
import threading

from container_stack import exceptions
from container_stack.host import containers, mounts
from container_stack.rootwrap import commands, executor

LOG = logging.getLogger(__name__)

#: Seconds that the engine is given; who can't wait kills without it.
ENGINE = 2.0


class Ending:
    """What is done when this node mustn't use volumes any more.

    :param state_dir: of the daemon, without links; all its mounts are below ``mounts`` there.
    :param engine_url: the engine whose containers use them; "" means that there is none.
    """

    def __init__(self, run: executor.Executor, state_dir: str, engine_url: str = "") -> None:
        self._executor = run
        self._tree = os.path.join(state_dir, "mounts")
        self._engine_url = engine_url

    def used(self) -> list[str]:
        """Return the paths of what is mounted."""
        return [mount.path for mount in mounts.below(self._tree)]

    def end(self) -> None:
        """Kill the containers that use our mounts, and whoever else does, and unmount all.

        The root helper is asked even if nothing is mounted: who can't ask it must not join.

        :raises ContainerStackError: something is left; ask again.
        """
        if self._engine_url and self.used():
            self._wait_for_engine()
        self._executor.run(commands.programs.OSD_FENCE, tree=self._tree)

    def close(self) -> None:
        """Let go of the root helper; it comes back when needed."""
        self._executor.close()

    def _wait_for_engine(self) -> None:
        # A container that the engine has killed isn't started again by its restart policy.
        thread = threading.Thread(target=self._kill_containers, name="end", daemon=True)
        thread.start()
        thread.join(ENGINE)

    def _kill_containers(self) -> None:
        engine = containers.Engine(self._engine_url, timeout=ENGINE)
        try:
            names = {os.path.basename(path) for path in self.used()}
            users = [each.id for each in engine.list() if self._uses(each, names)]
            with concurrent.futures.ThreadPoolExecutor(8) as pool:
                list(pool.map(lambda each: _kill(engine, each), users))
        except exceptions.ContainerStackError as exc:
            LOG.warning("The engine kills no containers: %(why)s", {"why": exc})
        finally:
            engine.close()

    def _uses(self, container: containers.Container, names: set[str]) -> bool:
        # The engine has volumes by their names, each of which one plugin only may have.
        running = container.state in ("running", "paused", "restarting")
        return running and any(
            each.source in names
            if each.kind == "volume"
            else f"{each.source}/".startswith(f"{self._tree}/")
            for each in container.mounts
        )


def _kill(engine: containers.Engine, container: str) -> None:
    try:
        engine.kill(container)
        LOG.warning("Killed container %(name)s: its volumes are fenced", {"name": container})
    except exceptions.ContainerStackError as exc:
        LOG.warning("Couldn't kill %(name)s: %(why)s", {"name": container, "why": exc})
