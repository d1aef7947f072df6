# SPDX-License-Identifier: Apache-2.0
"""An account's image on all nodes: deploy, roll back, resume, and look after it."""

import dataclasses
import time
from collections.abc import Iterator, Sequence

from container_stack import exceptions
from container_stack.storlets import model, nodes, objects, settings
from container_stack.storlets.deployment import (
    collect,
    events,
    fleet,
    leases,
    ledger,
    planning,
    rollout,
    status,
    stored_images,
    supply,
    versions,
)
from container_stack.storlets.verification import report


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """What a call has done.

    :param changed: it has changed a node, or what is recorded.
    :param version: the version that nodes should run now; None if none was ever deployed.
    :param plan: what had to be done; None where nothing was planned.
    :param undone: nodes were put back to what they had.
    :param unfinished: nodes that aren't as they should be, and why.
    """

    changed: bool
    version: versions.Version | None = None
    plan: planning.Plan | None = None
    undone: bool = False
    unfinished: dict[str, str] = dataclasses.field(default_factory=dict)


class Deployer:
    """Changes accounts' images on all nodes, one deployment per account at a time.

    Every manager with the same store and nodes can go on with what another one has begun.

    :param store: the storlet manager's own account.
    :param lock: gives out the right to change an account, by its scope.
    :param who: the operator, for the history.
    :param push: brings images to nodes by a registry instead of sending them archives.
    :param archives: keeps images for rollbacks and for nodes to come; in the store by default.
    """

    def __init__(
        self,
        store: objects.ObjectStore,
        members: Sequence[nodes.Node],
        lock: leases.Lock,
        *,
        who: str,
        policy: settings.Rollout | None = None,
        push: supply.Push | None = None,
        archives: supply.Archives | None = None,
    ) -> None:
        self._policy = policy or settings.Rollout()
        self._ledger = ledger.Ledger(store)
        self._fleet = fleet.Fleet(members, self._policy.concurrency)
        self._lock = lock
        self._archives = archives or stored_images.StoredImages(store)
        self._who = who
        self._push = push
        self._collector = collect.Collector(self._ledger, self._fleet, lock, self._archives)

    def deploy(
        self,
        account: model.Account,
        image: versions.Image,
        verified: report.Report,
        *,
        source: versions.Source | None = None,
        note: str = "",
        watcher: events.Watcher = events.unwatched,
        dry_run: bool = False,
    ) -> Result:
        """Let the account's storlets run in an image on all nodes; nothing if they do.

        :param verified: the report on that image, for this account.
        :param dry_run: only plan.
        :raises InvalidRequest: the image wasn't verified for this account.
        :raises Busy: a deployment is under way, or unfinished.
        :raises HostNotReady: a node can't take the image; nothing was changed.
        :raises EngineUnavailable: too many nodes are down; nothing was changed.
        :raises RolloutFailed: nodes are back at what they had.
        :raises LeaseLost: another manager goes on with it.
        """
        _check_report(verified, account, image.image_id)
        layers = tuple(versions.Layer(each.diff_id, each.size) for each in image.layers)
        version = versions.Version(
            0, image.image_id, self._who, time.time(), layers, verified, source, note
        )
        return self._change(account, version, image, watcher, dry_run)

    def rollback(
        self,
        account: model.Account,
        number: int | None = None,
        *,
        note: str = "",
        watcher: events.Watcher = events.unwatched,
        dry_run: bool = False,
    ) -> Result:
        """Bring an earlier version back to all nodes, as a version of its own.

        Errors are as of :meth:`deploy`, and these:

        :param number: which; None is the one that was deployed before the current one.
        :raises NotFound: there is no such version.
        :raises InvalidRequest: that version failed when it was deployed.
        """
        earlier = self._earlier(account, number)
        if earlier.outcome is not versions.Outcome.DEPLOYED:
            raise exceptions.InvalidRequest(
                f"Version {earlier.number} of {account.name} failed: {earlier.error}"
            )
        version = dataclasses.replace(
            earlier, who=self._who, when=time.time(), note=note, restores=earlier.origin, skipped=()
        )
        return self._change(account, version, None, watcher, dry_run)

    def resume(
        self,
        account: model.Account,
        *,
        undo: bool = False,
        watcher: events.Watcher = events.unwatched,
    ) -> Result:
        """Finish what a manager that died, or nodes that were down, have left; idempotent.

        Errors are as of :meth:`deploy`.

        :param undo: don't go on with a deployment, but put the nodes back to what they had; of no
            effect when only the end of it hadn't been recorded.
        """
        self._ledger.check(account)
        with self._lock(account.scope) as lease:
            way = rollout.Rollout(account, self._fleet, self._ledger, lease, watcher)
            left = self._ledger.deployment(account)
            if left is None:
                return self._repair(account, way, watcher)
            left = self._ledger.take_over(account, left)
            if self._ledger.is_committed(account, left):
                return Result(True, self._ledger.commit(account, left))
            if undo or not self._can_go_on(account, left):
                unfinished = way.undo(left, "Its manager died, or it was undone by hand.")
                return Result(
                    True, self._ledger.deployed(account), undone=True, unfinished=unfinished
                )
            return self._go_on(account, left, way, watcher)

    def history(self, account: model.Account) -> Iterator[versions.Version]:
        """Yield all versions, failed ones too, the newest first."""
        self._ledger.check(account)
        return self._ledger.history(account)

    def status(
        self, account: model.Account, watcher: events.Watcher = events.unwatched
    ) -> status.Status:
        """Return how every node stands, compared with how it should; :meth:`resume` cures it."""
        self._ledger.check(account)
        return status.look(account, self._ledger, self._fleet, watcher)

    def gc(
        self,
        account: model.Account | None = None,
        *,
        keep: int | None = None,
        watcher: events.Watcher = events.unwatched,
        dry_run: bool = False,
    ) -> Iterator[collect.Collected]:
        """Remove images of old versions from nodes and from Swift, for one account or for all.

        :param keep: versions that stay; the operator's policy if not given.
        :raises Busy: this one account's deployment is under way or unfinished.
        """
        return self._collector.run(
            account, self._policy.keep if keep is None else keep, watcher, dry_run=dry_run
        )

    def _change(
        self,
        account: model.Account,
        version: versions.Version,
        image: versions.Image | None,
        watcher: events.Watcher,
        dry_run: bool,
    ) -> Result:
        self._ledger.check(account)
        if dry_run:
            return Result(
                False, self._ledger.deployed(account), self._plan(account, version, watcher)
            )
        with self._lock(account.scope) as lease:
            self._check_free(account)
            wanted = self._plan(account, version, watcher)
            wanted.check()
            current = self._ledger.deployed(account)
            if not wanted.nodes and current and current.image_id == version.image_id:
                return Result(False, current, wanted)
            way = rollout.Rollout(account, self._fleet, self._ledger, lease, watcher)
            begun = self._ledger.begin(account, wanted.begin(version))
            made = self._run(account, begun, wanted, way, image)
            self._collector.tidy(account, self._policy.keep, lease, watcher)
            return Result(True, made, wanted)

    def _run(
        self,
        account: model.Account,
        begun: versions.Deployment,
        wanted: planning.Plan,
        way: rollout.Rollout,
        image: versions.Image | None = None,
    ) -> versions.Version:
        with supply.Supply(account, begun.version, self._archives, self._push, image) as source:
            return way.go(begun, wanted, source)

    def _go_on(
        self,
        account: model.Account,
        left: versions.Deployment,
        way: rollout.Rollout,
        watcher: events.Watcher,
    ) -> Result:
        wanted = self._plan(account, left.version, watcher)
        wanted.check(left.version.skipped)
        left = wanted.go_on(left)
        self._ledger.save(account, left)
        way.sweep()
        made = self._run(account, left, wanted, way)
        return Result(True, made, wanted)

    def _repair(
        self, account: model.Account, way: rollout.Rollout, watcher: events.Watcher
    ) -> Result:
        version = self._ledger.deployed(account)
        if version is None:
            return Result(False)
        wanted = self._plan(account, version, watcher)
        way.sweep()
        with supply.Supply(account, version, self._archives, self._push) as source:
            failed = way.repair(wanted.nodes, version, source)
        unfinished = {**wanted.down, **wanted.unready, **failed}
        return Result(bool(wanted.nodes), version, wanted, unfinished=unfinished)

    def _plan(
        self, account: model.Account, version: versions.Version, watcher: events.Watcher
    ) -> planning.Plan:
        return planning.make(
            account, version.image_id, version.layers, self._fleet, self._policy, watcher
        )

    def _check_free(self, account: model.Account) -> None:
        left = self._ledger.deployment(account)
        if left is not None:
            raise exceptions.Busy(
                f"Version {left.version.number} of {account.name}, begun by {left.version.who}, "
                f"isn't finished ({left.phase}): resume it first."
            )

    def _can_go_on(self, account: model.Account, left: versions.Deployment) -> bool:
        if left.phase is versions.Phase.STAGING:
            return self._archives.has(account, left.version.image_id)
        return left.phase is versions.Phase.SWITCHING

    def _earlier(self, account: model.Account, number: int | None) -> versions.Version:
        self._ledger.check(account)
        if number is None:
            return self._ledger.before_current(account)
        return self._ledger.version(account, number)


def _check_report(verified: report.Report, account: model.Account, image_id: str) -> None:
    if not verified.passed:
        raise exceptions.InvalidRequest(
            f"The image for {account.name} hasn't passed its verification, so it isn't deployed."
        )
    if (verified.account, verified.image_id) != (account.name, image_id):
        raise exceptions.InvalidRequest(
            f"The report is about {verified.image_id} for {verified.account}, and not about "
            f"{image_id} for {account.name}: verify that one."
        )
