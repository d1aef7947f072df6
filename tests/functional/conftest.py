# SPDX-License-Identifier: Apache-2.0
"""The engine of this machine, an image for it, and the promise that nothing is left on it."""

import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from container_stack.host import containers, images

from . import busybox, dockerd

#: Everything that tests make in the engine carries this label,
LABEL = "container_stack.test"
#: and this one, so that two runs on one machine don't blame each other.
SESSION_LABEL = "container_stack.test.session"

MakeSpec = Callable[..., containers.ContainerSpec]


@pytest.fixture(scope="session")
def engine() -> Iterator[containers.Engine]:
    engine = containers.Engine(os.environ.get("DOCKER_HOST", containers.DEFAULT_URL))
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def session_id() -> str:
    return uuid.uuid4().hex[:8]


@pytest.fixture(scope="session")
def test_labels(session_id: str) -> Mapping[str, str]:
    """Labels for whatever a test makes in the engine."""
    return {LABEL: "1", SESSION_LABEL: session_id}


@pytest.fixture(scope="session")
def busybox_image(engine: containers.Engine, session_id: str) -> Iterator[str]:
    """The name of an image with busybox, which sleeps unless told otherwise."""
    reference = f"cstest-busybox:{session_id}"
    busybox.import_image(images.Images(engine), reference)
    yield reference
    images.Images(engine).remove(reference)


@pytest.fixture
def name() -> str:
    """A name that nobody else has."""
    return f"cstest-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def make_spec(name: str, busybox_image: str, test_labels: Mapping[str, str]) -> MakeSpec:
    """A function that makes a container's spec; keywords add to it."""

    def make(**values: object) -> containers.ContainerSpec:
        labels = {**test_labels, **values.pop("labels", {})}  # type: ignore[dict-item]
        defaults = {"name": name, "image": busybox_image, "labels": labels, "init": True}
        return containers.ContainerSpec(**{**defaults, **values})  # type: ignore[arg-type]

    return make


@pytest.fixture
def container(engine: containers.Engine, make_spec: MakeSpec) -> Iterator[str]:
    """A running container that sleeps."""
    container_id = engine.run(make_spec())
    yield container_id
    engine.remove(container_id)


@pytest.fixture
def make_dockerd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., object]]:
    """A function that starts an engine of the test's own."""
    if os.geteuid() != 0:
        pytest.skip("starting another dockerd needs root")
    started: list[dockerd.Dockerd] = []

    def make(*options: str) -> dockerd.Dockerd:
        directory = Path(tmp_path_factory.mktemp("dockerd"))
        started.append(dockerd.Dockerd(directory, options))
        started[-1].start()
        return started[-1]

    yield make
    for each in started:
        each.stop()


@pytest.fixture(scope="session", autouse=True)
def nothing_is_left(engine: containers.Engine, session_id: str) -> Iterator[None]:
    """What carries the tests' label when they end and didn't before, they leaked."""
    before = _labelled(engine, session_id)
    yield
    leaked = _labelled(engine, session_id) - before
    assert not leaked, f"the tests left behind: {', '.join(sorted(leaked))}"


def _labelled(engine: containers.Engine, session_id: str) -> set[str]:
    things = [
        *(("container", each.name, each.labels) for each in engine.list({LABEL: "1"})),
        *(("network", each.name, each.labels) for each in engine.list_networks({LABEL: "1"})),
        *(("volume", each.name, each.labels) for each in engine.list_volumes({LABEL: "1"})),
    ]
    return {
        f"{kind} {name}"
        for kind, name, labels in things
        if labels.get(SESSION_LABEL, session_id) == session_id
    }
