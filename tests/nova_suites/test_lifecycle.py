# SPDX-License-Identifier: Apache-2.0
"""What Nova hears of servers that end and start by themselves, and how soon."""

import contextlib
import queue
import statistics
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from functional import busybox
from nova.virt import event

from container_stack.drivers.nova import lifecycle
from container_stack.host import containers, images
from container_stack.servers import changes, model, spec

from .conftest import World

PATIENCE = 120
STOPPED, STARTED = event.EVENT_LIFECYCLE_STOPPED, event.EVENT_LIFECYCLE_STARTED
#: Servers that die, one after the other.
DEATHS = 5


class Nova:
    """Takes events, and knows when it got them."""

    def __init__(self) -> None:
        self._heard: queue.Queue[tuple[str, int, float]] = queue.Queue()

    def emit(self, told: Any) -> None:
        self._heard.put((told.get_instance_uuid(), told.get_transition(), time.time()))

    def next(self) -> tuple[str, int, float]:
        return self._heard.get(timeout=PATIENCE)

    def hears(self, *expected: tuple[str, int]) -> bool:
        return [self.next()[:2] for _ in expected] == list(expected)


@pytest.fixture
def nova() -> Nova:
    return Nova()


@contextlib.contextmanager
def telling(
    nova: Nova, plug_again: Callable[[str], None] = lambda _id: None
) -> Iterator[lifecycle.Lifecycle]:
    with contextlib.closing(lifecycle.Lifecycle(nova.emit, plug_again)) as made:
        yield made


def change(server_id: str, state: model.State | None = model.State.STOPPED) -> model.Change:
    return model.Change(server_id, state)


def test_nova_hears_of_an_end_sooner_than_the_engine_starts_a_container(
    world: World, nova: Nova
) -> None:
    engine, owner = world.engine, f"nova-{world.host}-lifecycle"
    reference, ids = f"{world.host}/busybox:1", [str(uuid.uuid4()) for _ in range(DEATHS)]
    image = busybox.import_image(images.Images(engine), reference)
    starts, ours = [], []
    with contextlib.ExitStack() as undo, telling(nova) as tell:
        undo.callback(images.Images(engine).remove, reference)
        for each in ids:
            labels = spec.labels(owner, each)
            wanted = containers.ContainerSpec(spec.container_name(each), image.id, labels=labels)
            begun = time.monotonic()
            undo.callback(engine.remove, engine.run(wanted))
            starts.append(time.monotonic() - begun)
        events = undo.enter_context(engine.events(spec.labels(owner)))
        watch = changes.Watch(engine, owner, tell.changed)
        watch.start()
        undo.callback(watch.stop)
        for each in ids:
            engine.kill(spec.container_name(each))
            died = next(found for found in events if found.action == "die")
            server_id, transition, at = nova.next()
            assert (server_id, transition) == (each, STOPPED)
            ours.append(at - died.time)
    assert statistics.median(ours) < statistics.median(starts)


def test_who_starts_does_not_delay_who_ends(nova: Nova) -> None:
    plugged = threading.Event()
    with telling(nova, lambda _id: plugged.wait(PATIENCE) and None) as tell:
        for number in range(20):
            tell.changed(change(str(number), model.State.RUNNING))
        tell.changed(change("dead"))
        assert nova.hears(("dead", STOPPED))
        plugged.set()
        assert {nova.next()[:2] for _ in range(20)} == {(str(each), STARTED) for each in range(20)}


def test_an_end_just_after_our_work_is_told_until_nova_listens(
    nova: Nova, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle, "SETTLED", (0.1, 2.0))
    with telling(nova) as tell:
        with tell.ours("brief"):
            pass
        tell.changed(change("brief"))
        with tell.ours("briefer"), tell.ours("briefer"):
            tell.changed(change("briefer"))
        told = sorted(nova.next()[:2] for _ in range(5))
    assert told == [("brief", STOPPED)] * 3 + [("briefer", STOPPED)] * 2


def test_what_we_do_ourselves_is_not_told(nova: Nova, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "SETTLED", (0.0, 0.0))
    with telling(nova) as tell:
        with tell.ours("again"):
            tell.changed(change("again"))
            tell.changed(change("again", model.State.RUNNING))
        with tell.ours("gone"):
            tell.changed(change("gone"))
            tell.changed(change("gone", None))
        monkeypatch.setattr(lifecycle, "SETTLED", (0.2, 0.0))
        with tell.ours("back"):
            tell.changed(change("back"))
        with tell.ours("back"):
            tell.changed(change("back", model.State.RUNNING))
        time.sleep(0.5)
        tell.changed(change("other", None))
        assert nova.hears(("other", STOPPED))
