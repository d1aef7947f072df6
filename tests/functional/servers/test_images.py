# SPDX-License-Identifier: Apache-2.0
"""Images of an image service in a real engine: fetched once, checked on the way, taken away."""

import concurrent.futures
import hashlib
import io
import multiprocessing
import os
import pathlib
import signal
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence

import pytest

from container_stack import exceptions
from container_stack.host import containers, images, locks
from container_stack.servers import images as server_images
from container_stack.servers import model
from container_stack.testing import image_archives

from .. import dockerd

PIECE = 4096
#: Label of all images that these tests make.
MARK = f"cstest.images.{uuid.uuid4().hex[:8]}"


class Service:
    """An image service with archives, which counts how often it is asked for one."""

    def __init__(self) -> None:
        self.downloads = 0
        self._lock = threading.Lock()

    def download(self, data: bytes, at: Callable[[int], None] = lambda _n: None) -> Iterator[bytes]:
        """Yield an archive.

        :param at: called with each piece's number before it is given.
        """
        with self._lock:
            self.downloads += 1
        for number, start in enumerate(range(0, len(data), PIECE)):
            at(number)
            yield data[start : start + PIECE]


class World:
    """Images of one owner in an engine."""

    def __init__(self, engine: containers.Engine, state: pathlib.Path) -> None:
        self.engine = engine
        self.state = state
        self.owner = f"cstest-{uuid.uuid4().hex[:8]}"
        self.images = images.Images(engine)
        self.service = Service()
        self.kept = self.again()

    def again(self, **more: str) -> server_images.ServerImages:
        """Return what another process, or the next one, would have."""
        return server_images.ServerImages(
            self.images,
            locks.ObjectLocks(str(self.state / "locks")),
            owner=self.owner,
            state_dir=str(self.state),
            **more,
        )

    def ensure(self, image: model.Image, data: bytes) -> str:
        return self.kept.ensure(image, lambda: self.service.download(data))

    def empty(self) -> None:
        self.kept.prune([], older_than=0)
        assert self.kept.cached() == {}


@pytest.fixture
def world(engine: containers.Engine, tmp_path: pathlib.Path) -> Iterator[World]:
    made = World(engine, tmp_path)
    yield made
    made.empty()


def archive(names: tuple[str, ...] = ()) -> bytes:
    """Return the archive of an image that nobody else has."""
    return build([{"etc/": b"", "etc/text": os.urandom(8), "blob": bytes(99_999)}], names=names)


def build(
    layers: Sequence[image_archives.Files], names: tuple[str, ...] = (), **labels: str
) -> bytes:
    config = {**image_archives.CONFIG["config"], "Labels": {MARK: "1", **labels}}
    return image_archives.build(layers, {"config": config}, names)


def image_of(data: bytes, algorithm: str = "sha512") -> model.Image:
    digest = hashlib.new(algorithm, data).hexdigest()
    return model.Image(str(uuid.uuid4()), digest, algorithm, len(data))


def all_images(engine: containers.Engine) -> set[str]:
    """Return the images of these tests that an engine has, those without a name too."""
    with engine.connection.use() as client:
        return {each["Id"] for each in client.images(all=True, filters={"label": MARK})}


def test_image_is_fetched_once_and_known_by_id_and_digest(world: World) -> None:
    data = archive()
    image = image_of(data)
    assert world.kept.find(image) is None
    image_id = world.ensure(image, data)
    assert world.ensure(image, data) == world.again().find(image) == image_id
    assert world.service.downloads == 1
    assert world.kept.cached() == {image.id: image_id}
    # The same id with another digest is another image: somebody cheats.
    other = archive()
    changed = model.Image(image.id, image_of(other).digest, "sha512", len(other))
    assert world.ensure(changed, other) != image_id
    assert world.kept.find(image) == image_id


@pytest.mark.parametrize("algorithm", ["md5", "sha256", "sha512", ""])
def test_image_is_checked_by_what_the_service_has(world: World, algorithm: str) -> None:
    data = archive()
    good = image_of(data, algorithm or "md5")
    digest = good.digest if algorithm else ""
    assert world.ensure(model.Image(good.id, digest, algorithm, len(data)), data)


def test_image_takes_no_name_from_anybody(world: World, name: str) -> None:
    reference = f"{name}:latest"
    (mine,) = world.images.load([archive(names=(reference,))])
    data = archive(names=(reference,))
    poisoned = world.ensure(image_of(data), data)
    found = world.images.find(reference)
    assert found is not None
    assert found.id == mine.id != poisoned
    world.images.remove(reference)


def test_many_who_want_an_image_wait_for_one_download(world: World) -> None:
    data = archive()
    image = image_of(data)
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        ids = set(pool.map(lambda _n: world.ensure(image, data), range(32)))
    assert len(ids) == 1
    assert world.service.downloads == 1


def bad(case: str) -> tuple[model.Image, bytes]:
    good = archive()
    image = image_of(good)
    longer = model.Image(image.id, image.digest, image.algorithm, len(good) + 512)
    layers = [{"x": os.urandom(8)}]
    twice = image_archives.manifest("c.json", [])
    made: dict[str, tuple[model.Image, bytes]] = {
        "another": (image, archive()),
        "cut off": (image, good[:-PIECE]),
        "shorter than said": (longer, good),
        "longer than said": (image, good + bytes(PIECE)),
        "unknown digest": (model.Image(image.id, "00", "shake_128", len(good)), good),
        "bad digest": (model.Image(image.id, "../x", "md5", len(good)), good),
        "too large": (model.Image(image.id, image.digest, image.algorithm, 2**50), good),
    }
    archives = {
        "no archive": b"#!/bin/sh\n" * 1000,
        "a root file system": image_archives.layer(layers[0]),
        "two images": image_archives.archive(
            {"manifest.json": image_archives.encode([twice, twice])}
        ),
        "..": build([{"../../etc/cron.d/x": b"* * * * * root true"}]),
        "a device": build([{"dev/sda": image_archives.device(8, 0)}]),
        "our label": build(layers, **{"container_stack.owner": "nova-other"}),
    }
    if case in archives:
        return image_of(archives[case]), archives[case]
    return made[case]


BAD = {
    "another": "Its sha512 is .* and the image service says",
    "cut off": "cut off: .* bytes came of",
    "shorter than said": "cut off: .* bytes came of",
    "longer than said": "more than the .* bytes that the image service says",
    "unknown digest": "can't compute 'shake_128'",
    "bad digest": "can't compute",
    "too large": "more than 68719476736 bytes",
    "no archive": "neither as POSIX nor as GNU",
    "a root file system": "no 'manifest.json'",
    "two images": "must have one image",
    "..": "name outside",
    "a device": "a device node",
    "our label": "reserved",
}


@pytest.mark.parametrize("case", BAD)
def test_image_that_is_not_what_it_should_be_leaves_nothing(world: World, case: str) -> None:
    image, data = bad(case)
    with pytest.raises(exceptions.InvalidRequest, match=BAD[case]):
        world.ensure(image, data)
    assert all_images(world.engine) == set()
    assert world.kept.cached() == {}
    assert [path.name for path in world.state.rglob("*") if path.is_file()] == []


def test_download_that_breaks_can_be_repeated(world: World) -> None:
    data = archive()
    image = image_of(data)

    def breaks(number: int) -> None:
        if number == 20:
            raise OSError(104, "Connection reset by peer")

    with pytest.raises(OSError, match="reset by peer"):
        world.kept.ensure(image, lambda: world.service.download(data, breaks))
    assert world.kept.cached() == {}
    assert world.ensure(image, data)


def test_archive_in_the_shared_directory_needs_no_download(
    world: World, tmp_path: pathlib.Path
) -> None:
    data, other = archive(), archive()
    image, forged = image_of(data), image_of(other)
    (tmp_path / image.id).write_bytes(data)
    (tmp_path / forged.id).write_bytes(data)
    kept = world.again(shared_directory=str(tmp_path))
    assert kept.ensure(image, lambda: pytest.fail("no download was needed"))
    with pytest.raises(exceptions.InvalidRequest, match="image service says"):
        kept.ensure(forged, lambda: pytest.fail("no download was needed"))
    (tmp_path / forged.id).unlink()
    assert kept.ensure(forged, lambda: world.service.download(other))
    with pytest.raises(exceptions.InvalidRequest, match="UUID"):
        kept.ensure(model.Image("../../etc/passwd"), lambda: iter([data]))


def test_what_is_of_no_use_for_long_goes(
    world: World, make_spec: Callable[..., containers.ContainerSpec]
) -> None:
    datas = [archive() for _ in range(3)]
    used, wanted, old = (image_of(data) for data in datas)
    ids = [
        world.ensure(image, data) for image, data in zip((used, wanted, old), datas, strict=True)
    ]
    stranger = World(world.engine, world.state / "other")
    stranger_data = archive()
    stranger.ensure(image_of(stranger_data), stranger_data)
    with world.engine.creating(make_spec(image=ids[0], command=["/none"])) as container_id:
        assert world.kept.prune([wanted.id], older_than=3600) == []
        assert world.kept.prune([wanted.id], older_than=0) == [old.id]
        assert world.kept.cached().keys() == {used.id, wanted.id}
        world.engine.remove(container_id)
    assert len(stranger.kept.cached()) == 1
    # What a use is noted by is lost: from now on it counts anew.
    for path in (world.state / "images").iterdir():
        path.unlink()
    assert world.kept.prune([], older_than=3600) == []
    assert world.kept.prune([], older_than=3600) == []
    assert set(world.kept.prune([], older_than=0)) == {used.id, wanted.id}
    assert not list((world.state / "images").iterdir())
    stranger.empty()


def killed(action: Callable[[], object]) -> None:
    """Run something, in a process of its own, that kills itself."""
    process = multiprocessing.get_context("fork").Process(target=action)
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL


def test_who_is_killed_while_an_image_comes_leaves_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = archive()
    image = image_of(data)
    pieces = len(range(0, len(data), PIECE))

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    for last in (0, 1, pieces // 2, pieces - 1):

        def at(number: int, last: int = last) -> None:
            if number == last:
                die()

        killed(lambda at=at: world.kept.ensure(image, lambda: world.service.download(data, at)))
        assert world.again().find(image) is None
        assert all_images(world.engine) == set()
    assert world.ensure(image, data)
    world.empty()
    # Behind the last piece: it is here, though nobody has noted that it is of use.
    with monkeypatch.context() as patched:
        patched.setattr(server_images.ServerImages, "_use", lambda *_args: die())
        killed(lambda: world.ensure(image, data))
    assert world.again().find(image) is not None
    assert world.ensure(image, data) == world.kept.cached()[image.id]


def test_engine_that_dies_while_an_image_comes_gets_it_again(
    make_dockerd: Callable[..., dockerd.Dockerd], tmp_path: pathlib.Path
) -> None:
    daemon = make_dockerd()
    world = World(containers.Engine(daemon.url), tmp_path)
    data = archive()
    image = image_of(data)

    def at(number: int) -> None:
        if number == 15:
            daemon.kill()

    with pytest.raises(exceptions.EngineUnavailable):
        world.kept.ensure(image, lambda: world.service.download(data, at))
    with pytest.raises(exceptions.EngineUnavailable):
        world.kept.cached()
    daemon.start()
    assert all_images(world.engine) == set()
    assert world.ensure(image, data)
    (saved,) = world.kept.cached().values()
    assert io.BytesIO(b"".join(world.images.save([saved]))).getbuffer().nbytes > 99_999
    world.empty()
    world.engine.close()
