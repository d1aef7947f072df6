# SPDX-License-Identifier: Apache-2.0
"""Images to and from an array, against the same bytes through the same kind of attachment.

The floor hashes twice while it writes, and does nothing else. For comparison, glance_store's file
driver takes the same stream.
"""

import contextlib
import statistics
import uuid
from collections.abc import Callable, Iterator

import glance_store
from oslo_config import cfg

from benchmarks import harness, images
from container_stack.host import attach, attach_choose
from container_stack.imagestore import edf, service
from container_stack.testing.edf import simulator

ROUNDS = 3
#: Bytes that an upload may add to the process: four pieces and a bit (piece: images.PIECE).
MEMORY = 4 * images.PIECE + 64 * images.MIB


def run() -> Iterator[harness.Claim]:
    """Measure and yield the claims."""
    with images.array() as made:
        store = images.store(made)
        yield from _memory(store)
        yield from _random(made, store)
        yield from _sparse(made, store)


def _memory(store: service.ImageStore) -> Iterator[harness.Claim]:
    store.delete(_add(store, images.Random(images.PIECE)))  # what is made only once
    stream = images.Random(_size(512))
    stored: list[str] = []
    for name, action in (
        ("an upload", lambda: stored.append(_add(store, stream))),
        ("a download", lambda: _read(store, stored[0])),
    ):
        grown = harness.growth(action)
        detail = f"{grown / images.MIB:.0f} MiB more, pieces of {images.PIECE // images.MIB} MiB"
        yield harness.Claim(f"memory of {name} / limit", grown / MEMORY, 1, True, detail)
    store.delete(stored[0])


def _random(array: simulator.Simulator, store: service.ImageStore) -> Iterator[harness.Claim]:
    size = _size(1024)
    stored: list[str] = []
    with _device(array, size) as device, _file_driver() as store_file:
        ours, floor, file = harness.medians(
            1 if harness.smoke else ROUNDS,
            lambda: stored.append(_add(store, images.Random(size))),
            lambda: images.floor_write(device, images.Random(size)),
            lambda: store_file(images.Random(size)),
        )
        detail = _rates(size, ours, floor) + f", file driver {_rate(size, file)}"
        yield harness.Claim("upload 1 GiB random / floor", floor / ours, 0.85, False, detail)
        ours, floor = harness.medians(
            ROUNDS, lambda: _read(store, stored[0]), lambda: images.floor_read(device, size)
        )
        detail = _rates(size, ours, floor)
        yield harness.Claim("download 1 GiB random / floor", floor / ours, 0.85, False, detail)
    for image in stored:
        store.delete(image)


def _sparse(array: simulator.Simulator, store: service.ImageStore) -> Iterator[harness.Claim]:
    size = _size(10 * 1024)
    stored = []
    with _device(array, size) as device:
        # The floor is fresh only once.
        floor = harness.timed(lambda: images.floor_write(device, images.Sparse(size), skip=True))
    ours = harness.timed(lambda: stored.append(_add(store, images.Sparse(size))))
    detail = _rates(size, ours, floor)
    yield harness.Claim("upload 10 GiB, 95 % zeros / floor", floor / ours, 0.85, False, detail)
    with store.open(stored[0]) as reader:  # the session that stays open
        next(reader)
        times = [harness.timed(lambda at=at: _read(store, stored[0], at)) for at in _offsets(size)]
    median = statistics.median(times)
    detail = f"median {harness.ms(median)}, worst {harness.ms(max(times))}"
    yield harness.Claim("4 kB of 10 GiB / 50 ms", median / 0.05, 1, True, detail)
    store.delete(stored[0])


def _offsets(size: int) -> list[int]:
    return [(number * 7919 * images.MIB + 4097) % (size - 4096) for number in range(30)]


def _size(mib: int) -> int:
    return (max(mib // 8, 64) if harness.smoke else mib) * images.MIB


def _add(store: service.ImageStore, stream: images.Random) -> str:
    image = str(uuid.uuid4())
    store.add(image, stream, stream.size)
    return image


def _read(store: service.ImageStore, image: str, offset: int | None = None) -> None:
    start, length = (0, None) if offset is None else (offset, 4096)
    with store.open(image, start, length) as reader:
        for _piece in reader:
            pass


@contextlib.contextmanager
def _device(array: simulator.Simulator, size: int) -> Iterator[attach.BlockDevice]:
    """Attach a volume for the floor, without the store's own way of doing so."""
    name = f"FLOOR-{uuid.uuid4()}"
    client = edf.Client(images.settings(array).endpoint)
    client.create_app_instance(name, size_gib=-(-size // images.GIB), replica_count=1)
    client.set_online(name, True)
    client.wait_available(name)
    attacher = attach_choose.choose("libiscsi", attach.Options())
    client.allow(name, attacher.initiator)
    with attacher.attach(client.target(name)) as device:
        yield device
    client.delete_app_instance(name)


@contextlib.contextmanager
def _file_driver() -> Iterator[Callable[[images.Random], None]]:
    """Give what stores a stream with glance_store's file driver, and forgets it."""
    with images.place() as directory:
        conf = cfg.ConfigOpts()
        glance_store.register_opts(conf)
        conf([], project="glance", default_config_files=[])
        conf.set_override("stores", ["file"], "glance_store")
        conf.set_override("filesystem_store_datadir", directory, "glance_store")
        glance_store.create_stores(conf)

        def store(stream: images.Random) -> None:
            image = str(uuid.uuid4())
            stored = glance_store.add_to_backend_with_multihash(
                conf, image, stream, stream.size, "sha512", scheme="file"
            )
            glance_store.delete_from_backend(stored[0])

        yield store


def _rate(size: int, seconds: float) -> str:
    return f"{size / images.MIB / seconds:.0f} MiB/s"


def _rates(size: int, ours: float, floor: float) -> str:
    return f"{_rate(size, ours)}, floor {_rate(size, floor)}"
