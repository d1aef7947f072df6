# SPDX-License-Identifier: Apache-2.0
"""The suite of who gives out leases, and a fake that passes it."""

import concurrent.futures
import threading
from collections.abc import Callable, Mapping

import pytest

from container_stack import exceptions
from container_stack.volumes.cluster import leases

Open = Callable[[], leases.Leases]
#: Lets so many seconds pass.
Wait = Callable[[float], None]


class MemoryLeases(leases.Leases):
    """Leases of one process, with a clock of their own."""

    def __init__(self, times: leases.Times) -> None:
        self._times = times
        self._now = 0.0
        self._lock = threading.Lock()
        self._held: dict[str, tuple[str, float]] = {}

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        with self._lock:
            self._now += seconds

    @property
    def times(self) -> leases.Times:
        return self._times

    def take(self, name: str, holder: str) -> None:
        with self._lock:
            if self._living().get(name, holder) != holder:
                raise exceptions.Busy(f"Another has the lease of {name}.")
            self._held[name] = (holder, self._now + self._times.lasts)

    def renew(self, name: str, holder: str) -> None:
        with self._lock:
            if self._living().get(name) != holder:
                raise leases.LeaseLost(f"The lease of {name} has ended.")
            self._held[name] = (holder, self._now + self._times.lasts)

    def drop(self, name: str, holder: str) -> None:
        with self._lock:
            if self._living().get(name) == holder:
                del self._held[name]

    def holders(self) -> Mapping[str, str]:
        with self._lock:
            return self._living()

    def _living(self) -> dict[str, str]:
        return {name: holder for name, (holder, end) in self._held.items() if end > self._now}


class LeaseContract:
    """What all leases must do.

    Supply the fixtures ``open_leases``, each call of which is another host's way to the same
    leases, and ``wait``.
    """

    @pytest.fixture
    def here(self, open_leases: Open) -> leases.Leases:
        return open_leases()

    @pytest.fixture
    def there(self, open_leases: Open) -> leases.Leases:
        return open_leases()

    def test_a_lease_is_ones_own_until_it_is_dropped(
        self, here: leases.Leases, there: leases.Leases
    ) -> None:
        here.take("n1", "h1")
        here.take("n1", "h1")
        with pytest.raises(exceptions.Busy):
            there.take("n1", "h2")
        there.drop("n1", "h2")
        there.take("n2", "h2")
        assert there.holders() == {"n1": "h1", "n2": "h2"}
        here.drop("n1", "h1")
        here.drop("n1", "h1")
        there.take("n1", "h2")
        assert here.holders() == {"n1": "h2", "n2": "h2"}

    def test_what_is_not_ones_own_is_not_renewed(
        self, here: leases.Leases, there: leases.Leases
    ) -> None:
        with pytest.raises(leases.LeaseLost):
            here.renew("n1", "h1")
        there.take("n1", "h2")
        with pytest.raises(leases.LeaseLost):
            here.renew("n1", "h1")
        assert here.holders() == {"n1": "h2"}

    def test_a_renewed_lease_lasts_as_long_as_a_new_one(
        self, here: leases.Leases, there: leases.Leases, wait: Wait
    ) -> None:
        here.take("n1", "h1")
        for _each in range(4):
            wait(here.times.lasts / 2)
            here.renew("n1", "h1")
            with pytest.raises(exceptions.Busy):
                there.take("n1", "h2")

    def test_a_lease_that_nobody_renews_ends(
        self, here: leases.Leases, there: leases.Leases, wait: Wait
    ) -> None:
        here.take("n1", "h1")
        here.take("n2", "h1")
        wait(here.times.lasts * 2)
        there.take("n1", "h2")
        for name in ("n1", "n2"):
            with pytest.raises(leases.LeaseLost):
                here.renew(name, "h1")
        with pytest.raises(exceptions.Busy):
            here.take("n1", "h1")

    def test_of_many_who_take_one_gets_it(self, open_leases: Open) -> None:
        everybody = [(open_leases(), f"h{number}") for number in range(6)]

        def take(one: tuple[leases.Leases, str]) -> str:
            try:
                one[0].take("n1", one[1])
            except (exceptions.Busy, exceptions.ServiceUnavailable):
                return ""
            return one[1]

        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            got = [holder for holder in pool.map(take, everybody) if holder]
        assert len(got) == 1
        assert everybody[0][0].holders() == {"n1": got[0]}
