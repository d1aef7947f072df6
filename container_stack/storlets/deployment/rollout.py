# SPDX-License-Identifier: Apache-2.0
"""A deployment on its way over the nodes, forth and, if anything fails, back."""

import contextlib
import dataclasses
import logging
import threading
from collections.abc import Iterator, Mapping, Sequence

from container_stack import exceptions
from container_stack.storlets import model, nodes
from container_stack.storlets.deployment import (
    events,
    fleet,
    leases,
    ledger,
    planning,
    supply,
    versions,
)

LOG = logging.getLogger(__name__)


class RolloutFailed(exceptions.ContainerStackError):
    """A deployment failed; nodes are back at the image that each had before.

    :param failures: why, by node; empty when no node was the reason.
    :param unfinished: nodes that couldn't be put back, and why.
    :param trouble: why it couldn't be recorded that the nodes were put back.
    """

    def __init__(
        self,
        account: str,
        why: str,
        failures: Mapping[str, str],
        unfinished: Mapping[str, str],
        trouble: str = "",
    ) -> None:
        self.account = account
        self.why = why
        self.failures = dict(failures)
        self.unfinished = dict(unfinished)
        self.trouble = trouble
        super().__init__(account, why)

    def __str__(self) -> str:
        text = f"The deployment for {self.account} was undone, since it failed: {self.why}"
        if self.unfinished:
            left = fleet.list_errors(self.unfinished)
            text += f" Resume it when these nodes, not yet put back, are up again: {left}"
        if self.trouble:
            text += f" Undo it once more, since that couldn't be recorded: {self.trouble}"
        return text


class Rollout:
    """One deployment, by a manager that holds the account's lease."""

    def __init__(
        self,
        account: model.Account,
        members: fleet.Fleet,
        books: ledger.Ledger,
        lease: leases.Lease,
        watcher: events.Watcher,
    ) -> None:
        self._account = account
        self._fleet = members
        self._ledger = books
        self._lease = lease
        self._watcher = watcher

    def go(
        self,
        deployment: versions.Deployment,
        wanted: planning.Plan,
        source: supply.Supply,
    ) -> versions.Version:
        """Bring an image to all nodes that the plan wants it on, and return the new version.

        :raises RolloutFailed: nodes are back at what they had.
        :raises LeaseLost: another manager goes on with it.
        """
        try:
            source.put_by(self._watcher)
            self.stage(wanted.nodes, deployment.version, source)
            self._switch_all(deployment, wanted)
        except leases.LeaseLost:
            raise
        except (KeyboardInterrupt, SystemExit):
            self.undo(deployment, "It was interrupted.")
            raise
        except Exception as exc:
            raise self._undone(deployment, exc) from exc
        self._lease.check()
        return self._ledger.commit(self._account, deployment)

    def stage(
        self,
        wanted: Sequence[planning.NodePlan],
        version: versions.Version,
        source: supply.Supply,
    ) -> None:
        """Bring the image to nodes, and see that they have it; no request meets it."""
        halt = threading.Event()
        size = sum(each.send for each in wanted)
        told = self._tell(events.Step.STAGE, len(wanted), size=size)

        def work(node: nodes.Node) -> None:
            self._lease.check()
            source.deliver(node, told, halt)
            if version.image_id not in node.state(self._account).kept:
                raise exceptions.HostNotReady("It says that it took the image, and hasn't it.")

        self._fleet.all([each.node for each in wanted], work, told, halt)

    def repair(
        self,
        wanted: Sequence[planning.NodePlan],
        version: versions.Version,
        source: supply.Supply,
    ) -> dict[str, str]:
        """Bring the image to nodes that should have it, and return where that failed, and why.

        What fails on one node doesn't matter to others.
        """
        halt = threading.Event()
        size = sum(each.send for each in wanted)
        told = self._tell(events.Step.REPAIR, len(wanted), size=size)

        def work(node: nodes.Node) -> None:
            self._lease.check()
            source.deliver(node, told, halt)
            self.switch(node, version.image_id)

        failed = self._fleet.most([each.node for each in wanted], work, told)
        return {name: str(exc) for name, exc in failed.items()}

    def switch(self, node: nodes.Node, image_id: str) -> None:
        """Let one node use the image, and see that it does."""
        self._lease.check()
        node.switch(self._account, image_id)
        state = node.state(self._account)
        if (state.image_id, state.running) != (image_id, image_id):
            raise exceptions.ProbeFailed("It says that it uses the image, and doesn't.")
        if state.healthy is False:
            raise exceptions.ProbeFailed("The new sandbox doesn't answer any more.")

    def undo(self, deployment: versions.Deployment, why: str) -> dict[str, str]:
        """Put every node back to what it had, and return where that couldn't be done, and why.

        Goes on where a manager before had got to.

        :raises LeaseLost: another manager goes on with it.
        """
        deployment = dataclasses.replace(deployment, phase=versions.Phase.UNDOING)
        with _best_effort("the deployment is being undone"):
            self._ledger.save(self._account, deployment)
        out = set(deployment.version.skipped)
        names = [name for name in self._fleet.names if name not in out]
        told = self._tell(events.Step.UNDO, len(names))
        failed = self._fleet.most(names, lambda node: self._put_back(node, deployment), told)
        self._lease.check()
        if failed:
            unfinished = dataclasses.replace(deployment, unfinished=tuple(failed))
            with _best_effort("nodes are still to be put back"):
                self._ledger.save(self._account, unfinished)
        else:
            self._ledger.abandon(self._account, deployment, why)
        return {name: str(exc) for name, exc in failed.items()}

    def sweep(self) -> None:
        """Remove from all nodes that answer what a manager that died has left on them."""
        told = self._tell(events.Step.REPAIR)

        def work(node: nodes.Node) -> None:
            self._lease.check()
            node.sweep(self._account)

        self._fleet.most(self._fleet.names, work, told)

    def _switch_all(self, deployment: versions.Deployment, wanted: planning.Plan) -> None:
        image_id = deployment.version.image_id
        waves = wanted.waves
        for number, wave in enumerate(waves, 1):
            self._lease.check()
            self._ledger.save(
                self._account,
                dataclasses.replace(
                    deployment, phase=versions.Phase.SWITCHING, wave=number, waves=len(waves)
                ),
            )
            canary = number <= wanted.policy.canaries
            step = events.Step.CANARY if canary else events.Step.WAVE
            told = self._tell(step, len(wave), wave=number, waves=len(waves))
            names = [each.node for each in wave]
            self._fleet.all(names, lambda node: self.switch(node, image_id), told)

    def _put_back(self, node: nodes.Node, deployment: versions.Deployment) -> None:
        self._lease.check()
        new, before = deployment.version.image_id, deployment.previous_of(node.name)
        if new == before:
            return
        state = node.state(self._account)
        if new in (state.image_id, state.running):
            if before is None:
                node.clear(self._account)
            else:
                node.switch(self._account, before)
        node.sweep(self._account)
        if not deployment.known:
            with contextlib.suppress(exceptions.Busy):
                node.forget(self._account, new)

    def _undone(self, deployment: versions.Deployment, exc: Exception) -> RolloutFailed:
        failures = exc.failures if isinstance(exc, fleet.NodesFailed) else {}
        texts = {name: str(each) for name, each in failures.items()}
        why, unfinished, trouble = str(exc) or type(exc).__name__, {}, ""
        try:
            unfinished = self.undo(deployment, why)
        except leases.LeaseLost:
            raise
        except exceptions.ContainerStackError as also:
            trouble = str(also)
        return RolloutFailed(self._account.name, why, texts, unfinished, trouble)

    def _tell(
        self, step: events.Step, count: int = 0, *, size: int = 0, wave: int = 0, waves: int = 0
    ) -> events.Narrator:
        first = events.Event(step, nodes=count, size=size, wave=wave, waves=waves)
        return events.Narrator(self._watcher, first)


@contextlib.contextmanager
def _best_effort(what: str) -> Iterator[None]:
    """Go on without a record: nodes are put back even while Swift is away."""
    try:
        yield
    except leases.LeaseLost:
        raise
    except exceptions.ContainerStackError as exc:
        LOG.warning("Couldn't store that %(what)s: %(why)s", {"what": what, "why": exc})
