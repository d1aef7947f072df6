# SPDX-License-Identifier: Apache-2.0
"""One target as it is to be, in tgt's terms."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path

from container_stack import exceptions
from container_stack.host import attach

#: User, secret, and whether it is the target who shows that it knows the secret.
Account = tuple[str, str, bool]


@dataclasses.dataclass(frozen=True, slots=True)
class Export:
    """A target.

    :param tid: tgt's number of it.
    :param initiators: who may log in; None: everybody.
    """

    tid: int
    file: Path
    initiators: frozenset[str] | None = frozenset()
    chap: attach.Chap | None = None
    writable: bool = True

    @property
    def rules(self) -> set[str]:
        """The access rules that let its initiators log in."""
        if self.initiators is None:
            return {"initiator-address=ALL"}
        return {f"initiator-name={name}" for name in self.initiators}

    @property
    def accounts(self) -> set[Account]:
        """The accounts that its CHAP needs."""
        if self.chap is None:
            return set()
        found = {(self.chap.user, self.chap.secret, False)}
        if self.chap.mutual_user:
            found.add((self.chap.mutual_user, self.chap.mutual_secret, True))
        return found


def check(wanted: Export, others: Iterable[Export]) -> None:
    """Raise InvalidRequest if tgt can't express a target beside the others."""
    if "," in str(wanted.file):
        raise exceptions.InvalidRequest(f"tgt can't use {wanted.file}: there is a comma in it.")
    secrets: dict[str, str] = {}
    for each in (*others, wanted):
        for user, secret, _outgoing in each.accounts:
            if "," in user:
                raise exceptions.InvalidRequest("tgt can't use a CHAP user with a comma.")
            if secrets.setdefault(user, secret) != secret:
                raise exceptions.InvalidRequest(
                    f"tgt can't have two secrets of the CHAP user {user!r}."
                )
