# SPDX-License-Identifier: Apache-2.0
"""Deployments over 1,000 simulated nodes, against over 100: planned, followed, recorded, undone.

More nodes may take no more memory but for what is known of each, and each no more time.
"""

import random
import time
from collections.abc import Iterator

from benchmarks import harness, storlets
from container_stack.storlets import model, settings
from container_stack.storlets.deployment import deployer, events
from container_stack.storlets.image import archive
from container_stack.testing import nodes, objects, tiny_images

MANY, FEW = 1000, 100
#: Bytes that may come with each node: how it stands, and what is to be done.
EACH = 16 * 1024


def run() -> Iterator[harness.Claim]:
    """Measure and yield the claims."""
    first, second = (_image(seed) for seed in (1, 2))
    count = FEW * 2 if harness.smoke else MANY
    _Fleet(FEW).deploy(first, second)  # what is made only once
    few, many = _Fleet(FEW), _Fleet(count)
    few_grown = harness.growth(lambda: few.deploy(first, second))
    many_grown = harness.growth(lambda: many.deploy(first, second))
    limit = max(few_grown, 0) + (count - FEW) * EACH
    yield harness.Claim(
        "memory of 1,000 nodes / of 100 and 16 KiB for each other",
        many_grown / limit,
        1,
        True,
        f"{many_grown / storlets.MIB:.1f} MiB, and {few_grown / storlets.MIB:.1f} MiB for {FEW}",
    )
    yield harness.Claim(
        "time of a node among 1,000 / among 100",
        (many.seconds / count) / (few.seconds / FEW),
        1.5,
        True,
        f"{many.seconds:.1f} s for {count} nodes, {few.seconds:.2f} s for {FEW}",
    )


class _Fleet:
    """Simulated nodes and who manages them.

    :param count: of nodes.
    """

    def __init__(self, count: int) -> None:
        base = tiny_images.diff_ids(_image(1))[:1]
        self._nodes = [nodes.SimulatedNode(f"node-{number:04d}", base) for number in range(count)]
        self._manager = deployer.Deployer(
            objects.MemoryObjects("AUTH_storlets"),
            self._nodes,
            storlets.alone,
            who="bench",
            policy=settings.Rollout(wave=50),
        )
        self._ready: set[str] = set()
        self.seconds = 0.0

    def deploy(self, first: archive.ImageArchive, second: archive.ImageArchive) -> None:
        """Deploy two versions, go back to the first, and look at all nodes."""
        account = model.Account(storlets.ACCOUNT)
        start = time.perf_counter()
        for each in (first, second):
            self._manager.deploy(account, each, storlets.passed(each), watcher=self._watch)
        self._manager.rollback(account, watcher=self._watch)
        self._manager.status(account, self._watch)
        self.seconds = time.perf_counter() - start
        assert self._ready == {node.name for node in self._nodes}
        assert {node.state(account).image_id for node in self._nodes} == {first.image_id}

    def _watch(self, event: events.Event) -> None:
        if event.step in (events.Step.CANARY, events.Step.WAVE) and event.node:
            self._ready.add(event.node)


def _image(seed: int) -> archive.ImageArchive:
    """Return an image of 1 MiB over a base; each node is sent that, and one that it has."""
    return tiny_images.make([b"base" * 1024, random.Random(seed).randbytes(storlets.MIB)])
