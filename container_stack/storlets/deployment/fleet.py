# SPDX-License-Identifier: Apache-2.0
"""All nodes, a few of them at a time."""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from container_stack import exceptions
from container_stack.storlets import model, nodes
from container_stack.storlets.deployment import events, leases, parallel

_R = TypeVar("_R")


class Halted(exceptions.Busy):
    """Work on a node was given up since another node has failed, or the user wants it so."""


class NodesFailed(exceptions.ContainerStackError):
    """Something failed on nodes.

    :param failures: why, by the node's name.
    """

    def __init__(self, failures: Mapping[str, Exception]) -> None:
        self.failures = dict(failures)
        super().__init__(list_errors({name: str(exc) for name, exc in failures.items()}))


class Fleet:
    """The nodes by name, in the order of the inventory.

    :param width: nodes that are worked on at once.
    :raises InvalidRequest: there are none, or two of one name.
    """

    def __init__(self, members: Sequence[nodes.Node], width: int) -> None:
        self._members = {node.name: node for node in members}
        self._width = width
        if not members or len(self._members) != len(members):
            raise exceptions.InvalidRequest("Nodes are needed, each with a name of its own.")

    @property
    def names(self) -> Iterable[str]:
        """All names."""
        return self._members.keys()

    def states(
        self, account: model.Account, watcher: events.Watcher
    ) -> dict[str, nodes.NodeState | Exception]:
        """Return how an account stands on every node, or why the node doesn't say."""
        told = events.Narrator(watcher, events.Event(events.Step.SURVEY, nodes=len(self._members)))
        found: dict[str, nodes.NodeState | Exception] = dict.fromkeys(self.names, _UNASKED)
        for done in self.each(self.names, lambda node: node.state(account)):
            found[done.item] = done.value or done.error or _UNASKED
            told.ready(done.item, str(done.error or ""))
        return found

    def all(
        self,
        names: Sequence[str],
        work: Callable[[nodes.Node], object],
        told: events.Narrator,
        halt: threading.Event | None = None,
    ) -> None:
        """Do something on these nodes; when it fails on one, don't begin on others.

        :raises NodesFailed: it failed on some.
        :raises LeaseLost: nothing more may be done.
        """
        halt = halt or threading.Event()
        failures = self.most(names, work, told, halt=halt)
        if failures:
            raise NodesFailed(failures)

    def most(
        self,
        names: Iterable[str],
        work: Callable[[nodes.Node], object],
        told: events.Narrator,
        *,
        halt: threading.Event | None = None,
    ) -> dict[str, Exception]:
        """Do something on these nodes, and return where it failed.

        :param halt: set at the first failure, which gives up the others.
        :raises LeaseLost: nothing more may be done.
        """
        failures = {}
        for done in self.each(names, work, halt):
            if isinstance(done.error, leases.LeaseLost):
                raise done.error
            if done.error and not isinstance(done.error, Halted):
                failures[done.item] = done.error
                told.ready(done.item, str(done.error))
                if halt:
                    halt.set()
            elif not done.error:
                told.ready(done.item)
        return failures

    def each(
        self,
        names: Iterable[str],
        work: Callable[[nodes.Node], _R],
        halt: threading.Event | None = None,
    ) -> Iterator[parallel.Done[str, _R]]:
        """Yield what became of each of these nodes, as they get ready."""
        members = self._members
        return parallel.each(names, lambda name: work(members[name]), self._width, halt)


def list_errors(errors: Mapping[str, str], most: int = 5) -> str:
    """Return the first few errors, by node, in one line."""
    texts = [f"{name}: {text}" for name, text in list(errors.items())[:most]]
    if len(errors) > most:
        texts.append(f"and {len(errors) - most} more")
    return "; ".join(texts)


_UNASKED = exceptions.EngineUnavailable("It wasn't asked.")
