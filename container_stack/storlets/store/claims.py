# SPDX-License-Identifier: Apache-2.0
"""Which accounts are enabled for storlets, as objects in the storlet manager's own account.

An object is named for a scope, what the runtime tells accounts apart by: two accounts that share
it would run in each other's image and sandbox. A disabled account keeps its scope, since nodes may
still have its image.
"""

import dataclasses
import time
from collections.abc import Iterator, Sequence

from container_stack import exceptions
from container_stack.storlets import model, objects
from container_stack.storlets.store import documents

CONTAINER = "storlet_accounts"
_KIND, _JSON = "storlet account", "application/json"


@dataclasses.dataclass(frozen=True, slots=True)
class Claim:
    """An account that is or was enabled.

    :param enabled: whether it is now.
    :param users: who was let into its images, as ACLs name them.
    :param since: seconds since 1970.
    """

    account: str
    scope: str
    enabled: bool
    users: Sequence[str]
    since: float


class Claims:
    """All of them.

    :param store: the storlet manager's own account, which no customer can write to.
    """

    def __init__(self, store: objects.ObjectStore) -> None:
        self._store = store

    def check(self, account: model.Account) -> Claim | None:
        """Return an account's claim, if it has one.

        :raises InvalidRequest: another account has its scope.
        """
        if account.name == self._store.account:
            raise exceptions.InvalidRequest(
                f"{account.name} is the storlet manager's own account, which can't be a customer's."
            )
        claim = self._read(account.scope)
        if claim is not None and claim.account != account.name:
            raise exceptions.InvalidRequest(
                f"{claim.account} is enabled already, and the runtime knows an account by "
                f"{model.SCOPE_LENGTH} characters only, {account.scope!r}: {account.name} would "
                f"run in the other one's image."
            )
        return claim

    def claim(self, account: model.Account, users: Sequence[str]) -> None:
        """Note that an account is enabled; idempotent.

        Two managers that do so at the same moment must be kept apart by a lock.

        :raises InvalidRequest: another account has its scope.
        """
        known = self.check(account)
        wanted = Claim(account.name, account.scope, True, tuple(users), time.time())
        if known is None:
            self._store.set_container(CONTAINER, {})
            try:
                self._write(wanted, new=True)
            except exceptions.AlreadyExists:
                self.check(account)
        elif (known.enabled, tuple(known.users)) != (True, wanted.users):
            self._write(wanted)

    def release(self, claim: Claim) -> None:
        """Note that an account isn't enabled any more."""
        self._write(dataclasses.replace(claim, enabled=False, users=(), since=time.time()))

    def all(self) -> Iterator[Claim]:
        """Yield all accounts that are or were enabled, by scope."""
        try:
            names = [each.name for each in self._store.list(CONTAINER)]
        except exceptions.NotFound:
            return
        for name in names:
            claim = self._read(name)
            if claim is not None:
                yield claim

    def _read(self, scope: str) -> Claim | None:
        read = documents.fetch(self._store, CONTAINER, scope, _KIND)
        if read is None:
            return None
        return Claim(
            read.text("account"),
            scope,
            read.flag("enabled"),
            read.texts("users"),
            read.seconds("since"),
        )

    def _write(self, claim: Claim, *, new: bool = False) -> None:
        content = {
            "account": claim.account,
            "enabled": claim.enabled,
            "users": list(claim.users),
            "since": claim.since,
        }
        data = documents.encode(_KIND, content)
        self._store.write(CONTAINER, claim.scope, data, size=len(data), content_type=_JSON, new=new)
