# SPDX-License-Identifier: Apache-2.0
"""The right to change an account's image, which one manager at a time has.

:mod:`container_stack.drivers.storlet_lock` gives it out by tooz: in files, or in etcd.
"""

import contextlib
from collections.abc import Callable
from typing import Protocol

from container_stack import exceptions


class LeaseLost(exceptions.Busy):
    """Another manager may be at work on the account by now: nothing more may be changed."""


class Lease(Protocol):
    """The right, while one has it."""

    def check(self) -> None:
        """Return at once if we still have it; called before every step, from any thread.

        :raises LeaseLost: we haven't.
        """


#: Gives out the lease of a name for as long as the context lasts; raises Busy if it is taken.
Lock = Callable[[str], contextlib.AbstractContextManager[Lease]]
