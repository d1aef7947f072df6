# SPDX-License-Identifier: Apache-2.0
"""The contract of who says which host may use a volume.

On one host nobody else may; :class:`Alone` is all that is needed. On many, a host that can't say
that it lives loses what it owns: :mod:`container_stack.volumes.cluster`.
"""

import abc
import logging
from collections.abc import Callable

from container_stack import exceptions
from container_stack.volumes import model, registry

LOG = logging.getLogger(__name__)


class Ownership(abc.ABC):
    """What this node may use; safe under threads."""

    @property
    @abc.abstractmethod
    def node_id(self) -> str:
        """This node's id."""

    @property
    def exclusive(self) -> bool:
        """Whether who has claimed a volume is the only one who uses it, of all hosts."""
        return False

    @abc.abstractmethod
    def check(self) -> None:
        """Return if this node may serve.

        :raises ServiceUnavailable: it is out of quorum, or is being fenced; the text says why.
        """

    @abc.abstractmethod
    def claim(self, volume_id: str) -> model.Volume:
        """Own a volume before anything of it is attached or mounted here; idempotent.

        What a dead node owned is taken over.

        :raises Busy: a living node owns it; the text names it.
        :raises ServiceUnavailable: as :meth:`check`, or the registry doesn't answer.
        """

    @abc.abstractmethod
    def release(self, volume_id: str) -> None:
        """Own it no more, when nothing of it is attached or mounted here; idempotent.

        Never fails: what the registry can't be told now it is told later.
        """

    @abc.abstractmethod
    def start(self, fence: Callable[[], None]) -> None:
        """Come to live in the cluster.

        :param fence: called, from another thread, when this node must not use anything any more;
            it ends every use of every volume here, and only returns when that is so.
        """

    @abc.abstractmethod
    def stop(self) -> None:
        """Leave; everything is unmounted."""


class Alone(Ownership):
    """The only node."""

    def __init__(self, volumes: registry.Registry, node_id: str) -> None:
        self._registry = volumes
        self._node_id = node_id

    @property
    def node_id(self) -> str:
        return self._node_id

    def check(self) -> None:
        return

    def claim(self, volume_id: str) -> model.Volume:
        return self._registry.claim(volume_id, self._node_id)

    def release(self, volume_id: str) -> None:
        # The service compares what is owned with what is used, now and then.
        try:
            self._registry.release(volume_id, self._node_id)
        except exceptions.ServiceUnavailable as exc:
            LOG.warning("%(volume)s is released later: %(why)s", {"volume": volume_id, "why": exc})

    def start(self, fence: Callable[[], None]) -> None:
        return

    def stop(self) -> None:
        return
