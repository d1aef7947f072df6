# SPDX-License-Identifier: Apache-2.0
"""How nodes stand, compared with how they should."""

import dataclasses
import enum

from container_stack.storlets import model, nodes
from container_stack.storlets.deployment import events, fleet, ledger, planning, versions


class Verdict(enum.StrEnum):
    """How a node stands."""

    RIGHT = "ok"
    #: It has another image than it should, or none.
    DIFFERENT = "different"
    #: It has the image, and its sandbox doesn't answer.
    UNHEALTHY = "unhealthy"
    DOWN = "down"


@dataclasses.dataclass(frozen=True, slots=True)
class NodeStatus:
    """One node.

    :param state: what it says; None when it is down.
    :param error: why it doesn't answer.
    """

    node: str
    verdict: Verdict
    state: nodes.NodeState | None
    error: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Status:
    """An account on all nodes.

    :param current: what they should run; None if no image was ever deployed.
    :param deployment: one that is under way or unfinished: nodes may have its image instead.
    """

    account: str
    current: versions.Current | None
    deployment: versions.Deployment | None
    nodes: tuple[NodeStatus, ...]

    @property
    def right(self) -> bool:
        """Whether all is as it should be, and nothing is left to be done."""
        verdicts = {each.verdict for each in self.nodes}
        return self.deployment is None and verdicts <= {Verdict.RIGHT}


def look(
    account: model.Account, books: ledger.Ledger, members: fleet.Fleet, watcher: events.Watcher
) -> Status:
    """Return how all nodes stand; asks without a lock, so a deployment may be under way."""
    current = books.current(account)
    image_id = None if current is None else current.image_id
    states = members.states(account, watcher)
    return Status(
        account=account.name,
        current=current,
        deployment=books.deployment(account),
        nodes=tuple(_judge(name, state, image_id) for name, state in states.items()),
    )


def _judge(name: str, state: nodes.NodeState | Exception, image_id: str | None) -> NodeStatus:
    if isinstance(state, Exception):
        return NodeStatus(name, Verdict.DOWN, None, str(state))
    if planning.is_right(state, image_id):
        return NodeStatus(name, Verdict.RIGHT, state)
    if state.image_id == image_id and state.healthy is False:
        return NodeStatus(name, Verdict.UNHEALTHY, state)
    return NodeStatus(name, Verdict.DIFFERENT, state)
