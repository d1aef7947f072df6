# SPDX-License-Identifier: Apache-2.0
"""A new version of an account's image on three nodes of a real Swift, and back.

One layer of 1 MiB of an image of 200 MiB has changed. The peer is what one does without us: each
node downloads the image from Swift and loads it, all at the same time.
"""

import contextlib
import dataclasses
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path

import requests

from benchmarks import harness, storlets
from container_stack.host import containers, images
from container_stack.storlets import gateway, model, settings
from container_stack.storlets.deployment import deployer
from container_stack.storlets.image import archive
from container_stack.storlets.node import engine_node, probe
from container_stack.testing import objects

ROUNDS = 5
#: Bytes that a node may be sent besides the layer that changed.
BESIDE = 64 * 1024
#: Seconds that a node may take for being asked whether it is right, and all nodes to go back.
ASKED, BACK = 0.1, 5.0
#: Requests of clients that an update must meet, and how many of them may fail.
REQUESTS, FAILED = 1000, 0.001
CLIENTS = 3
#: Seconds that a client waits for an answer.
PATIENCE = 180.0
DATA = b"hemp, tar and canvas\n" * 500


@dataclasses.dataclass(frozen=True, slots=True)
class _Cloud:
    """Swift, its nodes, an account with a storlet, and the manager.

    :param url: of the account.
    """

    url: str
    session: Callable[[], requests.Session]
    account: model.Account
    engines: tuple[containers.Engine, ...]
    nodes: tuple[engine_node.EngineNode, ...]
    manager: deployer.Deployer

    def deploy(self, made: archive.ImageArchive) -> None:
        """Deploy what has been verified."""
        self.manager.deploy(self.account, made, storlets.passed(made, self.account.name))

    def change(self) -> None:
        """Go from the first version to the second, or back."""
        newest = next(self.manager.history(self.account))
        self.manager.rollback(self.account, 3 - newest.origin)

    def each(self, action: Callable[[int], object]) -> list[object]:
        """Do something with all nodes at once; they go by their numbers."""
        with futures.ThreadPoolExecutor(len(self.nodes)) as pool:
            return list(pool.map(action, range(len(self.nodes))))


def run() -> Iterator[harness.Claim]:
    """Measure and yield the claims."""
    with contextlib.ExitStack() as undo:
        directory = undo.enter_context(storlets.place())
        cloud = undo.enter_context(_running(directory))
        size = storlets.SIZE // (8 if harness.smoke else 1)
        paths = [directory / f"{seed}.tar" for seed in (1, 2, 3)]
        made = [
            undo.enter_context(storlets.image(path, size=size, seed=seed).open())
            for seed, path in enumerate(paths, 1)
        ]
        _meet_all(cloud)
        cloud.deploy(made[0])
        yield from _transfer(cloud, made[1], paths[2], made[2].image_id)
        cloud.deploy(made[1])
        yield from _again(cloud, made[1])
        yield from _back(cloud)
        yield from _under_load(cloud)


def _meet_all(cloud: _Cloud) -> None:
    """Let a storlet run on every node: the gateway makes its directories then."""
    session = cloud.session()
    deadline = time.monotonic() + PATIENCE
    while not all(engine.list() for engine in cloud.engines):
        answer = session.get(f"{cloud.url}/hold/rope", headers=_RUN, timeout=PATIENCE)
        assert time.monotonic() < deadline, f"some node runs no storlet: {answer.status_code}"


def _transfer(
    cloud: _Cloud, made: archive.ImageArchive, full: Path, full_id: str
) -> Iterator[harness.Claim]:
    """Compare a delta to all nodes with a download and a load on each."""
    sent: list[int] = []
    delta, peer = [], []
    _upload(cloud, full)
    for _ in range(1 if harness.smoke else ROUNDS):
        delta.append(harness.timed(lambda: sent.extend(_stage(cloud, made))))
        cloud.each(lambda n: cloud.nodes[n].forget(cloud.account, made.image_id))
        peer.append(harness.timed(lambda: cloud.each(lambda n: _download(cloud, n, full.name))))
        cloud.each(lambda n: images.Images(cloud.engines[n]).remove(full_id))
    allowed = made.layers[-1].size + BESIDE
    yield harness.Claim(
        "bytes to a node / changed layer and 64 KiB",
        max(sent) / allowed,
        1,
        True,
        f"{max(sent)} bytes of {made.size}, the layer has {made.layers[-1].size}",
    )
    ours, theirs = statistics.median(delta), statistics.median(peer)
    detail = f"to 3 nodes in {ours:.2f} s; download and load {theirs:.2f} s"
    yield harness.Claim("download and load / delta", theirs / ours, 10, False, detail)


def _stage(cloud: _Cloud, made: archive.ImageArchive) -> list[int]:
    layers = [layer.diff_id for layer in made.layers]

    def stage(number: int) -> int:
        return cloud.nodes[number].stage(cloud.account, made.image_id, layers, made.stream)

    return [int(str(each)) for each in cloud.each(stage)]


def _upload(cloud: _Cloud, path: Path) -> None:
    session = cloud.session()
    with path.open("rb") as file:
        session.put(f"{cloud.url}/docker_images/{path.name}", data=file).raise_for_status()


def _download(cloud: _Cloud, number: int, name: str) -> None:
    answer = cloud.session().get(f"{cloud.url}/docker_images/{name}", stream=True)
    answer.raise_for_status()
    images.Images(cloud.engines[number]).load(answer.iter_content(storlets.MIB))


def _again(cloud: _Cloud, made: archive.ImageArchive) -> Iterator[harness.Claim]:
    (seconds,) = harness.medians(ROUNDS, lambda: cloud.deploy(made))
    each = seconds / len(cloud.nodes)
    detail = f"{harness.ms(seconds)} for {len(cloud.nodes)} nodes"
    yield harness.Claim("deploying it again, each node / 0.1 s", each / ASKED, 1, True, detail)


def _back(cloud: _Cloud) -> Iterator[harness.Claim]:
    (seconds,) = harness.medians(1 if harness.smoke else 4, cloud.change)
    detail = f"{seconds:.2f} s, sandboxes probed and warm"
    yield harness.Claim("rollback of 3 nodes / 5 s", seconds / BACK, 1, True, detail)


def _under_load(cloud: _Cloud) -> Iterator[harness.Claim]:
    clients = _Clients(cloud)
    with clients.asking():
        clients.wait(30)
        before, times = clients.served, []
        while not times or not (harness.smoke or clients.served - before > REQUESTS):
            times.append(harness.timed(cloud.change))
        clients.wait(30)
    total = clients.served + clients.failed
    detail = (
        f"{clients.failed} of {total} requests in {len(times)} updates of "
        f"{statistics.median(times):.1f} s; {', '.join(clients.errors[:3]) or 'none failed'}"
    )
    ratio = clients.failed / total / FAILED
    yield harness.Claim("failed requests in updates / 0.1 %", ratio, 1, True, detail)


class _Clients:
    """Three clients that run a storlet on an object, over and over."""

    def __init__(self, cloud: _Cloud) -> None:
        self._cloud = cloud
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self.served = self.failed = 0
        self.errors: list[str] = []

    @contextlib.contextmanager
    def asking(self) -> Iterator[None]:
        """Let them ask while the body runs."""
        threads = [threading.Thread(target=self._ask) for _ in range(CLIENTS)]
        for each in threads:
            each.start()
        try:
            yield
        finally:
            self._stop.set()
            for each in threads:
                each.join()

    def wait(self, more: int) -> None:
        """Wait until so many more requests have been served."""
        wanted = self.served + more
        deadline = time.monotonic() + PATIENCE
        while self.served < wanted:
            assert time.monotonic() < deadline, f"clients only get {self.errors[-3:]}"
            time.sleep(0.05)

    def _ask(self) -> None:
        session = self._cloud.session()
        while not self._stop.is_set():
            url, error = f"{self._cloud.url}/hold/rope", ""
            try:
                answer = session.get(url, headers=_RUN, timeout=PATIENCE)
                if answer.status_code != 200 or answer.content != DATA:
                    error = f"{answer.status_code} with {len(answer.content)} bytes"
            except requests.RequestException as exc:
                error = str(exc)
            with self._lock:
                self.served += not error
                self.failed += bool(error)
                self.errors += [error] if error else []


#: A storlet that copies, under a name of the account's own.
_MODULE = "cstest_copy"
_RUN = {"X-Run-Storlet": f"{_MODULE}.py"}
_STORLET = {
    "X-Object-Meta-Storlet-Language": "Python",
    "X-Object-Meta-Storlet-Language-Version": "3",
    "X-Object-Meta-Storlet-Interface-Version": "1.0",
    "X-Object-Meta-Storlet-Object-Metadata": "no",
    "X-Object-Meta-Storlet-Main": f"{_MODULE}.Probe",
}


@contextlib.contextmanager
def _running(directory: Path) -> Iterator[_Cloud]:
    user = storlets.swift.MANAGER
    with storlets.storlet_world.running(directory) as world, contextlib.ExitStack() as undo:
        conf = gateway.Gateway.read(str(directory / "gateway.conf"))
        engines = tuple(containers.Engine(node.url) for node in world.nodes)
        for each in engines:
            undo.callback(each.close)
        members = tuple(
            engine_node.EngineNode(
                node.name, engine, conf, base=storlets.storlet_host.BASE, user="0"
            )
            for node, engine in zip(world.nodes, engines, strict=True)
        )
        manager = deployer.Deployer(
            objects.MemoryObjects("AUTH_storlets"),
            members,
            storlets.alone,
            who="bench",
            policy=settings.Rollout(),
        )
        url = world.swift.url(user.account)
        _enable(world.session(user), url)
        yield _Cloud(
            url,
            lambda: world.session(user),
            model.Account(user.account),
            engines,
            members,
            manager,
        )


def _enable(session: requests.Session, url: str) -> None:
    session.post(url, headers={"X-Account-Meta-Storlet-Enabled": "True"}).raise_for_status()
    for name in ("storlet", "dependency", "log", "docker_images", "hold"):
        session.put(f"{url}/{name}").raise_for_status()
    storlet = f"{url}/storlet/{_MODULE}.py"
    session.put(storlet, data=probe.SOURCE, headers=_STORLET).raise_for_status()
    session.put(f"{url}/hold/rope", data=DATA).raise_for_status()
