# SPDX-License-Identifier: Apache-2.0
"""A Swift node with a Docker Engine: a :class:`~container_stack.storlets.nodes.Node`."""

import logging
import re
from collections.abc import Callable, Iterator, Sequence

from container_stack import exceptions
from container_stack.host import containers, images
from container_stack.host.image_archive import layers as image_layers
from container_stack.storlets import gateway, model, nodes
from container_stack.storlets.node import helper, names, place, sandbox, switch

LOG = logging.getLogger(__name__)

#: Seconds that a sandbox which is asked how it is may take.
ANSWER = 5
#: Seconds that a replaced sandbox may take to finish its requests, unless told otherwise.
GRACE = 60.0

_CONTAINER = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
_PING = f"""
import signal, sys
signal.alarm({ANSWER})
sys.path.insert(0, {sandbox.PYTHONPATH!r})
from storlets.sbus.client import SBusClient
sys.exit(not SBusClient({sandbox.CHANNELS + "/" + sandbox.FACTORY!r}).ping().status)
"""


class EngineNode:
    """A node, by its engine alone: nothing else of it is reached, and nothing is installed there.

    :param base: ID or name of the operator's base image on the node, which works on directories.
    :param user: UID of Swift's servers there, a GID behind it being what the gateway ignores, too;
        None for that of the running sandbox, or of the owner of the directory of pipes.
    :param grace: seconds that a replaced sandbox may take to finish its requests.
    :param used: told before the engine is used.
    """

    def __init__(
        self,
        name: str,
        engine: containers.Engine,
        gateway_: gateway.Gateway,
        *,
        base: str,
        user: str | None = None,
        grace: float = GRACE,
        used: Callable[[containers.Engine], None] = lambda _engine: None,
    ) -> None:
        self._name = name
        self._own_engine = engine
        self._own_images = images.Images(engine)
        self._used = used
        self._gateway = gateway_
        self._base = base
        self._user = user.partition(":")[0] if user else None
        self._grace = grace

    @property
    def name(self) -> str:
        """What the inventory calls it."""
        return self._name

    @property
    def _engine(self) -> containers.Engine:
        self._used(self._own_engine)
        return self._own_engine

    @property
    def _images(self) -> images.Images:
        self._used(self._own_engine)
        return self._own_images

    def check(self) -> None:
        """Raise what stands against a deployment on this node; nothing is changed.

        :raises HostNotReady: the base or the default image is missing, or a directory, or the
            engine knows images by other IDs than those of their configurations.
        """
        status = dict(self._engine.info().get("DriverStatus") or ())
        if "io.containerd" in status.get("driver-type", ""):
            raise exceptions.HostNotReady(
                f"The engine of {self._name} keeps images in containerd, where their IDs differ; "
                'set {"features": {"containerd-snapshotter": false}} in its daemon.json.'
            )
        for what, image in (("base", self._base), ("default", self._gateway.default_image)):
            if self._images.find(image) is None:
                raise exceptions.HostNotReady(
                    f"{self._name} has no {what} image {image}; load it there."
                )
        spec = helper.check_spec(self._gateway, self._base)
        try:
            self._engine.remove(self._engine.create(spec))
        except exceptions.InvalidRequest as exc:
            raise exceptions.HostNotReady(f"{self._name} can't run storlets: {exc}") from exc

    def state(self, account: model.Account) -> nodes.NodeState:
        """Return how the account stands here."""
        tags = self._names(account).all()
        running = self._running(account)
        return nodes.NodeState(
            image_id=tags.get(account.image),
            running=running.image_id if running else None,
            kept=frozenset(tags.values()),
            healthy=self._is_healthy(running) if running else None,
        )

    def shared_layers(self, layers: Sequence[str]) -> int:
        """Return how many of an image's layers, from the first on, this node holds."""
        most = 0
        for image in self._images.all():
            most = max(most, image_layers.shared(layers, image.layers))
            if most == len(layers):
                break
        return most

    def stage(
        self, account: model.Account, image_id: str, layers: Sequence[str], archive: nodes.Archive
    ) -> int:
        """Bring an image here, under a name that keeps it, and return the bytes sent."""
        sent = 0
        if self._images.find(image_id) is None:
            skip = self.shared_layers(layers)
            meter = _Meter()
            try:
                self._load(image_id, meter.count(archive(skip)))
            except exceptions.InvalidRequest:
                if not skip:
                    raise
                LOG.info("%(node)s lacks layers and gets all", {"node": self._name})
                self._load(image_id, meter.count(archive(0)))
            sent = meter.bytes
        self._names(account).keep(image_id)
        return sent

    def stage_from(self, account: model.Account, image_id: str, reference: str) -> None:
        """Bring an image here from a registry instead; otherwise as :meth:`stage`."""
        if self._images.find(image_id) is None:
            before = self._images.find(reference)
            arrived = self._images.pull(reference)
            if arrived.id == image_id:
                self._names(account).keep(image_id)
            if before is None:
                self._images.remove(reference)
            if arrived.id != image_id:
                raise exceptions.InvalidRequest(f"{reference} is {arrived.id}, not {image_id}.")
        self._names(account).keep(image_id)

    def switch(self, account: model.Account, image_id: str) -> None:
        """Let the account's requests run in another image, which must be staged.

        :raises ProbeFailed: a sandbox of it isn't usable; requests go on as before.
        :raises NotFound: it isn't staged.
        """
        named = self._names(account)
        if not named.keeps(image_id):
            raise exceptions.NotFound(f"{image_id} isn't staged on {self._name} for {account.name}")
        if self._is_done(account, image_id):
            switch.sweep(self._place(account))
            return
        target = place.Target(
            image_id,
            account.sandbox,
            lambda: named.change(image_id),
            # Going back must be possible whatever storlets have come since.
            strict=not named.has_served(image_id),
        )
        switch.run(self._place(account), target)

    def clear(self, account: model.Account) -> None:
        """Take the account's image out of use: requests run in the default image. Idempotent."""
        named = self._names(account)
        default = self._images.find(self._gateway.default_image)
        name = f"{self._gateway.default_image}_{account.scope}"
        running = self._running(account)
        if running and default and running.image_id != default.id and _CONTAINER.fullmatch(name):
            target = place.Target(default.id, name, lambda: named.change(None), strict=False)
            try:
                switch.run(self._place(account), target)
            except exceptions.ProbeFailed as exc:
                LOG.warning(
                    "The default image can't be used on %(node)s: %(why)s",
                    {"node": self._name, "why": exc},
                )
        named.change(None)
        running = self._running(account)
        if running and (default is None or running.image_id != default.id):
            switch.halt(self._place(account))

    def forget(self, account: model.Account, image_id: str) -> None:
        """Remove a staged image, unless it is in use; fine if it isn't here.

        :raises Busy: it is the current one, or a container runs it.
        """
        named = self._names(account)
        running = {each.image_id for each in self._place(account).sandboxes()}
        if named.all().get(named.current) == image_id or image_id in running:
            raise exceptions.Busy(f"{image_id} is in use on {self._name}.")
        named.forget(image_id)

    def sweep(self, account: model.Account) -> None:
        """Remove what a switch that was killed left: sandboxes beside, directories, probes."""
        switch.sweep(self._place(account))

    def _place(self, account: model.Account) -> place.Place:
        return place.Place(
            self._engine, self._gateway, account.scope, self._base, self._user, self._grace
        )

    def _names(self, account: model.Account) -> names.Names:
        return names.Names(self._images, account)

    def _running(self, account: model.Account) -> containers.Container | None:
        """Return the sandbox that serves; while a switch goes on or was killed, the one before."""
        here = self._place(account)
        serving = [
            each
            for each in here.sandboxes()
            if each.state == "running" and not each.name.startswith(here.ours)
        ]
        return min(serving, key=lambda each: each.name != account.sandbox, default=None)

    def _is_healthy(self, running: containers.Container) -> bool:
        try:
            result = self._engine.exec(running.id, ["python3", "-ISc", _PING], timeout=2 * ANSWER)
        except (exceptions.CommandFailed, exceptions.NotFound, exceptions.Busy):
            return False
        return result.exit_code == 0

    def _is_done(self, account: model.Account, image_id: str) -> bool:
        found = self._place(account).sandboxes()
        running = [(each.name, each.image_id, each.state) for each in found]
        return (
            running == [(account.sandbox, image_id, "running")]
            and self._names(account).all().get(account.image) == image_id
            and self._is_healthy(found[0])
        )

    def _load(self, image_id: str, archive: Iterator[bytes]) -> None:
        before = self._ids()
        arrived = [image.id for image in self._images.load(archive)]
        if arrived == [image_id]:
            return
        for each in set(arrived) - before:
            self._images.remove(each)
        raise exceptions.InvalidRequest(
            f"What arrived on {self._name} is {', '.join(arrived) or 'nothing'}, not {image_id}."
        )

    def _ids(self) -> set[str]:
        return {image.id for image in self._images.all()}


class _Meter:
    """Counts bytes that pass."""

    def __init__(self) -> None:
        self.bytes = 0

    def count(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            self.bytes += len(piece)
            yield piece
