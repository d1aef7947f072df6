# SPDX-License-Identifier: Apache-2.0
"""A host with a thousand servers: what Nova asks of it again and again, and what a boot costs.

The servers are created and never started, as the engine's list costs the same then.
"""

import itertools
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent import futures

from benchmarks import harness, servers
from container_stack.servers import assembly, model, standing

MANY, FEW, ROUNDS, BOOTS = 1000, 10, 15, 32
#: The engine makes the thousand fastest so.
_WORKERS = 8


def run() -> Iterator[harness.Claim]:
    """Measure and yield the claims."""
    with servers.bench() as made:
        yield from _boots(made)
        yield from _many(made)


def _many(made: servers.Bench) -> Iterator[harness.Claim]:
    count = 50 if harness.smoke else MANY
    _create(made, FEW)
    few = _ask(made.service)
    _create(made, count - FEW)
    known = len(made.service.servers.list())
    if known != count:
        raise RuntimeError(f"{known} servers are listed, not {count}.")
    for (name, calls_few, _), (_, calls, seconds) in zip(few, _ask(made.service), strict=True):
        yield harness.Claim(
            f"engine calls of a {name} with 1,000 servers / with {FEW}",
            calls / calls_few,
            1.0,
            True,
            f"{calls} / {calls_few}",
        )
        detail = f"{harness.ms(seconds)} for {count} servers"
        yield harness.Claim(f"{name} of 1,000 servers / 0.5 s", seconds / 0.5, 1.0, True, detail)


def _ask(service: assembly.Service) -> list[tuple[str, int, float]]:
    """Return the calls and seconds of each question that Nova repeats."""
    ids = [each.id for each in service.servers.list()]

    def sync() -> None:
        known = standing.Standing(service.servers.list, service.servers.get)
        for each in ids:
            known.state(each)

    questions: dict[str, Callable[[], object]] = {
        "power sync": sync,
        "list": service.servers.list,
        "resource audit": service.engine.info,
    }
    found = []
    for name, ask in questions.items():
        calls = _calls(ask)
        [seconds] = harness.medians(3, ask)
        found.append((name, calls, seconds))
    return found


def _boots(made: servers.Bench) -> Iterator[harness.Claim]:
    """Compare a boot with what the engine itself does on the same kind of network."""
    rounds = 3 if harness.smoke else ROUNDS
    plans = [made.plan(port=True) for _ in range(rounds + 1)]
    queue = iter(plans)
    names = itertools.count()
    made.service.servers.spawn(next(queue), made.image_id)  # what is made only once
    floor, boot = harness.medians(
        rounds,
        lambda: made.plain(next(names)),
        lambda: made.service.servers.spawn(next(queue), made.image_id),
    )
    detail = f"{harness.ms(boot)}, and the engine's create and start {harness.ms(floor)}"
    yield harness.Claim("boot / the engine's own on its network", boot / floor, 1.15, True, detail)
    made.clear()
    yield _at_once(made)
    made.clear()


def _at_once(made: servers.Bench) -> harness.Claim:
    count = 8 if harness.smoke else BOOTS
    plans = [made.plan(port=True) for _ in range(count)]
    gate = threading.Barrier(count)

    def boot(plan: model.Plan) -> None:
        gate.wait()
        made.service.servers.spawn(plan, made.image_id)

    with futures.ThreadPoolExecutor(count) as pool:
        seconds = harness.timed(lambda: futures.wait([pool.submit(boot, p) for p in plans]))
    running = [each for each in made.service.servers.list() if each.state is model.State.RUNNING]
    return harness.Claim(
        f"boots of {BOOTS} at once that failed",
        count - len(running),
        0,
        True,
        f"{count} in {seconds:.1f} s",
    )


def _calls(action: Callable[[], object]) -> int:
    """Return how many requests this process sends to the engine during an action."""
    sent = 0

    def watch(event: str, _arguments: object) -> None:
        nonlocal sent
        sent += active and event == "http.client.send"

    active = True
    sys.addaudithook(watch)
    action()
    active = False
    return sent


def _create(made: servers.Bench, count: int) -> None:
    plans = [made.plan() for _ in range(count)]
    with futures.ThreadPoolExecutor(_WORKERS) as pool:
        create = made.service.servers.spawn
        list(pool.map(lambda each: create(each, made.image_id, power_on=False), plans))
