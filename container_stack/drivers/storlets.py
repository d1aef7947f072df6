# SPDX-License-Identifier: Apache-2.0
"""Storlets: accounts' images, in Swift and on its nodes.

In an operator's own service::

    settings = storlets.Settings(gateway_conf="/etc/swift/storlet_docker_gateway.conf")
    credentials = swift.Credentials.from_environment()
    manager = storlets.ImageManager(settings, swift.Swift(credentials), who="nightly")
    manager.deploy(manager.account("AUTH_305f5f3d"), "ffmpeg.tar")

This module puts the parts of :mod:`container_stack.storlets` together and decides nothing.
"""

import functools
import os
from collections.abc import Sequence

from container_stack import exceptions
from container_stack.drivers import (
    storlet_images,
    storlet_lock,
    storlet_nodes,
    storlet_workbench,
    swift,
)
from container_stack.storlets import model, objects
from container_stack.storlets import nodes as node_interface
from container_stack.storlets import settings as plain
from container_stack.storlets.deployment import deployer as deployers
from container_stack.storlets.deployment import events, ledger, stored_images, versions
from container_stack.storlets.image import archive
from container_stack.storlets.store import accounts, claims
from container_stack.storlets.verification import report
from container_stack.storlets.verification import trial as trials

Settings = plain.Settings


class ImageManager:
    """Images of accounts, for whoever manages one account or all storlets.

    Nothing is contacted or read until it is used.

    :param store: the user's own account; a storlet manager's keeps the state of deployments.
    :param who: for the history.
    """

    def __init__(self, values: Settings, store: swift.Swift, *, who: str = "") -> None:
        self.settings = values
        self.store = store
        self.bench = storlet_workbench.Workbench(values)
        self.images = storlet_images.Images(values, store, self.bench)
        self._who = who

    @functools.cached_property
    def nodes(self) -> Sequence[node_interface.Node]:
        """All nodes.

        :raises InvalidRequest: the inventory can't be used.
        """
        return storlet_nodes.all_of(self.settings, self.bench.gateway)

    @functools.cached_property
    def deployer(self) -> deployers.Deployer:
        """What changes nodes.

        :raises InvalidRequest: the inventory can't be used.
        """
        values = self.settings
        return deployers.Deployer(
            self.store,
            self.nodes,
            storlet_lock.Locks(values.locks).hold,
            who=self._who,
            policy=values.rollout,
            push=self.bench.push_to(values.registry) if values.registry else None,
            archives=stored_images.StoredImages(self.store, values.segment_size),
        )

    def account(self, name: str | None = None) -> model.Account:
        """Return an account, the user's own unless one is named.

        :raises InvalidRequest: it can't have an image of its own.
        """
        return model.Account(name or self.store.account, self.settings.reseller_prefix)

    # Accounts -----------------------------------------------------------------------------

    def enable(
        self, account: model.Account, users: Sequence[str], *, dry_run: bool = False
    ) -> Sequence[accounts.Change]:
        """Make an account ready for storlets; see :func:`accounts.enable`.

        Who enables his own account has no say over scopes; a deployment checks those anyway.
        """
        return accounts.enable(
            self.images.of(account), self._claims(account), account, users, dry_run=dry_run
        )

    def disable(
        self, account: model.Account, *, dry_run: bool = False
    ) -> Sequence[accounts.Change]:
        """Let an account run no storlets any more; see :func:`accounts.disable`."""
        return accounts.disable(
            self.images.of(account), self._claims(account), account, dry_run=dry_run
        )

    def _claims(self, account: model.Account) -> claims.Claims | None:
        return None if account.name == self.store.account else claims.Claims(self.store)

    # Verifying and deploying --------------------------------------------------------------

    def verify(
        self,
        account: model.Account,
        name: str,
        *,
        trial: trials.Trial | None = None,
        java: bool = False,
        base_image: str | None = None,
        store_report: bool = False,
        progress: model.Progress = model.silent,
    ) -> report.Report:
        """Return what all checks say of an uploaded image.

        :param store_report: store the report beside it, too.
        """
        with self.images.fetched(account, name, progress) as (path, _found):
            made = self.bench.verify(
                path, account, base_image=base_image, trial=trial, java=java, progress=progress
            )
        if store_report:
            self.images.store_report(account, name, made)
        return made

    def deploy(
        self,
        account: model.Account,
        name: str,
        *,
        note: str = "",
        trial: trials.Trial | None = None,
        java: bool = False,
        store_report: bool = False,
        dry_run: bool = False,
        progress: model.Progress = model.silent,
        watcher: events.Watcher = events.unwatched,
    ) -> deployers.Result:
        """Verify an uploaded image, and let the account's storlets run in it on all nodes.

        If that object is what was deployed last, only nodes that have drifted are put right.

        :param dry_run: verify, and only plan.
        :raises ProbeFailed: it didn't pass its verification; nothing was changed.
        """
        claims.Claims(self.store).check(account)
        if not dry_run and self._is_current(account, name):
            return self.deployer.resume(account, watcher=watcher)
        with self.images.fetched(account, name, progress) as (path, found):
            made = self.bench.verify(path, account, trial=trial, java=java, progress=progress)
            if store_report:
                self.images.store_report(account, name, made)
            _check(made)
            with open(path, "rb") as file:
                size = os.fstat(file.fileno()).st_size
                image = archive.ImageArchive.open(file, size, self.settings.bounds)
                return self.deployer.deploy(
                    account,
                    image,
                    made,
                    source=_source(found),
                    note=note,
                    watcher=watcher,
                    dry_run=dry_run,
                )

    def _is_current(self, account: model.Account, name: str) -> bool:
        """Return whether an object is what all nodes should run, and nothing is under way."""
        books = ledger.Ledger(self.store)
        current = books.deployed(account)
        found = self.images.of(account).head(model.IMAGES, name)
        return (
            current is not None
            and current.source == _source(found)
            and books.deployment(account) is None
        )


def _source(found: objects.Object) -> versions.Source:
    return versions.Source(found.container, found.name, found.etag)


def _check(made: report.Report) -> None:
    failed = [each for each in made.findings if each.state is report.State.FAILED]
    if failed:
        text = "; ".join(f"{each.check}: {each.detail} {each.cure}" for each in failed)
        raise exceptions.ProbeFailed(f"The image didn't pass its verification. {text}")
