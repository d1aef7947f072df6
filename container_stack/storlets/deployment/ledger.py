# SPDX-License-Identifier: Apache-2.0
"""What the managers know of accounts' images, as objects in the storlet manager's own account.

Below the name of an account's scope, in the container :data:`CONTAINER`::

    account             whose scope it is, since two accounts could have the same
    current             which version all nodes should run
    deployment          the deployment that is under way; there is none at other times
    versions/00000007   a version, with its report; written once

Nothing that is in an account of a customer is ever read as state. A write is whole or not at all,
and what must not be written twice is written only if it isn't there.
"""

import dataclasses
import secrets
from collections.abc import Iterator
from typing import Any

from container_stack import exceptions
from container_stack.storlets import model, objects
from container_stack.storlets.deployment import leases, ledger_json, versions
from container_stack.storlets.store import claims, documents

CONTAINER = "storlet_deployments"

_VERSIONS = "versions/"
_JSON = "application/json"


class Ledger:
    """The state of all accounts.

    :param store: the storlet manager's own account.
    """

    def __init__(self, store: objects.ObjectStore) -> None:
        self._store = store

    def check(self, account: model.Account) -> None:
        """See that no other account has this one's scope.

        :raises InvalidRequest: another one has: both would run in the same image and sandbox; or
            it is the manager's own: what a customer can write would be taken for state.
        """
        claims.Claims(self._store).check(account)
        claim = self._read(account, "account")
        if claim is not None and claim.text("name") != account.name:
            raise exceptions.InvalidRequest(
                f"{claim.text('name')} has the scope {account.scope} already, so {account.name} "
                f"can't have an image: the runtime couldn't tell them apart."
            )

    def accounts(self) -> Iterator[model.Account]:
        """Yield the accounts that ever had an image deployed."""
        for name in self._names(""):
            scope, _, rest = name.partition("/")
            if rest == "account":
                claim = documents.fetch(self._store, CONTAINER, name, "account")
                if claim is not None:
                    yield _account(claim, scope)

    def current(self, account: model.Account) -> versions.Current | None:
        """Return what the account's nodes should run; None if it never had an image."""
        document = self._read(account, "current")
        return None if document is None else ledger_json.read_current(document)

    def version(self, account: model.Account, number: int) -> versions.Version:
        """Return a version.

        :raises NotFound: there is none of this number.
        """
        document = self._read(account, f"{_VERSIONS}{number:08d}", "version")
        if document is None:
            raise exceptions.NotFound(f"{account.name} has no version {number}.")
        return ledger_json.read_version(document)

    def deployed(self, account: model.Account) -> versions.Version | None:
        """Return the version that the account's nodes should run."""
        current = self.current(account)
        return None if current is None else self.version(account, current.number)

    def before_current(self, account: model.Account) -> versions.Version:
        """Return the version that was deployed before the current one, rollbacks left out.

        :raises NotFound: there is none.
        """
        current = self.deployed(account)
        if current is not None:
            for each in self.history(account, below=current.origin):
                deployed = each.outcome is versions.Outcome.DEPLOYED
                if deployed and each.restores is None and each.image_id != current.image_id:
                    return each
        raise exceptions.NotFound(f"{account.name} has no version before the current one.")

    def history(
        self, account: model.Account, below: int | None = None
    ) -> Iterator[versions.Version]:
        """Yield versions, failed ones too, the newest first.

        :param below: only those with a lower number.
        """
        for number in reversed(self._numbers(account)):
            if below is None or number < below:
                yield self.version(account, number)

    def deployment(self, account: model.Account) -> versions.Deployment | None:
        """Return the deployment that is under way, or that nobody has finished."""
        document = self._read(account, "deployment")
        return None if document is None else ledger_json.read_deployment(document)

    def begin(self, account: model.Account, deployment: versions.Deployment) -> versions.Deployment:
        """Store that a deployment begins, and return it with its version's number.

        :raises Busy: another one isn't finished.
        """
        self._store.set_container(CONTAINER, {})
        self._claim(account)
        current = self.current(account)
        number = max([0 if current is None else current.number, *self._numbers(account)]) + 1
        numbered = dataclasses.replace(
            deployment,
            token=secrets.token_hex(8),
            version=dataclasses.replace(deployment.version, number=number),
        )
        try:
            self._write_deployment(account, numbered, new=True)
        except exceptions.AlreadyExists as exc:
            # A client that tries again after a lost answer meets what it has written itself.
            if self.deployment(account) != numbered:
                raise exceptions.Busy(
                    f"Another deployment of {account.name} isn't finished."
                ) from exc
        return numbered

    def take_over(
        self, account: model.Account, deployment: versions.Deployment
    ) -> versions.Deployment:
        """Make a deployment this manager's, and return it; whoever had it can't go on."""
        taken = dataclasses.replace(deployment, token=secrets.token_hex(8))
        self._write_deployment(account, taken)
        return taken

    def save(self, account: model.Account, deployment: versions.Deployment) -> None:
        """Store how far a deployment has come.

        :raises LeaseLost: another manager has taken it over.
        """
        self._check_mine(account, deployment)
        self._write_deployment(account, deployment)

    def is_committed(self, account: model.Account, deployment: versions.Deployment) -> bool:
        """Return whether a manager died when only :meth:`commit` was left to be finished."""
        try:
            return self.version(account, deployment.version.number) == deployment.version
        except exceptions.NotFound:
            return False

    def commit(self, account: model.Account, deployment: versions.Deployment) -> versions.Version:
        """Make a deployment's version the current one, end it, and return the version.

        Repeated after a crash it goes on where it was.

        :raises LeaseLost: another manager has taken it over.
        """
        self._check_mine(account, deployment)
        version = self._add(account, deployment.version)
        current = versions.Current(version.number, version.image_id, version.when)
        self._write(account, "current", ledger_json.write_current(current))
        self._store.remove(CONTAINER, self._name(account, "deployment"))
        return version

    def abandon(self, account: model.Account, deployment: versions.Deployment, why: str) -> None:
        """Put into the history that a deployment failed, and end it.

        :raises LeaseLost: another manager has taken it over.
        """
        self._check_mine(account, deployment)
        failed = dataclasses.replace(deployment.version, outcome=versions.Outcome.FAILED, error=why)
        self._add(account, failed)
        self._store.remove(CONTAINER, self._name(account, "deployment"))

    def _claim(self, account: model.Account) -> None:
        claim = {"name": account.name, "prefix": account.prefix}
        try:
            self._write(account, "account", claim, new=True)
        except exceptions.AlreadyExists:
            self.check(account)

    def _add(self, account: model.Account, version: versions.Version) -> versions.Version:
        """Store a version, under the next number where lists of Swift's were behind."""
        while True:
            try:
                self._write(
                    account,
                    f"{_VERSIONS}{version.number:08d}",
                    ledger_json.write_version(version),
                    kind="version",
                    new=True,
                )
            except exceptions.AlreadyExists:
                if self.version(account, version.number) == version:
                    return version
                version = dataclasses.replace(version, number=version.number + 1)
            else:
                return version

    def _check_mine(self, account: model.Account, deployment: versions.Deployment) -> None:
        stored = self.deployment(account)
        if stored is None or stored.token != deployment.token:
            raise leases.LeaseLost(
                f"Another manager has taken over the deployment of {account.name}; "
                f"look at its status."
            )

    def _write_deployment(
        self, account: model.Account, deployment: versions.Deployment, *, new: bool = False
    ) -> None:
        self._write(account, "deployment", ledger_json.write_deployment(deployment), new=new)

    def _write(
        self,
        account: model.Account,
        what: str,
        content: dict[str, Any],
        *,
        kind: str = "",
        new: bool = False,
    ) -> None:
        data = documents.encode(kind or what, {"account": account.name, **content})
        name = self._name(account, what)
        self._store.write(CONTAINER, name, data, size=len(data), content_type=_JSON, new=new)

    def _read(self, account: model.Account, what: str, kind: str = "") -> documents.Document | None:
        name = self._name(account, what)
        found = documents.fetch(self._store, CONTAINER, name, kind or what)
        if found is not None and what != "account" and found.text("account") != account.name:
            raise found.corrupt(f"isn't about {account.name}")
        return found

    def _numbers(self, account: model.Account) -> list[int]:
        names = self._names(self._name(account, _VERSIONS))
        ends = [name.rpartition("/")[2] for name in names]
        return sorted(int(end) for end in ends if end.isdecimal())

    def _names(self, prefix: str) -> Iterator[str]:
        try:
            for each in self._store.list(CONTAINER, prefix):
                yield each.name
        except exceptions.NotFound:
            return

    @staticmethod
    def _name(account: model.Account, what: str) -> str:
        return f"{account.scope}/{what}"


def _account(claim: documents.Document, scope: str) -> model.Account:
    try:
        account = model.Account(claim.text("name"), claim.text("prefix"))
    except exceptions.InvalidRequest as exc:
        raise claim.corrupt("names no account") from exc
    if account.scope != scope:
        raise claim.corrupt("is of another account")
    return account
