# SPDX-License-Identifier: Apache-2.0
"""What a deployment would do to every node, found out without changing any."""

import collections
import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence

from container_stack import exceptions
from container_stack.storlets import model, nodes, settings
from container_stack.storlets.deployment import events, fleet, versions


@dataclasses.dataclass(frozen=True, slots=True)
class NodePlan:
    """What one node needs.

    :param previous: the image that it has now.
    :param shared: layers that it holds, from the first on.
    :param send: bytes of the other layers; 0 when the image is there.
    """

    node: str
    previous: str | None
    shared: int
    send: int


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """What a deployment would do.

    :param nodes: those that change, in their order.
    :param right: how many run the image already.
    :param previous: the image that most nodes have now.
    :param differing: of those that have another one.
    :param known: a node has kept the image from before.
    :param down: nodes that don't answer, and what is known of it.
    :param unready: nodes that can't take the image, and why.
    """

    account: str
    image_id: str
    nodes: tuple[NodePlan, ...]
    right: int
    previous: str | None
    differing: Mapping[str, str | None]
    known: bool
    down: Mapping[str, str]
    unready: Mapping[str, str]
    policy: settings.Rollout

    @property
    def send(self) -> int:
        """Bytes of layers that all nodes lack."""
        return sum(each.send for each in self.nodes)

    @property
    def waves(self) -> list[Sequence[NodePlan]]:
        """The nodes that change together: first canaries, one by one."""
        canaries, wave = self.policy.canaries, self.policy.wave
        groups: list[Sequence[NodePlan]] = [(each,) for each in self.nodes[:canaries]]
        rest = self.nodes[canaries:]
        return groups + [rest[at : at + wave] for at in range(0, len(rest), wave)]

    def begin(self, version: versions.Version) -> versions.Deployment:
        """Return the deployment that makes it so."""
        return versions.Deployment(
            token="",
            phase=versions.Phase.STAGING,
            version=dataclasses.replace(version, skipped=tuple(self.down)),
            previous=self.previous,
            differing=self.differing,
            known=self.known,
        )

    def go_on(self, left: versions.Deployment) -> versions.Deployment:
        """Return a deployment with the nodes that have come or changed since it was begun."""
        new = left.version.image_id
        others = {
            each.node: each.previous
            for each in self.nodes
            if each.previous not in (new, left.previous_of(each.node))
        }
        return dataclasses.replace(
            left,
            version=dataclasses.replace(left.version, skipped=tuple(self.down)),
            differing={**left.differing, **others},
        )

    def check(self, skipped: Sequence[str] | None = None) -> None:
        """See that nothing stands against it.

        :param skipped: the nodes that may be down, where it goes on with a deployment.
        :raises HostNotReady: nodes can't take the image.
        :raises EngineUnavailable: more nodes are down than may be.
        """
        if self.unready:
            raise exceptions.HostNotReady(
                f"Nothing was changed, since nodes can't take the image: "
                f"{fleet.list_errors(self.unready)}"
            )
        down = {name: why for name, why in self.down.items() if name not in (skipped or ())}
        most = self.policy.max_down if skipped is None else 0
        if len(down) > most:
            raise exceptions.EngineUnavailable(
                f"Nothing was changed, since {len(down)} nodes are down, and {most} may be: "
                f"{fleet.list_errors(down)}"
            )


def is_right(state: nodes.NodeState, image_id: str | None) -> bool:
    """Return whether a node does what it should: run this image, or none until a request comes.

    :param image_id: None for an account that has no image: it runs in the default one.
    """
    if image_id is None:
        runs = state.running not in state.kept
    else:
        runs = state.running in (None, image_id)
    return state.image_id == image_id and runs and state.healthy is not False


def make(
    account: model.Account,
    image_id: str,
    layers: Sequence[versions.ImageLayer],
    members: fleet.Fleet,
    policy: settings.Rollout,
    watcher: events.Watcher,
) -> Plan:
    """Return what it takes to bring an image to all nodes."""
    states = members.states(account, watcher)
    up = {name: state for name, state in states.items() if isinstance(state, nodes.NodeState)}
    wrong = [name for name, state in up.items() if not is_right(state, image_id)]
    needs = _Needs(layers)
    unready = {}
    for done in members.each(wrong, needs.ask):
        if done.error:
            unready[done.item] = str(done.error)
    previous = _most_common(up.values())
    return Plan(
        account=account.name,
        image_id=image_id,
        nodes=tuple(needs.plan(name, up[name], image_id) for name in wrong if name not in unready),
        right=len(up) - len(wrong),
        previous=previous,
        differing={n: state.image_id for n, state in up.items() if state.image_id != previous},
        known=any(image_id in state.kept for state in up.values()),
        down={name: str(why) for name, why in states.items() if isinstance(why, Exception)},
        unready=unready,
        policy=policy,
    )


class _Needs:
    """Asks nodes which layers they lack."""

    def __init__(self, layers: Sequence[versions.ImageLayer]) -> None:
        self._diff_ids = tuple(layer.diff_id for layer in layers)
        self._rest = list(_sums([layer.size for layer in layers]))
        self._shared: dict[str, int] = {}

    def ask(self, node: nodes.Node) -> None:
        node.check()
        self._shared[node.name] = node.shared_layers(self._diff_ids)

    def plan(self, name: str, state: nodes.NodeState, image_id: str) -> NodePlan:
        shared = self._shared[name]
        send = 0 if image_id in state.kept else self._rest[shared]
        return NodePlan(name, state.image_id, shared, send)


def _sums(sizes: Sequence[int]) -> Iterator[int]:
    """Yield the bytes of all layers, of all but the first, and so on down to 0."""
    left = sum(sizes)
    yield left
    for size in sizes:
        left -= size
        yield left


def _most_common(states: Iterable[nodes.NodeState]) -> str | None:
    counted = collections.Counter(state.image_id for state in states)
    return counted.most_common(1)[0][0] if counted else None
