# SPDX-License-Identifier: Apache-2.0
"""An array, and image stores on it as several processes and hosts would make them."""

import dataclasses
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from container_stack import exceptions
from container_stack.host import attach, attach_choose, sparse
from container_stack.imagestore import assembly, edf, inventory, journal, service
from container_stack.testing.edf import simulator

GIB = 1024**3
#: The client's methods that change the array, and some that only ask.
CALLS = (
    "allow",
    "app_instance",
    "create_app_instance",
    "delete_app_instance",
    "disallow",
    "metadata",
    "resize",
    "set_metadata",
    "set_online",
    "snapshot",
    "target",
    "volume",
    "wait_available",
)


class Fate:
    """Counts steps, and lets something happen before or after one of them.

    :param at: the step's number, from 1; each call is two: before it and after it.
    :param before: whether that before a call counts, too.
    """

    def __init__(self, at: int, happen: Callable[[str], None], *, before: bool = True) -> None:
        self.steps = 0
        self._before = before
        self._at = at
        self._happen = happen

    def step(self, what: str) -> None:
        self.steps += 1
        if self.steps == self._at:
            self._happen(what)

    def bind(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def stepping(*args: Any, **kwargs: Any) -> Any:
            if self._before:
                self.step(f"before {name}")
            result = method(*args, **kwargs)
            self.step(f"after {name}")
            return result

        return stepping


class Fall(Fate):
    """Takes the array down at a step, for good."""

    def __init__(self, at: int) -> None:
        self.fallen = False
        super().__init__(at, self._fall)

    def step(self, what: str) -> None:
        super().step(what)
        if self.fallen:
            raise exceptions.ArrayUnavailable("The test took the array down.")

    def _fall(self, _what: str) -> None:
        self.fallen = True


class FatefulClient(edf.Client):
    """A client whose calls are steps."""

    def __init__(self, endpoint: edf.Endpoint, fate: Fate) -> None:
        super().__init__(endpoint)
        for name in CALLS:
            setattr(self, name, fate.bind(name, getattr(self, name)))


class FatefulAttacher(attach.Attacher):
    """An attacher whose attachments, writes, flushes and detachments are steps."""

    def __init__(self, attacher: attach.Attacher, fate: Fate) -> None:
        self._attacher = attacher
        self._fate = fate

    @property
    def initiator(self) -> str:
        return self._attacher.initiator

    def attach(self, target: attach.Target, *, read_only: bool = False) -> attach.BlockDevice:
        attaching = self._fate.bind("attach", self._attacher.attach)
        device: attach.BlockDevice = attaching(target, read_only=read_only)
        for name in ("write", "flush", "refresh", "close"):
            setattr(device, name, self._fate.bind(name, getattr(device, name)))
        return device

    def check(self) -> Mapping[str, str]:
        return self._attacher.check()


@dataclasses.dataclass(slots=True)
class World:
    """A simulated array, and what a host needs to use it."""

    array: simulator.Simulator
    directory: pathlib.Path
    target: str

    @property
    def endpoint(self) -> edf.Endpoint:
        return edf.Endpoint(
            **self.array.endpoint_kwargs,
            timeout=5.0,
            retry_attempts=2,
            retry_interval=0.05,
            operation_timeout=10.0,
        )

    def journal(self, host: str = "one") -> journal.Journal:
        endpoint = self.endpoint
        return journal.Journal(str(self.directory / host), endpoint.url, endpoint.tenant_path)

    def attacher(self, host: str = "one") -> attach.Attacher:
        settings = self.settings(host)
        return attach_choose.choose(settings.attacher, settings.attach_options)

    def settings(self, host: str = "one", **more: Any) -> assembly.Settings:
        """Return what makes a store of a host, in whatever process."""
        initiator = f"iqn.2026-01.org.example:{host}"
        settings = assembly.Settings(
            name="test",
            endpoint=self.endpoint,
            state_dir=str(self.directory / host),
            attacher={"file": "file", "tgt": "libiscsi"}[self.target],
            attach_options=dataclasses.replace(self.array.options, initiator=initiator),
        )
        return dataclasses.replace(settings, **more)

    def store(self, host: str = "one", **more: Any) -> service.ImageStore:
        """Return a store as another process of a host would make it."""
        return assembly.open_images(self.settings(host, **more))

    def fateful(self, fate: Fate) -> service.ImageStore:
        attacher = FatefulAttacher(self.attacher(), fate)
        return service.ImageStore(FatefulClient(self.endpoint, fate), attacher, self.journal())

    def inventory(self, host: str = "one") -> inventory.Inventory:
        return inventory.Inventory(edf.Client(self.endpoint), self.journal(host))

    def names(self) -> list[str]:
        """Return the names of the array's app instances."""
        return sorted(each.name for each in edf.Client(self.endpoint).app_instances())

    def clear(self) -> None:
        self.array.faults.clear()
        client = edf.Client(self.endpoint)
        for name in self.names():
            client.delete_app_instance(name)

    def sessions(self, host: str = "one") -> list[pathlib.Path]:
        """Return what a host notes about access lists that may hold its initiator."""
        return [path for path in (self.directory / host).glob("*/sessions/*/*") if path.is_file()]

    def allowed(self, image_id: str) -> set[str]:
        """Return which hosts are in the access list of an image."""
        (instance,) = self._instances(image_id)
        return {path.rsplit(":", 1)[1] for path in instance["storage"]["initiators"]}

    def occupied(self, image_id: str) -> int:
        """Return the bytes that an image really takes on the array."""
        (instance,) = self._instances(image_id)
        return sparse.occupied(f"{self.array.directory}/volumes/{instance['uuid']}.img")

    def _instances(self, image_id: str) -> list[dict[str, Any]]:
        name = f"OS-IMAGE-{image_id}"
        return [each for each in self.array.app_instances() if each["name"] == name]

    def wait_until(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < end
            time.sleep(0.02)


@pytest.fixture(scope="module", params=["file", "tgt"])
def array(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[simulator.Simulator, str]]:
    directory = tmp_path_factory.mktemp("array")
    with simulator.Simulator(directory, target=request.param) as made:
        yield made, request.param


@pytest.fixture
def world(array: tuple[simulator.Simulator, str], tmp_path: pathlib.Path) -> Iterator[World]:
    made = World(array[0], tmp_path, array[1])
    yield made
    made.clear()
