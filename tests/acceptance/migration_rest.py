# SPDX-License-Identifier: Apache-2.0
"""A small client of Manila's REST API for an administrator who migrates shares and servers."""

from collections.abc import Mapping
from typing import Any

from . import rest

_COPIED = "migration_driver_phase1_done"
#: Seconds; a server's shares move one after another.
_PATIENCE = 240.0
_ENDED = ("migration_success", "migration_error", "migration_cancelled")


class Migrations:
    """Migrations of shares, or of share servers.

    :param client: its user is an administrator.
    :param kind: ``share`` or ``share_server``.
    """

    def __init__(self, client: rest.Client, kind: str) -> None:
        self._client = client
        self._kind = kind
        self._path = f"{kind.replace('_', '-')}s"

    def start(self, moved: str, host: str, **more: object) -> None:
        """Ask for a migration to ``host@backend#pool``; clients write on."""
        asked = {"host": host, "writable": True, "nondisruptive": False, **more}
        if self._kind == "share":
            asked = {"preserve_metadata": True, "preserve_snapshots": False, **asked}
        else:
            asked = {"preserve_snapshots": False, **asked}
        self.act(moved, migration_start=asked)

    def copied(self, moved: str) -> None:
        """Wait until the first phase is done."""
        state = self._wait(moved, (_COPIED, *_ENDED))
        assert state == _COPIED, f"{state}\n{self._client.messages(moved)}"

    def ended(self, moved: str) -> str:
        """Wait until it has ended, and return how."""
        return self._wait(moved, _ENDED)

    def progress(self, moved: str) -> Mapping[str, Any]:
        """Return how far the first phase has come."""
        if self._kind == "share":
            answer = self._client.call("GET", f"shares/{moved}/migration-progress")
        else:
            answer = self.act(moved, migration_get_progress=None)
        found: Mapping[str, Any] = answer
        return found

    def complete(self, moved: str) -> str:
        """Ask for the second phase, wait until it has ended, and return how."""
        self.act(moved, migration_complete=None)
        return self.ended(moved)

    def cancel(self, moved: str) -> str:
        """Give it up, wait until that has been done, and return how it ended."""
        self.act(moved, migration_cancel=None)
        return self.ended(moved)

    def act(self, moved: str, **action: Mapping[str, object] | None) -> Any:
        """Ask for an action, and return its answer."""
        return self._client.call("POST", f"{self._path}/{moved}/action", action)

    def _wait(self, moved: str, states: tuple[str, ...]) -> str:
        def probe() -> str | None:
            found = self._client.call("GET", f"{self._path}/{moved}")[self._kind]["task_state"]
            return found if found in states else None

        return self._client.wait(f"the migration of {moved}", probe, _PATIENCE)
