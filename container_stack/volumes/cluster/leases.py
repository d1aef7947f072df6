# SPDX-License-Identifier: Apache-2.0
"""The contract of who gives out leases, one a node."""

import abc
import dataclasses
from collections.abc import Mapping

from container_stack import exceptions


class LeaseLost(exceptions.ServiceUnavailable):
    """A lease has ended, so somebody else may have had it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Times:
    """The stations of a lease, in seconds since before it was asked for.

    From renewing to giving up three requests in a row may hang. The daemon has a fifth of the
    lease to end all use, and then the guard has two.

    :param lasts: the whole; another may have it from then on.
    """

    lasts: int

    @property
    def request(self) -> float:
        """What one request may take."""
        return self.lasts / 15

    @property
    def renew(self) -> float:
        """When it is renewed."""
        return self.lasts / 5

    @property
    def fence(self) -> float:
        """When the daemon ends all use."""
        return self.lasts * 2 / 5

    @property
    def guard(self) -> float:
        """When the guard does, and ends the daemon first."""
        return self.lasts * 3 / 5


class Leases(abc.ABC):
    """Leases by name. Whoever has one is known by a secret of his own; safe under threads.

    A lease lasts from some time in the call that took or renewed it, at least. Every call ends in
    bounded time, and may raise ServiceUnavailable: what was asked may or may not have happened,
    and asking again is harmless.
    """

    @property
    @abc.abstractmethod
    def times(self) -> Times:
        """How long they last."""

    @abc.abstractmethod
    def take(self, name: str, holder: str) -> None:
        """Take a lease that nobody has; who has it renews it.

        :raises Busy: another has it.
        """

    @abc.abstractmethod
    def renew(self, name: str, holder: str) -> None:
        """Let a lease last again as long as a new one.

        :raises LeaseLost: the holder has it no more.
        """

    @abc.abstractmethod
    def drop(self, name: str, holder: str) -> None:
        """Have a lease no more; idempotent. Another's isn't touched."""

    @abc.abstractmethod
    def holders(self) -> Mapping[str, str]:
        """Return who has what: holders by names."""
