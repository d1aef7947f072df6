# SPDX-License-Identifier: Apache-2.0
"""What the registry is told of this node, again and again, and of nodes that are dead.

Nobody decides anything by it but people who read `osd cluster status`: who may use what is up to
the leases. So it may be late, and the registry may be away.
"""

import dataclasses
import logging
import threading
from collections.abc import Callable, Collection

from container_stack import exceptions
from container_stack.volumes import model, registry

LOG = logging.getLogger(__name__)


class Heart:
    """Puts this node into the registry.

    :param describe: what this node is now, but for its generation.
    :param living: ids of the nodes that have a lease.
    :param pause: seconds between two beats.
    """

    def __init__(
        self,
        volumes: registry.Registry,
        describe: Callable[[], model.Node],
        living: Callable[[], Collection[str]],
        pause: float,
    ) -> None:
        self._registry = volumes
        self._describe = describe
        self._living = living
        self._pause = pause
        self._generation = 0
        self._tell: Callable[[], None] = lambda: None
        self._gone = False
        self._up = False
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, tell: Callable[[], None]) -> None:
        """Beat in a thread.

        :param tell: called before each beat; what else the registry has to be told.
        """
        self._tell = tell
        self._thread = threading.Thread(target=self._live, name="node heart", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Beat no more, and say that this node is down."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join(self._pause)
        if self._generation:
            node = dataclasses.replace(self._describe(), status=model.Status.DOWN)
            self._quietly(lambda: self._put(node))

    def _live(self) -> None:
        pause = 0.0
        while not self._ended.wait(pause):
            self._gone = not self._quietly(self._round)
            pause = self._pause if self._up else min(self._pause, 1.0)

    def _round(self) -> None:
        self._tell()
        node = self._describe()
        self._put(node)
        self._up = node.status is model.Status.UP
        self._bury()

    def _put(self, node: model.Node) -> None:
        if not self._generation:
            before = [each.generation for each in self._registry.nodes() if each.id == node.id]
            self._generation = max(before, default=0) + 1
        self._registry.put_node(dataclasses.replace(node, generation=self._generation))

    def _bury(self) -> None:
        """Say of nodes without a lease that they are down."""
        # In this order: who has come to live since isn't among them.
        nodes = self._registry.nodes()
        living = self._living()
        for node in nodes:
            if node.status is model.Status.UP and node.id not in living:
                LOG.warning("Node %(node)s is down", {"node": node.id})
                self._registry.put_node(dataclasses.replace(node, status=model.Status.DOWN))
                self._registry.add_event("node_down", node_id=node.id)

    def _quietly(self, action: Callable[[], None]) -> bool:
        try:
            action()
            return True
        except exceptions.ContainerStackError as exc:
            if not self._gone:
                LOG.warning("The cluster isn't told of this node: %(why)s", {"why": exc})
        except Exception:  # this thread must not end
            LOG.exception("Telling the cluster of this node")
        return False
