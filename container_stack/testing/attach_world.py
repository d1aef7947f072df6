# SPDX-License-Identifier: Apache-2.0
"""What the suite of attachers stands on: targets that can be made, grown, hidden and cut off."""

import abc

import pytest

from container_stack.host import attach

MIB = 1024**2

#: What a world may be able to do; the suite skips what it doesn't claim.
#: Only initiators of a list may log in.
ACCESS = "access"
#: Targets ask for a secret; and may prove that they know one.
CHAP, MUTUAL_CHAP = "chap", "mutual-chap"
#: Targets have two portals, each of which can be cut off.
PORTALS = "portals"


class World(abc.ABC):
    """Targets, and one way to attach them.

    :cvar capabilities: what of the above this world can do.
    """

    capabilities: frozenset[str] = frozenset()

    def need(self, capability: str) -> None:
        """Skip the test that runs if this world doesn't claim a capability."""
        if capability not in self.capabilities:
            pytest.skip(f"this world doesn't claim {capability}")

    @abc.abstractmethod
    def attacher(self, *, initiator: str = "", timeout: float = 30.0) -> attach.Attacher:
        """Return a new attacher; see :class:`container_stack.host.attach.Options`."""

    @abc.abstractmethod
    def make(self, name: str, size: int, *, chap: attach.Chap | None = None) -> attach.Target:
        """Make a volume of ``size`` bytes, all zero, that every initiator may use.

        :param chap: what the target asks for, and answers when it has ``mutual_*``.
        """

    @abc.abstractmethod
    def grow(self, target: attach.Target, size: int) -> None:
        """Let a volume be larger, as an array does it while the volume is attached."""

    @abc.abstractmethod
    def missing(self) -> attach.Target:
        """Return a target that doesn't exist, at portals that answer."""

    def admit(self, target: attach.Target, initiators: tuple[str, ...]) -> None:
        """Let only these initiators log in. For ACCESS."""
        raise NotImplementedError

    def lose_portal(self, target: attach.Target, number: int) -> None:
        """Cut a portal's connections, and refuse new ones. For PORTALS."""
        raise NotImplementedError

    def regain_portal(self, target: attach.Target, number: int) -> None:
        """Let a lost portal answer again. For PORTALS."""
        raise NotImplementedError
