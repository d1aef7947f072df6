# SPDX-License-Identifier: Apache-2.0
"""Images of old versions, and how they go: from nodes, and from Swift."""

import collections
import contextlib
import dataclasses
import logging
from collections.abc import Iterator, Mapping, Sequence

from container_stack import exceptions
from container_stack.storlets import model, nodes
from container_stack.storlets.deployment import events, fleet, leases, ledger, supply, versions

LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Collected:
    """What has gone of an account's, or would go.

    :param images: on how many nodes each image was.
    :param archives: images that were put by in Swift.
    :param failures: nodes that don't answer, or where something failed; no archive goes then,
        since one of them might be in use there.
    :param busy: the account was left alone, since a deployment isn't finished.
    """

    account: str
    images: dict[str, int] = dataclasses.field(default_factory=dict)
    archives: tuple[str, ...] = ()
    failures: dict[str, str] = dataclasses.field(default_factory=dict)
    busy: str = ""


class Collector:
    """Removes what is no longer kept; never what is current, was before it, or is in use."""

    def __init__(
        self,
        books: ledger.Ledger,
        members: fleet.Fleet,
        lock: leases.Lock,
        archives: supply.Archives,
    ) -> None:
        self._ledger = books
        self._fleet = members
        self._lock = lock
        self._archives = archives

    def run(
        self,
        account: model.Account | None,
        keep: int,
        watcher: events.Watcher,
        *,
        dry_run: bool = False,
    ) -> Iterator[Collected]:
        """Collect for one account, or for all that ever had an image; yield each as it is done.

        :param keep: versions that stay, the current one among them; at least two do.
        :raises Busy: this one account's deployment is under way or unfinished.
        """
        if account is not None:
            self._ledger.check(account)
            yield self._locked(account, keep, watcher, dry_run)
            return
        for each in self._ledger.accounts():
            try:
                yield self._locked(each, keep, watcher, dry_run)
            except exceptions.Busy as exc:
                yield Collected(each.name, busy=str(exc))

    def tidy(
        self, account: model.Account, keep: int, lease: leases.Lease, watcher: events.Watcher
    ) -> None:
        """Collect after a deployment, which stands even if this fails."""
        try:
            done = self._collect(account, keep, lease, watcher, dry_run=False)
        except exceptions.ContainerStackError as exc:
            LOG.warning(
                "Old images of %(account)s stay for now: %(why)s",
                {"account": account.name, "why": exc},
            )
        else:
            if done.failures:
                LOG.warning(
                    "Old images of %(account)s stay on nodes for now: %(why)s",
                    {"account": account.name, "why": fleet.list_errors(done.failures)},
                )

    def _locked(
        self, account: model.Account, keep: int, watcher: events.Watcher, dry_run: bool
    ) -> Collected:
        with self._lock(account.scope) as lease:
            if self._ledger.deployment(account) is not None:
                raise exceptions.Busy(
                    f"A deployment of {account.name} isn't finished: resume it first."
                )
            return self._collect(account, keep, lease, watcher, dry_run)

    def _collect(
        self,
        account: model.Account,
        keep: int,
        lease: leases.Lease,
        watcher: events.Watcher,
        dry_run: bool,
    ) -> Collected:
        states = self._fleet.states(account, watcher)
        up = {name: state for name, state in states.items() if isinstance(state, nodes.NodeState)}
        failures = {name: str(exc) for name, exc in states.items() if isinstance(exc, Exception)}
        kept = self._kept(account, keep, up)
        old = {name: sorted(state.kept - kept - _used(state)) for name, state in up.items()}
        told = events.Narrator(watcher, events.Event(events.Step.COLLECT, nodes=len(up)))
        gone: collections.Counter[str] = collections.Counter()

        def work(node: nodes.Node) -> list[str]:
            lease.check()
            return old[node.name] if dry_run else _forget(node, account, old[node.name])

        for done in self._fleet.each([name for name, images in old.items() if images], work):
            if isinstance(done.error, leases.LeaseLost):
                raise done.error
            if done.error:
                failures[done.item] = str(done.error)
            gone.update(done.value or ())
            told.ready(done.item, str(done.error or ""))
        lease.check()
        used = kept.union(*(_used(state) for state in up.values()))
        archives = () if failures else self._collect_archives(account, used, dry_run)
        return Collected(account.name, dict(gone), archives, failures)

    def _collect_archives(
        self, account: model.Account, kept: set[str], dry_run: bool
    ) -> tuple[str, ...]:
        old = [image_id for image_id in self._archives.list(account) if image_id not in kept]
        for image_id in old:
            if not dry_run:
                self._archives.remove(account, image_id)
        return tuple(old)

    def _kept(
        self, account: model.Account, keep: int, up: Mapping[str, nodes.NodeState]
    ) -> set[str]:
        """Return the images of the newest versions; the current and the previous one among them."""
        keep = max(keep, 2)
        here = {*self._archives.list(account), *(each for s in up.values() for each in s.kept)}
        if len(here) <= keep:
            # The history, which may be long, need not be read.
            return here
        current = self._ledger.current(account)
        kept = [] if current is None else [current.image_id]
        for version in self._ledger.history(account):
            if len(kept) >= keep:
                break
            if version.outcome is versions.Outcome.DEPLOYED and version.image_id not in kept:
                kept.append(version.image_id)
        return set(kept)


def _used(state: nodes.NodeState) -> set[str]:
    return {each for each in (state.image_id, state.running) if each is not None}


def _forget(node: nodes.Node, account: model.Account, images: Sequence[str]) -> list[str]:
    """Remove images from a node, and return which; those of which a container runs stay."""
    gone = []
    for image_id in images:
        with contextlib.suppress(exceptions.Busy):
            node.forget(account, image_id)
            gone.append(image_id)
    return gone
