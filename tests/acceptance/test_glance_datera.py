# SPDX-License-Identifier: Apache-2.0
"""Images in real Glance, on two arrays at once and in a directory beside them.

``wire`` is reached by iSCSI (tgt and libiscsi) and has software 2.2; ``direct`` is reached through
its files and has software 3.3; ``locked`` is ``direct`` with a wrong password.
"""

import concurrent.futures
import contextlib
import dataclasses
import random
import uuid
from collections.abc import Iterator

import pytest
from oslo_config import cfg

from container_stack.drivers import glance as driver
from container_stack.imagestore import edf

from . import arrays, glance, image_rest, resources

MIB = 1024**2
#: Three pieces of a volume, the last one short.
SIZE = 17 * MIB + 1234


@dataclasses.dataclass(frozen=True, slots=True)
class World:
    """Glance and its arrays."""

    glance: glance.Glance
    arrays: dict[str, arrays.Array]

    def client(self) -> image_rest.Client:
        """Return the client of a project of its own, with a quota of its own."""
        return self.glance.client(f"project-{uuid.uuid4()}")

    def open_store(self, name: str) -> driver.Store:
        """Return a store as a service of an operator's own opens it beside Glance."""
        conf = cfg.ConfigOpts()
        conf([], default_config_files=[str(self.glance.config)])
        store = driver.Store(conf, backend=name)
        store.configure(re_raise_bsc=True)
        return store


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    directory = tmp_path_factory.mktemp("glance")
    for name in ("wire", "direct", "disk"):
        (directory / name).mkdir()
    with (
        arrays.running(directory / "wire", "tgt", "libiscsi", "2.2.0") as wire,
        arrays.running(directory / "direct", "file", "file", "3.3.0") as direct,
        glance.running(
            directory,
            {
                "wire": ("datera", wire.options),
                "direct": ("datera", direct.options),
                "locked": (
                    "datera",
                    {**direct.options, "datera_san_password": arrays.WRONG_PASSWORD},
                ),
                "disk": ("file", {"filesystem_store_datadir": directory / "disk"}),
            },
        ) as running,
    ):
        yield World(running, {"wire": wire, "direct": direct})


@pytest.fixture(params=["wire", "direct"])
def store(request: pytest.FixtureRequest) -> str:
    """The name of a store."""
    name: str = request.param
    return name


@pytest.fixture
def array(world: World, store: str) -> Iterator[arrays.Array]:
    """That store's array, without faults in the end."""
    yield world.arrays[store]
    world.arrays[store].simulator.faults.clear()


@pytest.fixture(scope="module")
def data() -> bytes:
    """Bytes that are alike nowhere, but for a hole of zeros."""
    made = bytearray(random.Random(7).randbytes(SIZE))
    made[3 * MIB + 5 : 6 * MIB] = bytes(3 * MIB - 5)
    return bytes(made)


def pieces(data: bytes) -> Iterator[bytes]:
    """Yield data in parts of no round size."""
    for start in range(0, len(data), 777_777):
        yield data[start : start + 777_777]


@contextlib.contextmanager
def refused(code: int, word: str = "") -> Iterator[None]:
    """Expect that Glance refuses with this code of HTTP, and says this word."""
    with pytest.raises(resources.RefusedError) as refusal:
        yield
    assert (refusal.value.code, word in str(refusal.value)) == (code, True), refusal.value


# Upload and download --------------------------------------------------------------------------


@pytest.mark.parametrize("size_known", [True, False])
def test_an_image_comes_back_as_it_was(
    world: World, store: str, array: arrays.Array, data: bytes, size_known: bool
) -> None:
    client = world.client()
    image = client.create(os_distro="boatos", tags=["wooden"])

    client.upload(image, data if size_known else pieces(data), store)

    found = client.show(image)
    assert (found["status"], found["size"], found["stores"]) == ("active", SIZE, store)
    assert found.items() >= image_rest.digests(data).items()
    assert (found["os_distro"], found["tags"]) == ("boatos", ["wooden"])
    assert found["locations"] == [
        {"url": f"datera://{store}/{image}", "metadata": {"store": store}}
    ]
    assert client.download(image) == data
    assert array.images().count(f"OS-IMAGE-{image}") == 1
    assert image not in array.noted()
    client.delete(image)


def test_a_range_is_read_exactly(world: World, store: str, data: bytes) -> None:
    client = world.client()
    image = client.create()
    client.upload(image, data, store)

    border = 8 * MIB
    for first, last in ((0, 0), (5, 9), (border - 3, border + 4), (SIZE - 7, SIZE - 1)):
        assert client.download(image, f"{first}-{last}") == data[first : last + 1]
    assert client.download(image, f"{SIZE - 70_001}-") == data[-70_001:]
    assert client.download(image, "-513") == data[-513:]
    client.delete(image)


def test_four_images_at_once(world: World, store: str, data: bytes) -> None:
    client = world.client()

    def walk(number: int) -> bool:
        mine = data[number * 1001 :]
        image = client.create()
        client.upload(image, mine if number % 2 else pieces(mine), store)
        same = client.download(image) == mine
        client.delete(image)
        return same

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert list(pool.map(walk, range(4))) == [True] * 4


# Several stores -------------------------------------------------------------------------------


def test_one_image_in_several_stores(world: World, data: bytes) -> None:
    client = world.client()
    image = client.create()
    client.stage(image, data)

    client.import_to(image, "glance-direct", "wire", "direct")
    assert client.show(image).items() >= image_rest.digests(data).items()
    client.import_to(image, "copy-image", "disk")
    assert set(client.show(image)["stores"].split(",")) == {"wire", "direct", "disk"}

    client.delete_from("wire", image)
    world.arrays["wire"].wait_empty(image)
    assert client.download(image) == data
    client.delete_from("disk", image)
    assert client.show(image)["stores"] == "direct"
    assert client.download(image) == data
    client.import_to(image, "copy-image", "wire")
    client.delete_from("direct", image)
    assert client.download(image) == data
    client.delete(image)
    for each in world.arrays.values():
        each.wait_empty(image)


# Deletion -------------------------------------------------------------------------------------


def test_a_deleted_image_is_gone_and_stays_so(
    world: World, store: str, array: arrays.Array
) -> None:
    client = world.client()
    image = client.create()
    client.upload(image, b"calm sea", store)

    client.delete(image)

    array.wait_empty(image)
    with refused(404):
        client.delete(image)


def test_an_image_that_the_array_lost_can_be_deleted(
    world: World, store: str, array: arrays.Array
) -> None:
    client = world.client()
    image = client.create()
    client.upload(image, b"calm sea", store)
    edf.Client(array.endpoint).delete_app_instance(f"OS-IMAGE-{image}")

    assert client.call("GET", f"images/{image}/file").status_code == 204
    client.delete(image)


def test_an_image_with_a_clone_is_in_use(
    world: World, store: str, array: arrays.Array, data: bytes
) -> None:
    client = world.client()
    image, clone = client.create(), str(uuid.uuid4())
    client.upload(image, data, store)
    operators = world.open_store(store)
    target = operators.clone(image, clone, "iqn.2026-01.org.example:cstest-nova")
    assert target.portals
    assert operators.clone(image, clone) == target

    with refused(409):
        client.delete(image)
    assert client.download(image) == data

    assert operators.delete_clone(image, clone)
    client.delete(image)
    array.wait_empty(image)


# What goes wrong ------------------------------------------------------------------------------


@pytest.mark.parametrize("size_known", [True, False])
def test_a_client_that_goes_leaves_nothing(
    world: World, store: str, array: arrays.Array, data: bytes, size_known: bool
) -> None:
    client = world.client()
    image = client.create()
    upload = client.begin_upload(image, SIZE if size_known else None, store)
    upload.send(data[: 12 * MIB])
    array.wait_begun(image)

    upload.break_off()

    array.wait_empty(image)
    client.wait("the image's old status", lambda: client.show(image)["status"] == "queued")
    client.upload(image, data, store)
    assert client.download(image) == data
    client.delete(image)


@pytest.mark.parametrize("size_known", [True, False])
def test_a_project_over_its_quota_leaves_nothing(
    world: World, store: str, array: arrays.Array, data: bytes, size_known: bool
) -> None:
    client = world.client()
    image = client.create()
    over = glance.QUOTA // SIZE + 1

    def parts() -> Iterator[bytes]:
        for _ in range(over):
            yield data

    body = bytes(glance.QUOTA + 1) if size_known else parts()
    with refused(413, "quota"):
        client.upload(image, body, store)

    array.wait_empty(image)
    if size_known:  # otherwise Glance 33 looks when all is stored, and forgets to restore this
        assert client.show(image)["status"] == "queued"
    client.delete(image)


def test_a_full_array_is_said_and_leaves_nothing(
    world: World, store: str, array: arrays.Array, data: bytes
) -> None:
    client = world.client()
    image = client.create()
    array.simulator.faults.fill()

    with refused(413, "full"):
        client.upload(image, data, store)

    array.simulator.faults.clear()
    array.wait_empty(image)
    assert client.show(image)["status"] == "queued"
    client.upload(image, data, store)
    client.delete(image)


def test_an_array_that_is_down_is_said_and_used_again(
    world: World, store: str, array: arrays.Array, data: bytes
) -> None:
    client = world.client()
    image, other = client.create(), client.create()
    client.upload(image, data, store)
    array.simulator.faults.http_error(503)

    with refused(503):
        client.upload(other, data, store)
    with refused(503):
        client.download(image)
    with refused(503):
        client.delete(image)

    array.simulator.faults.clear()
    assert client.download(image) == data
    client.upload(other, data, store)
    for each in (image, other):
        client.delete(each)
        array.wait_empty(each)


def test_a_wrong_password_closes_one_store_only(world: World, data: bytes) -> None:
    client = world.client()
    assert set(client.stores()) == {"wire", "direct", "locked", "disk"}
    [line, *_] = world.glance.said("Disabling add method")
    assert "Store locked could not be configured correctly" in line
    assert "WARNING" in line

    image = client.create()
    with refused(410):
        client.upload(image, data, "locked")
    client.upload(image, data, "direct")
    client.delete(image)


def test_a_killed_worker_leaves_nothing_after_its_restart(world: World, data: bytes) -> None:
    client = world.client()
    whole = client.create()
    client.upload(whole, data, "wire")
    begun = {name: client.create() for name in world.arrays}
    uploads = []
    for name, image in begun.items():
        uploads.append(client.begin_upload(image, SIZE, name))
        uploads[-1].send(data[: 12 * MIB])
        world.arrays[name].wait_begun(image)

    world.glance.kill_worker()

    for upload in uploads:
        upload.break_off()
    for name, image in begun.items():
        world.arrays[name].wait_empty(image)
        assert image not in world.arrays[name].noted()
        assert world.glance.said(f"Store {name}: removed what a crash left: {image}")
    assert client.download(whole) == data
    client.delete(whole)


def test_no_log_has_a_secret(world: World) -> None:
    logs = [world.glance.log, world.glance.api.log]
    for log in logs:
        text = log.read_text()
        assert "datera" in text or log is world.glance.api.log
        for secret in (arrays.PASSWORD, arrays.WRONG_PASSWORD):
            assert secret not in text
