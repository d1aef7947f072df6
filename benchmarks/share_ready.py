# SPDX-License-Identifier: Apache-2.0
"""From nothing to a written file: server, share, rule, login, write.

The floor is the engine's: create and start the same container until port 445 answers. Both use a
network that exists.
"""

import itertools
from collections.abc import Iterator

from benchmarks import harness, shares

ROUNDS = 9


def run() -> Iterator[harness.Claim]:
    """Measure and yield the claim."""
    with shares.bench() as made, shares.standing_network(made) as network:
        numbers = itertools.count(10)
        plain: list[int] = []

        def floor() -> None:
            plain.append(next(numbers))
            shares.plain_container(made, network, plain[-1])

        def ours() -> None:
            number = next(numbers)
            server = made.shares.create_server(made.spec(number))
            share = made.shares.create(f"bench-{number}", server.id, shares.SIZE)
            passwords = made.shares.set_rules(share.id, [shares.ALICE])
            shares.write_first(share, passwords["alice"])

        try:
            ours()
            bare, ready = harness.medians(ROUNDS, floor, ours)
        finally:
            for number in plain:
                shares.remove_plain(made, number)
    detail = f"container {harness.ms(bare)}, share {harness.ms(ready)}"
    yield harness.Claim("share ready / container ready", ready / bare, 2.0, True, detail)
