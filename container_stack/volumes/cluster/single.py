# SPDX-License-Identifier: Apache-2.0
"""Ownership on one host, where a lock of tooz's keeps a second daemon away.

The kernel frees the lock with its process, and says nothing of other hosts: what another node owns
stays its own.
"""

import logging
from collections.abc import Callable
from typing import Any

from tooz import coordination

from container_stack import exceptions
from container_stack.volumes import ownership, registry
from container_stack.volumes.cluster import heart

LOG = logging.getLogger(__name__)


class OneHost(ownership.Alone):
    """The only node, as which one daemon runs.

    :param url: of tooz's driver ``file``.
    """

    def __init__(
        self, volumes: registry.Registry, node_id: str, url: str, beat: heart.Heart
    ) -> None:
        super().__init__(volumes, node_id)
        self._url = url
        self._heart = beat
        self._coordinator: Any = None
        self._lock: Any = None

    def start(self, fence: Callable[[], None]) -> None:
        """Come to live.

        :raises HostNotReady: another daemon is this node, or the directory can't be used.
        """
        name = f"osd-node-{self.node_id}"
        try:
            self._coordinator = coordination.get_coordinator(self._url, name.encode())
            self._coordinator.start(start_heart=False)
            # Kept: tooz frees a lock that nobody knows any more.
            self._lock = self._coordinator.get_lock(name.encode())
            taken = self._lock.acquire(blocking=False)
        except (coordination.ToozError, OSError, RuntimeError) as exc:
            raise exceptions.HostNotReady(f"No lock is to be had of {self._url}: {exc}") from exc
        if not taken:
            raise exceptions.HostNotReady(f"Another daemon is node {self.node_id} already.")
        self._heart.start(lambda: None)

    def stop(self) -> None:
        self._heart.stop()
        if self._coordinator is not None:
            self._lock.release()
            self._coordinator.stop()
            self._coordinator = self._lock = None
