# SPDX-License-Identifier: Apache-2.0
"""What a deployment needs of a Swift node.

:class:`container_stack.storlets.node.engine_node.EngineNode` is a node with a Docker Engine,
:class:`container_stack.testing.nodes.SimulatedNode` one for tests and plans, and
:mod:`container_stack.testing.node_contract` the suite that both run.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from container_stack.storlets import model


@dataclasses.dataclass(frozen=True, slots=True)
class NodeState:
    """How an account stands on a node.

    :param image_id: what the next sandbox will run; None when the account has no image there.
    :param running: image of the sandbox that runs now; None when none does.
    :param kept: images that are there for the account, the current one among them.
    :param healthy: the sandbox answers; None when none runs.
    """

    image_id: str | None
    running: str | None
    kept: frozenset[str]
    healthy: bool | None


#: Makes an image archive without that many of the image's first layers, anew for each call.
Archive = Callable[[int], Iterator[bytes]]


class Node(Protocol):
    """One node; its methods are safe to call again after a crash, whatever that left.

    :raises EngineUnavailable: the node's engine doesn't answer.
    """

    @property
    def name(self) -> str:
        """What the inventory calls it."""

    def check(self) -> None:
        """Raise what stands against a deployment on this node; nothing is changed."""

    def state(self, account: model.Account) -> NodeState:
        """Return how the account stands here."""

    def shared_layers(self, layers: Sequence[str]) -> int:
        """Return how many of an image's layers, from the first on, this node holds.

        :param layers: diff IDs, as in the image's configuration.
        """

    def stage(
        self, account: model.Account, image_id: str, layers: Sequence[str], archive: Archive
    ) -> int:
        """Bring an image here, under a name that keeps it, and return the bytes sent.

        Layers that the node holds are left out; if the node then can't take the archive, all of
        it is sent. Fine, and 0 bytes, if the image is here. Requests go on as before.

        :raises InvalidRequest: what arrived isn't that image; it was removed again.
        """

    def stage_from(self, account: model.Account, image_id: str, reference: str) -> None:
        """Bring an image here from a registry instead; otherwise as :meth:`stage`."""

    def switch(self, account: model.Account, image_id: str) -> None:
        """Let the account's requests run in another image, which must be staged.

        A new sandbox is started beside the old one and must pass an identity probe before any
        request meets it. If anything fails, requests go on in the old image as if nothing had
        been. Fine if it is done.

        :raises ProbeFailed: the new sandbox isn't usable.
        """

    def clear(self, account: model.Account) -> None:
        """Take the account's image out of use: requests run in the default image. Idempotent."""

    def forget(self, account: model.Account, image_id: str) -> None:
        """Remove a staged image, unless it is in use; fine if it isn't here.

        :raises Busy: it is the current one, or a container runs it.
        """

    def sweep(self, account: model.Account) -> None:
        """Remove what a switch that was killed left: sandboxes beside, directories, probes."""
