# SPDX-License-Identifier: Apache-2.0
"""An array with troubles of its own: images are stored all the same, or not at all."""

import dataclasses
import io
import multiprocessing
import signal

import pytest

from container_stack import exceptions
from container_stack.imagestore import assembly, edf, pipeline, service
from container_stack.testing.edf import simulator

from . import image_world

array = image_world.array
world = image_world.world
pytestmark = pytest.mark.parametrize("array", ["tgt"], indirect=True)

A = "6f1a5a52-6b8d-4b1c-9a66-0b4f0c1d2e3a"
CHUNK = 64 * 1024
DATA = bytes(range(256)) * 256 * 9


class Troubled:
    """A stream that lets something happen before its last piece."""

    def __init__(self, happen):
        self._data = io.BytesIO(DATA)
        self._happen = happen

    def read(self, size):
        if len(DATA) - self._data.tell() <= size:
            self._happen()
        return self._data.read(min(size, CHUNK))


def read(store):
    with store.open(A) as reader:
        return b"".join(reader)


def test_passing_errors_and_lost_replies_go_unnoticed(world):
    store = world.store(chunk_size=CHUNK)
    world.array.faults.http_error(503, times=2)
    world.array.faults.drop_reply(times=1, path="/app_instances$", method="POST")
    world.array.faults.drop_reply(times=1, path="/acl_policy", method="PUT")
    store.add(A, Troubled(world.array.faults.expire_keys))
    world.array.faults.drop_reply(times=1, method="DELETE")
    assert read(store) == DATA
    store.delete(A)
    assert world.names() == []


def test_full_array_takes_nothing(world):
    store = world.store(chunk_size=CHUNK)
    world.array.faults.fill()
    with pytest.raises(exceptions.NoSpace):
        store.add(A, io.BytesIO(DATA))
    world.array.faults.clear()
    assert world.names() == []
    store.add(A, io.BytesIO(DATA))


def test_array_that_is_full_before_the_volume_could_grow_keeps_nothing(world):
    class Large:
        left = image_world.GIB + 1

        def read(self, size):
            part = min(size, self.left)
            self.left -= part
            if not self.left:
                world.array.faults.fill()
                return b"x" * part
            return bytes(part)

    with pytest.raises(exceptions.NoSpace):
        world.store().add(A, Large(), algorithms=())
    world.array.faults.clear()
    assert world.names() == []


def test_volume_grows_by_doubling_until_the_array_has_only_what_is_needed(tmp_path, array):
    gib, sizes = image_world.GIB, []

    class Growing(edf.Client):
        def resize(self, name, size_gib):
            sizes.append(size_gib)
            return super().resize(name, size_gib)

    class Large:
        at = 0

        def read(self, size):
            part = min(size, 4 * gib + 1 - self.at)
            self.at += part
            return b"x" * part if self.at % gib < pipeline.PIECE else bytes(part)

    directory = tmp_path / "array"
    with simulator.Simulator(directory, target="file", capacity=5 * gib) as small:
        small_world = image_world.World(small, tmp_path, "file")
        store = service.ImageStore(
            Growing(small_world.endpoint), small_world.attacher(), small_world.journal()
        )
        assert store.add(A, Large(), algorithms=()).size == 4 * gib + 1
        assert sizes == [2, 4, 8, 5]
        with pytest.raises(exceptions.NoSpace):
            store.add("another", io.BytesIO(b"x"))
        store.delete(A)


def test_array_that_goes_down_in_the_middle_is_cleaned_when_it_is_back(world):
    store = world.store(chunk_size=CHUNK)
    with pytest.raises(exceptions.ArrayUnavailable):
        store.add(A, Troubled(lambda: world.array.faults.http_error(503)))
    world.array.faults.clear()
    assert world.names() == [f"OS-IMAGE-{A}"]
    with pytest.raises(exceptions.NotFound):
        store.size(A)
    store.add("another", io.BytesIO(DATA))
    assert world.names() == ["OS-IMAGE-another"], "the next upload cleans, too"


def test_volume_that_disappears_while_it_is_written_leaves_nothing(world):
    def lose():
        world.array.faults.volume_offline(f"OS-IMAGE-{A}")

    options = dataclasses.replace(world.settings().attach_options, timeout=3.0)
    store = world.store(chunk_size=CHUNK, attach_options=options)
    with pytest.raises((exceptions.ArrayUnavailable, exceptions.AccessDenied, exceptions.NotFound)):
        store.add(A, Troubled(lose))
    world.array.faults.clear()
    assert world.names() == []


def test_wrong_password_is_told(world):
    endpoint = dataclasses.replace(world.endpoint, password="wrong")
    store = assembly.open_images(dataclasses.replace(world.settings(), endpoint=endpoint))
    with pytest.raises(exceptions.AccessDenied):
        store.add(A, io.BytesIO(DATA))


def test_dead_readers_place_in_the_access_list_is_given_up(world):
    world.store().add(A, io.BytesIO(DATA))
    context = multiprocessing.get_context("spawn")
    reading = context.Event()
    child = context.Process(target=_read_for_ever, args=(world.settings(chunk_size=CHUNK), reading))
    child.start()
    assert reading.wait(60)
    store = world.store()
    assert store.recover() == []
    assert world.allowed(A) == {"one"}
    with pytest.raises(exceptions.Busy):
        store.delete(A)
    child.kill()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    assert world.allowed(A) == {"one"}
    assert store.recover() == []
    assert world.allowed(A) == set()
    store.delete(A)


def test_process_that_is_done_does_not_cut_another_of_its_host(world):
    world.store().add(A, io.BytesIO(DATA))
    store = world.store(chunk_size=CHUNK)
    reader = store.open(A)
    data = next(reader)
    context = multiprocessing.get_context("spawn")
    child = context.Process(target=_read_all, args=(world.settings(),))
    child.start()
    child.join(60)
    assert child.exitcode == 0
    assert world.allowed(A) == {"one"}
    assert data + b"".join(reader) == DATA
    assert world.allowed(A) == set()


def _read_for_ever(settings, reading):
    reader = assembly.open_images(settings).open(A)
    next(reader)
    reading.set()
    signal.pause()


def _read_all(settings):
    assert read(assembly.open_images(settings)) == DATA
