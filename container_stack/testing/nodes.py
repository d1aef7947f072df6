# SPDX-License-Identifier: Apache-2.0
"""Swift nodes that exist in memory only, with all that an image deployment can meet on a real one.

They read the archives that they are sent, keep images and layers as a Docker Engine does, and
let clients send requests, which they count: a deployment must never make one meet a bad image.
"""

import collections
import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from container_stack import exceptions
from container_stack.storlets import model, nodes
from container_stack.testing import engine_archives, node_faults, tiny_images

#: Image that accounts without one of their own run in.
DEFAULT = "sha256:" + "d" * 64
#: Faults of an image that clients meet; the probe finds the first.
_FAULTS = (tiny_images.NO_PROBE, tiny_images.SICK)


@dataclasses.dataclass(slots=True)
class _Account:
    """How an account stands on a node: tag, sandbox, one that is being probed, named images."""

    image_id: str | None = None
    running: str | None = None
    beside: str | None = None
    kept: dict[str, None] = dataclasses.field(default_factory=dict)


class SimulatedNode:
    """A :class:`container_stack.storlets.nodes.Node`.

    At every step a client of every account that is known here sends a request.

    :param base: diff IDs of an image that is here from the start.
    :param registry: what :meth:`stage_from` finds, by reference.
    :param step: told of every step, as ``("node1", "switch:beside")``; it may raise.
    """

    def __init__(
        self,
        name: str,
        base: Sequence[str] = (),
        registry: dict[str, engine_archives.Image] | None = None,
        step: Callable[[str, str], None] | None = None,
    ) -> None:
        self._name = name
        self._base = tuple(base)
        self._registry = {} if registry is None else registry
        self._step = step
        self._lock = threading.RLock()
        self._accounts: dict[str, _Account] = {}
        self._images: dict[str, engine_archives.Image] = {}
        self.faults = node_faults.Faults()
        self.requests = node_faults.Requests()
        self.calls: collections.Counter[str] = collections.Counter()

    @property
    def name(self) -> str:
        """What the inventory calls it."""
        return self._name

    @property
    def images(self) -> tuple[str, ...]:
        """IDs of the images that are here."""
        return tuple(self._images)

    @property
    def leftovers(self) -> tuple[str, ...]:
        """Scopes of which a sandbox stands beside the one that requests go to."""
        return tuple(scope for scope, each in self._accounts.items() if each.beside)

    def request(self, account: model.Account) -> str:
        """Do what the gateway does at a client's request, and return the image it ran in.

        :raises EngineUnavailable: the node is down; the client's proxy would ask another.
        """
        with self._lock:
            if self.faults.down:
                raise exceptions.EngineUnavailable(f"{self._name} is down.")
            return self._request(self._accounts.setdefault(account.scope, _Account()))

    def reboot(self) -> None:
        """Let the node come up again: no sandbox runs."""
        with self._lock:
            self.faults.down = False
            for each in self._accounts.values():
                each.running = each.beside = None

    def lose_images(self) -> None:
        """Let the node come up with an empty engine, as after a change of its disk."""
        with self._lock:
            self._images.clear()
            self._accounts.clear()

    def check(self) -> None:
        """Raise what :attr:`faults` wants."""
        with self._call("check"):
            if self.faults.unready:
                raise exceptions.HostNotReady(self.faults.unready)

    def state(self, account: model.Account) -> nodes.NodeState:
        """Return how the account stands here."""
        with self._call("state"):
            mine = self._accounts.get(account.scope, _Account())
            return nodes.NodeState(
                image_id=mine.image_id,
                running=mine.running,
                kept=frozenset(mine.kept),
                healthy=None if mine.running is None else self._usable(mine.running, _FAULTS),
            )

    def shared_layers(self, layers: Sequence[str]) -> int:
        """Return how many of the layers, from the first on, some image here has."""
        with self._call("shared_layers"):
            return engine_archives.common(layers, self._held())

    def stage(
        self,
        account: model.Account,
        image_id: str,
        layers: Sequence[str],
        archive: nodes.Archive,
    ) -> int:
        """Bring an image here and name it, and return the bytes sent."""
        with self._call("stage"):
            sent = 0
            if image_id not in self._images:
                skip = engine_archives.common(layers, self._held())
                image, sent = self._load(archive, skip)
                self._check_room()
                if image.image_id != image_id:
                    raise exceptions.InvalidRequest(
                        f"What arrived on {self._name} is {image.image_id}, not {image_id}."
                    )
                self._take_step("stage:half")
                self._keep(account, image)
            self._name_it(account, image_id)
            self._take_step("stage:named")
            return sent

    def stage_from(self, account: model.Account, image_id: str, reference: str) -> None:
        """Bring an image here from the simulated registry, and name it."""
        with self._call("stage_from"):
            if image_id not in self._images:
                image = self._registry.get(reference)
                if image is None:
                    raise exceptions.NotFound(f"No registry has {reference}.")
                self._check_room()
                if image.image_id != image_id:
                    raise exceptions.InvalidRequest(f"{reference} isn't {image_id}.")
                self._keep(account, image)
            self._take_step("stage_from:pulled")
            self._name_it(account, image_id)

    def switch(self, account: model.Account, image_id: str) -> None:
        """Start a sandbox beside, probe it, and let it take the place of the one that runs."""
        with self._call("switch"):
            mine = self._account(account)
            if image_id not in mine.kept:
                raise exceptions.NotFound(f"{image_id} isn't staged on {self._name}.")
            if self.faults.deaf or (mine.image_id, mine.running) == (image_id, image_id):
                return
            mine.beside = image_id
            self._take_step("switch:beside")
            if self.faults.probe or not self._usable(image_id):
                mine.beside = None
                raise exceptions.ProbeFailed(f"No storlet runs in {image_id} on {self._name}.")
            mine.image_id = image_id
            self._take_step("switch:tagged")
            mine.running, mine.beside = image_id, mine.running
            self._take_step("switch:swapped")
            mine.beside = None
            self._take_step("switch:drained")

    def clear(self, account: model.Account) -> None:
        """Let the account's requests run in the default image."""
        with self._call("clear"):
            mine = self._account(account)
            mine.image_id = None
            self._take_step("clear:untagged")
            if mine.running != DEFAULT:
                mine.running = None
            self._take_step("clear:halted")

    def forget(self, account: model.Account, image_id: str) -> None:
        """Remove a staged image, unless it is in use."""
        with self._call("forget"):
            mine = self._account(account)
            if image_id in (mine.image_id, mine.running):
                raise exceptions.Busy(f"{image_id} is in use on {self._name}.")
            mine.kept.pop(image_id, None)
            if not any(image_id in each.kept for each in self._accounts.values()):
                self._images.pop(image_id, None)
            self._take_step("forget:gone")

    def sweep(self, account: model.Account) -> None:
        """Remove the sandbox that a killed switch left beside."""
        with self._call("sweep"):
            self._account(account).beside = None

    def _load(self, archive: nodes.Archive, skip: int) -> tuple[engine_archives.Image, int]:
        """Load what the node lacks, or all if it then turns out to lack more."""
        meter = _Meter()
        try:
            return engine_archives.load(meter.count(archive(skip)), self._held()), meter.sent
        except engine_archives.Unusable as exc:
            if not skip:
                raise exceptions.InvalidRequest(f"{self._name} can't take it: {exc}") from exc
        try:
            return engine_archives.load(meter.count(archive(0)), self._held()), meter.sent
        except engine_archives.Unusable as exc:
            raise exceptions.InvalidRequest(f"{self._name} can't take it: {exc}") from exc

    def _held(self) -> Iterator[tuple[str, ...]]:
        yield self._base
        for image in self._images.values():
            yield image.layers

    def _check_room(self) -> None:
        if self.faults.full:
            raise exceptions.NoSpace(f"There is no room for an image on {self._name}.")

    def _keep(self, account: model.Account, image: engine_archives.Image) -> None:
        if not self.faults.loses:
            self._images[image.image_id] = image

    def _name_it(self, account: model.Account, image_id: str) -> None:
        if not self.faults.loses:
            self._account(account).kept[image_id] = None

    def _account(self, account: model.Account) -> _Account:
        return self._accounts.setdefault(account.scope, _Account())

    def _usable(self, image_id: str, faults: Sequence[str] = _FAULTS[:1]) -> bool:
        if image_id == DEFAULT:
            return True
        image = self._images.get(image_id)
        return image is not None and image.fault not in faults

    def _request(self, mine: _Account) -> str:
        if mine.running is None:
            mine.running = mine.image_id or DEFAULT
        if self._usable(mine.running, _FAULTS):
            self.requests.served[mine.running] += 1
        else:
            self.requests.failed += 1
        return mine.running

    @contextlib.contextmanager
    def _call(self, name: str) -> Iterator[None]:
        with self._lock:
            self.calls[name] += 1
            if self.faults.slow:
                time.sleep(self.faults.slow)
            self._take_step(name)
            if self.faults.down:
                raise exceptions.EngineUnavailable(f"{self._name} is down.")
            yield

    def _take_step(self, step: str) -> None:
        if self.faults.dies == step:
            self.faults.dies = ""
            self.faults.down = True
            raise exceptions.EngineUnavailable(f"{self._name} died at {step}.")
        if self._step is not None:
            self._step(self._name, step)
        if not self.faults.down:
            for each in self._accounts.values():
                self._request(each)


class _Meter:
    """Counts bytes that pass."""

    def __init__(self) -> None:
        self.sent = 0

    def count(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            self.sent += len(piece)
            yield piece
