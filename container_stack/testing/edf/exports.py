# SPDX-License-Identifier: Apache-2.0
"""How a simulated array shows its volumes to initiators."""

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from container_stack.host import attach


class Exports(Protocol):
    """Targets, by name (IQN). Every method is idempotent."""

    @property
    def guarded(self) -> bool:
        """Whether only who may log in gets at a volume."""

    @property
    def portals(self) -> tuple[str, ...]:
        """Where they are logged in to."""

    def start(self) -> None:
        """Begin to serve."""

    def stop(self) -> None:
        """End all sessions, and leave nothing."""

    def export(
        self,
        iqn: str,
        file: Path,
        *,
        initiators: Iterable[str] | None,
        chap: attach.Chap | None,
        writable: bool = True,
    ) -> None:
        """Let exactly these initiators log in, or all if None; cut whoever no longer may."""

    def withdraw(self, iqn: str) -> None:
        """End a target with its sessions."""

    def grew(self, iqn: str) -> None:
        """Show the size that the file has now."""

    def sessions(self, iqn: str) -> list[str]:
        """Return the names of the initiators that are logged in, one for each session."""

    def lose_portal(self, index: int) -> None:
        """Cut a portal's connections and refuse new ones."""

    def restore_portal(self, index: int) -> None:
        """Let it answer again."""


class NoExports:
    """No targets at all: volumes are reached as files."""

    guarded = False
    portals = ("127.0.0.1:3260", "127.0.0.2:3260")

    def start(self) -> None:
        """Do nothing, as everywhere here."""

    def stop(self) -> None: ...

    def export(
        self,
        iqn: str,
        file: Path,
        *,
        initiators: Iterable[str] | None,
        chap: attach.Chap | None,
        writable: bool = True,
    ) -> None: ...

    def withdraw(self, iqn: str) -> None: ...

    def grew(self, iqn: str) -> None: ...

    def sessions(self, iqn: str) -> list[str]:
        """Return nobody: who opens a file doesn't log in."""
        return []

    def lose_portal(self, index: int) -> None: ...

    def restore_portal(self, index: int) -> None: ...
