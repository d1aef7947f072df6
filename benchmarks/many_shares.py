# SPDX-License-Identifier: Apache-2.0
"""Fifty shares on eight servers by eight threads, against as many bare containers.

The floor is the engine's throughput: create and start a container until port 445 answers. Ours
counts a share as one thing made, rule and first write included, and servers as none.
"""

from collections.abc import Iterator
from concurrent import futures

from benchmarks import harness, shares

SERVERS, SHARES, THREADS = 8, 50, 8


def run() -> Iterator[harness.Claim]:
    """Measure and yield the claim."""
    with shares.bench() as made, shares.standing_network(made) as network:
        plain = range(100, 100 + SHARES)
        with futures.ThreadPoolExecutor(THREADS) as pool:

            def containers() -> None:
                list(pool.map(lambda n: shares.plain_container(made, network, n), plain))

            try:
                floor = SHARES / harness.timed(containers)
            finally:
                list(pool.map(lambda n: shares.remove_plain(made, n), plain))

            def ours() -> None:
                specs = [made.spec(10 + number) for number in range(SERVERS)]
                list(pool.map(made.shares.create_server, specs))
                list(pool.map(lambda n: _share(made, n), range(SHARES)))

            rate = SHARES / harness.timed(ours)
    detail = f"containers {floor:.1f}/s, shares {rate:.1f}/s"
    yield harness.Claim(
        "shares per second / containers per second", rate / floor, 0.7, False, detail
    )


def _share(made: shares.Bench, number: int) -> None:
    share = made.shares.create(f"bench-{number}", f"bench-{10 + number % SERVERS}", shares.SIZE)
    passwords = made.shares.set_rules(share.id, [shares.ALICE])
    shares.write_first(share, passwords["alice"])
