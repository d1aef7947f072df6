# SPDX-License-Identifier: Apache-2.0
"""Images on an array: whole, exactly as long as they are, and only when they are complete."""

import gc
import hashlib
import io
import threading
import time
from concurrent import futures

import pytest

from container_stack import exceptions
from container_stack.imagestore import edf, pipeline

from . import image_world

array = image_world.array
world = image_world.world

MIB = 1024**2
GIB = image_world.GIB
CHUNK = 64 * 1024
A, B = "6f1a5a52-6b8d-4b1c-9a66-0b4f0c1d2e3a", "0d9d5b0e-3f52-4a0f-8f0e-b3c1a2d4e5f6"


def data_of(size):
    return (bytes(range(1, 252)) * (size // 251 + 1))[:size]


def stored(store, data, image_id=A, size=0, **more):
    return store.add(image_id, io.BytesIO(data), size, **more)


def read(store, image_id=A, *span):
    with store.open(image_id, *span) as reader:
        return b"".join(reader)


class Zeros:
    """A stream of zeros and one last byte."""

    def __init__(self, size):
        self._zeros = bytes(pipeline.PIECE)
        self._left = size

    def read(self, size):
        part = min(size, self._left)
        self._left -= part
        if part and not self._left:
            return bytes(part - 1) + b"\x01"
        return self._zeros if part == len(self._zeros) else bytes(part)


class Gate:
    """A stream that waits in the middle until it is opened."""

    def __init__(self, data):
        self._data = io.BytesIO(data)
        self.reached, self.opened = threading.Event(), threading.Event()

    def read(self, size):
        if self._data.tell():
            self.reached.set()
            assert self.opened.wait(30)
        return self._data.read(min(size, CHUNK))


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("size", [0, 1, 511, CHUNK - 1, CHUNK, CHUNK + 1, 10 * CHUNK + 17])
def test_any_size_comes_back_with_the_right_digests(world, size, known):
    store, data = world.store(chunk_size=CHUNK), data_of(size)
    done = stored(store, data, size=size if known else 0, algorithms=("md5", "sha256"))
    assert (done.image_id, done.size) == (A, size)
    assert done.digests == {
        "md5": hashlib.md5(data).hexdigest(),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    assert store.size(A) == size
    assert read(store) == data


@pytest.mark.parametrize("array", ["tgt"], indirect=True)
def test_five_gib_and_one_byte_without_telling_the_size(world):
    size = 5 * GIB + 1
    store = world.store()
    done = store.add(A, Zeros(size), algorithms=("md5", "sha256"))
    assert done.size == store.size(A) == size
    assert done.digests == {
        "md5": "3ba956e5107e365b37b6205ee769e9ba",
        "sha256": "3aa13845e2905026f75b6a23c3644b1ed802b35d268cfe5f25451d9cffa54f72",
    }
    assert read(store, A, size - 10) == bytes(9) + b"\x01"
    assert world.occupied(A) <= 2 * MIB, "zeros were written"


def test_size_that_is_told_is_what_the_volume_has_from_the_start(world):
    store = world.store()
    gate = Gate(data_of(3 * CHUNK))
    with futures.ThreadPoolExecutor() as pool:
        adding = pool.submit(store.add, A, gate, 2 * GIB + 1)
        assert gate.reached.wait(30)
        assert edf.Client(world.endpoint).volume(f"OS-IMAGE-{A}").size_gib == 3
        gate.opened.set()
        with pytest.raises(exceptions.InvalidRequest):
            adding.result()


@pytest.mark.parametrize(("sent", "told"), [(CHUNK, CHUNK - 1), (CHUNK, CHUNK + 1), (0, 5)])
def test_stream_of_another_length_leaves_nothing(world, sent, told):
    with pytest.raises(exceptions.InvalidRequest):
        stored(world.store(), data_of(sent), size=told)
    assert world.names() == []
    stored(world.store(), b"another go")


def test_unknown_digest_is_refused_before_anything_is_made(world):
    with pytest.raises(exceptions.InvalidRequest):
        stored(world.store(), b"x", algorithms=("md5", "rot13"))
    assert world.names() == []


def test_image_too_large_for_any_volume_is_refused(world):
    with pytest.raises(exceptions.InvalidRequest, match="32768 GiB"):
        stored(world.store(), b"x", size=32768 * GIB + 1)
    assert world.names() == []


def test_range_is_what_was_asked_for(world):
    store, data = world.store(chunk_size=CHUNK), data_of(3 * CHUNK)
    stored(store, data)
    for offset, length in ((0, 1), (CHUNK - 1, 2), (5, None), (3 * CHUNK, None), (7, 10**9)):
        end = None if length is None else offset + length
        with store.open(A, offset, length) as reader:
            assert reader.size == len(data)
            assert reader.length == len(data[offset:end])
            assert b"".join(reader) == data[offset:end]
    for offset, length in ((-1, 1), (len(data) + 1, None), (0, -1)):
        with pytest.raises(exceptions.InvalidRequest):
            store.open(A, offset, length)


def test_image_that_is_not_there_or_not_finished_is_not_found(world):
    store, gate = world.store(), Gate(data_of(3 * CHUNK))
    for action in (store.size, store.open, store.delete):
        with pytest.raises(exceptions.NotFound):
            action(A)
    thread = threading.Thread(target=store.add, args=(A, gate))
    thread.start()
    assert gate.reached.wait(30)
    for action in (store.size, store.open, lambda image: store.clone(image, B)):
        with pytest.raises(exceptions.NotFound):
            action(A)
    for other in (store, world.store("two")):
        with pytest.raises(exceptions.Busy):
            other.delete(A)
    gate.opened.set()
    thread.join()
    assert read(store) == data_of(3 * CHUNK)


@pytest.mark.parametrize("host", ["one", "two"])
def test_second_upload_of_an_image_fails_and_the_first_is_unharmed(world, host):
    store, gate = world.store(chunk_size=CHUNK), Gate(data_of(3 * CHUNK))
    thread = threading.Thread(target=store.add, args=(A, gate))
    thread.start()
    assert gate.reached.wait(30)
    other = world.store(host)
    with pytest.raises(exceptions.AlreadyExists):
        stored(other, b"another")
    assert other.recover() == []
    gate.opened.set()
    thread.join()
    with pytest.raises(exceptions.AlreadyExists):
        stored(other, b"another")
    assert read(other) == data_of(3 * CHUNK)


def test_deleted_image_is_gone_and_its_id_is_free(world):
    store = world.store()
    stored(store, b"first")
    store.delete(A)
    assert world.names() == []
    with pytest.raises(exceptions.NotFound):
        store.delete(A)
    stored(store, b"second")
    assert read(store) == b"second"


def test_image_that_is_being_read_here_is_busy(world):
    store = world.store(chunk_size=CHUNK)
    stored(store, data_of(5 * CHUNK))
    with store.open(A) as reader:
        next(reader)
        with pytest.raises(exceptions.Busy):
            world.store().delete(A)
        assert len(b"".join(reader)) == 4 * CHUNK
    store.delete(A)


def test_access_list_holds_who_is_attached_and_nobody_else(world):
    one, two = world.store("one", chunk_size=CHUNK), world.store("two", chunk_size=CHUNK)
    stored(one, data_of(5 * CHUNK))
    assert world.allowed(A) == set()
    first, second, other = one.open(A), world.store("one").open(A), two.open(A)
    assert world.allowed(A) == {"one", "two"}
    first.close()
    assert world.allowed(A) == {"one", "two"}
    next(second)
    del second
    gc.collect()
    world.wait_until(lambda: world.allowed(A) == {"two"})
    assert len(b"".join(other)) == 5 * CHUNK
    assert world.allowed(A) == set()


def test_image_that_somebody_took_offline_can_be_read(world):
    store = world.store()
    stored(store, b"data")
    edf.Client(world.endpoint).set_online(f"OS-IMAGE-{A}", False)
    assert read(store) == b"data"


def test_clone_begins_as_the_image_and_keeps_it_from_being_deleted(world):
    store = world.store()
    stored(store, data_of(CHUNK))
    target = store.clone(A, B, "iqn.2026-01.org.example:one")
    assert store.clone(A, B) == target
    with world.attacher().attach(target) as device:
        assert device.read(0, CHUNK) == data_of(CHUNK)
        device.write(0, b"mine")
    with pytest.raises(exceptions.Busy, match="1 clone"):
        store.delete(A)
    assert read(store) == data_of(CHUNK)
    assert [(each.image_id, each.clones) for each in world.inventory().images()] == [(A, (B,))]
    assert store.delete_clone(A, B)
    assert not store.delete_clone(A, B)
    store.delete(A)
    assert world.names() == []


def test_images_are_listed_with_what_is_known_of_them(world):
    store = world.store()
    stored(store, b"data")
    edf.Client(world.endpoint).create_app_instance(f"OS-IMAGE-{B}", size_gib=1)
    listed = {each.image_id: each for each in world.inventory().images()}
    assert listed[A].size == 4
    assert listed[A].checksum == hashlib.md5(b"data").hexdigest()
    assert listed[B].size is None


def test_orphan_of_another_host_goes_only_when_told_to(world):
    edf.Client(world.endpoint).create_app_instance(f"OS-IMAGE-{A}", size_gib=1)
    store = world.store()
    assert store.recover() == []
    with pytest.raises(exceptions.AlreadyExists):
        stored(store, b"data")
    assert world.names() == [f"OS-IMAGE-{A}"]
    world.inventory().remove_orphan(A)
    stored(store, b"data")
    with pytest.raises(exceptions.InvalidRequest, match="no orphan"):
        world.inventory().remove_orphan(A)


def test_verifier_sees_every_byte(world):
    class Verifier:
        seen = b""

        def update(self, data):
            self.seen += data

    verifier = Verifier()
    stored(world.store(chunk_size=CHUNK), data_of(3 * CHUNK + 1), verifier=verifier)
    assert verifier.seen == data_of(3 * CHUNK + 1)


def test_four_uploads_at_once(world):
    store = world.store(chunk_size=CHUNK)
    images = {f"{n}{A[1:]}": data_of(9 * CHUNK + n) for n in range(4)}
    threads = [
        threading.Thread(target=stored, args=(store, data, image_id))
        for image_id, data in images.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {image_id: read(store, image_id) for image_id in images} == images


def test_small_range_of_an_open_image_comes_at_once(world):
    store = world.store()
    stored(store, data_of(20 * MIB))
    with store.open(A) as reader:
        next(reader)
        began = time.monotonic()
        assert read(store, A, 5 * MIB, 4096) == data_of(20 * MIB)[5 * MIB : 5 * MIB + 4096]
        assert time.monotonic() - began < 3
