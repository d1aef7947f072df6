# SPDX-License-Identifier: Apache-2.0
"""Images in real Glance: uploads, ranges, several stores, deletion."""

import concurrent.futures
import uuid

import pytest

from container_stack.imagestore import edf

from . import arrays, image_rest, image_world

MIB = 1024**2


# Upload and download --------------------------------------------------------------------------


@pytest.mark.parametrize("size_known", [True, False])
def test_an_image_comes_back_as_it_was(
    world: image_world.World, store: str, array: arrays.Array, data: bytes, size_known: bool
) -> None:
    client = world.client()
    image = client.create(os_distro="boatos", tags=["wooden"])

    client.upload(image, data if size_known else image_world.pieces(data), store)

    found = client.show(image)
    assert (found["status"], found["size"], found["stores"]) == ("active", image_world.SIZE, store)
    assert found.items() >= image_rest.digests(data).items()
    assert (found["os_distro"], found["tags"]) == ("boatos", ["wooden"])
    assert found["locations"] == [
        {"url": f"datera://{store}/{image}", "metadata": {"store": store}}
    ]
    assert client.download(image) == data
    assert array.images().count(f"OS-IMAGE-{image}") == 1
    assert image not in array.noted()
    client.delete(image)


def test_a_range_is_read_exactly(world: image_world.World, store: str, data: bytes) -> None:
    client = world.client()
    image = client.create()
    client.upload(image, data, store)

    border = 8 * MIB
    for first, last in (
        (0, 0),
        (5, 9),
        (border - 3, border + 4),
        (image_world.SIZE - 7, image_world.SIZE - 1),
    ):
        assert client.download(image, f"{first}-{last}") == data[first : last + 1]
    assert client.download(image, f"{image_world.SIZE - 70_001}-") == data[-70_001:]
    assert client.download(image, "-513") == data[-513:]
    client.delete(image)


def test_four_images_at_once(world: image_world.World, store: str, data: bytes) -> None:
    client = world.client()

    def walk(number: int) -> bool:
        mine = data[number * 1001 :]
        image = client.create()
        client.upload(image, mine if number % 2 else image_world.pieces(mine), store)
        same = client.download(image) == mine
        client.delete(image)
        return same

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert list(pool.map(walk, range(4))) == [True] * 4


# Several stores -------------------------------------------------------------------------------


def test_one_image_in_several_stores(world: image_world.World, data: bytes) -> None:
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
    world: image_world.World, store: str, array: arrays.Array
) -> None:
    client = world.client()
    image = client.create()
    client.upload(image, b"calm sea", store)

    client.delete(image)

    array.wait_empty(image)
    with image_world.refused(404):
        client.delete(image)


def test_an_image_that_the_array_lost_can_be_deleted(
    world: image_world.World, store: str, array: arrays.Array
) -> None:
    client = world.client()
    image = client.create()
    client.upload(image, b"calm sea", store)
    edf.Client(array.endpoint).delete_app_instance(f"OS-IMAGE-{image}")

    assert client.call("GET", f"images/{image}/file").status_code == 204
    client.delete(image)


def test_an_image_with_a_clone_is_in_use(
    world: image_world.World, store: str, array: arrays.Array, data: bytes
) -> None:
    client = world.client()
    image, clone = client.create(), str(uuid.uuid4())
    client.upload(image, data, store)
    operators = world.open_store(store)
    target = operators.clone(image, clone, "iqn.2026-01.org.example:cstest-nova")
    assert target.portals
    assert operators.clone(image, clone) == target

    with image_world.refused(409):
        client.delete(image)
    assert client.download(image) == data

    assert operators.delete_clone(image, clone)
    client.delete(image)
    array.wait_empty(image)
