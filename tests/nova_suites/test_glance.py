# SPDX-License-Identifier: Apache-2.0
"""What Nova's client of Glance is asked, and what comes of it."""

import itertools
import threading
import types
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import nova.conf
import pytest
from nova import exception

from container_stack import exceptions
from container_stack.drivers.nova import begun, glance
from container_stack.servers import model

CONF = nova.conf.CONF
SERVER = "7b6a1c52-6f0e-4f0b-9a55-0f2f6e1f9c3d"
IMAGE = "2f3c5a1e-7a58-4e0e-8a62-0d1b8f7d2c11"


class Api:
    """Glance as Nova's client shows it, with one image after another."""

    def __init__(self) -> None:
        self.images: dict[str, dict[str, Any]] = {}
        self.data: dict[str, bytes] = {}
        self.error: Exception | None = None
        #: Bytes after which an upload breaks once, and is repeated.
        self.breaks_at: int | None = None
        #: Whether nothing can be deleted now.
        self.refusing = False

    def get(self, _context: object, image_id: str) -> dict[str, Any]:
        return self.images[image_id]

    def create(self, _context: object, values: dict[str, Any]) -> dict[str, Any]:
        self.images[values["id"]] = {**values, "size": 0}
        return self.images[values["id"]]

    def delete(self, _context: object, image_id: str) -> None:
        if self.refusing:
            raise exception.GlanceConnectionFailed(server="nowhere", reason="nobody answers")
        if self.images.pop(image_id, None) is None:
            raise exception.ImageNotFound(image_id=image_id)

    def download(
        self, _context: object, image_id: str, data: Any = None, trusted_certs: object = None
    ) -> None:
        assert trusted_certs in (None, "certificates")
        for start in range(0, len(self.data[image_id]), 1000):
            data.write(self.data[image_id][start : start + 1000])
        if self.error:
            data.truncate(0)
            raise self.error

    def update(
        self,
        _context: object,
        image_id: str,
        values: dict[str, Any],
        data: Any,
        *,
        purge_props: bool,
    ) -> dict[str, Any]:
        assert not purge_props
        if self.breaks_at is not None:
            data.read(self.breaks_at)
        kept = b"".join(iter(lambda: data.read(700), b""))
        self.data[image_id] = kept
        self.images[image_id] |= values | {"size": len(kept)}
        return self.images[image_id]


class Images:
    """Stands for what keeps images in an engine."""

    def __init__(self) -> None:
        self.kept: dict[model.Image, bytes] = {}
        self.in_use: set[str] = set()
        self.limit = 10**9

    def ensure(self, image: model.Image, download: Callable[[], Iterable[bytes]]) -> str:
        if image not in self.kept:
            self.kept[image] = b"".join(itertools.islice(download(), self.limit))
        if self.limit == 0:
            raise exceptions.InvalidRequest("It is no image")
        return "sha256:1"

    def find(self, image: model.Image) -> str | None:
        return "sha256:1" if image in self.kept else None

    def prune(self, in_use: Collection[str], *, older_than: float) -> Sequence[str]:
        self.in_use = set(in_use)
        return [f"{older_than}"]


class Store:
    def __init__(self, directory: Path) -> None:
        self.api, self.images = Api(), Images()
        self.directory = directory
        self.glance = self.again()

    def again(self) -> glance.Glance:
        """Return what a new start of the service has."""
        return glance.Glance(self.images, str(self.directory), self.api)  # type: ignore[arg-type]

    def image(self, data: bytes = b"", **values: object) -> None:
        self.api.images[IMAGE] = {
            "id": IMAGE,
            "container_format": "docker",
            "size": len(data),
            "checksum": "0cc175b9c0f1b6a831c399e269772661",
            "properties": {"os_command_line": "date"},
            **values,
        }
        self.api.data[IMAGE] = data

    def ensure(self) -> str:
        return self.glance.ensure(None, IMAGE, "certificates")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


@pytest.mark.parametrize(
    ("values", "algorithm", "digest"),
    [
        ({}, "md5", "0cc175b9c0f1b6a831c399e269772661"),
        ({"os_hash_algo": "sha512", "os_hash_value": "ab"}, "sha512", "ab"),
        (
            {"os_hash_algo": "sha3_224x", "os_hash_value": "ab"},
            "md5",
            "0cc175b9c0f1b6a831c399e269772661",
        ),
        ({"checksum": None}, "", ""),
        # What a tenant may write there isn't Glance's word.
        (
            {"properties": {"os_hash_algo": "sha512", "os_hash_value": "00"}, "checksum": None},
            "",
            "",
        ),
    ],
)
def test_image_is_known_by_the_best_digest_there_is(
    store: Store, values: dict[str, object], algorithm: str, digest: str
) -> None:
    store.image(b"123", **values)
    found = store.glance.describe(None, IMAGE)
    assert (found.algorithm, found.digest, found.size) == (algorithm, digest, 3)


@pytest.mark.parametrize("container_format", ["bare", "ova", None])
def test_image_that_is_not_dockers_is_refused_with_the_way_to_make_one(
    store: Store, container_format: str | None
) -> None:
    store.image(container_format=container_format)
    with pytest.raises(exception.ImageUnacceptable, match="docker save IMAGE"):
        store.ensure()


def test_download_comes_in_pieces_and_once(store: Store) -> None:
    data = bytes(range(256)) * 400
    store.image(data)
    assert store.ensure() == store.ensure() == "sha256:1"
    assert list(store.images.kept.values()) == [data]
    assert not store.glance.cache(None, IMAGE)
    store.images.kept.clear()
    assert store.glance.cache(None, IMAGE)


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (OSError(32, "Corrupt image download. Hash was 1 expected 2"), exception.ImageUnacceptable),
        (OSError(104, "Connection reset by peer"), exception.NovaException),
        (exception.ImageNotAuthorized(image_id=IMAGE), exception.ImageNotAuthorized),
        (ValueError("signature"), ValueError),
    ],
)
def test_download_that_fails_at_its_end_fails(
    store: Store, error: Exception, raised: type[Exception]
) -> None:
    store.image(bytes(5000))
    store.api.error = error
    with pytest.raises(raised):
        store.ensure()
    assert store.images.kept == {}


def test_download_that_nobody_wants_any_more_ends(store: Store) -> None:
    store.image(bytes(10**6))
    store.images.limit = 0
    with pytest.raises(exception.ImageUnacceptable, match="It is no image"):
        store.ensure()
    for thread in threading.enumerate():
        if thread.name == f"image-{IMAGE}":
            thread.join(60)
            assert not thread.is_alive()


def test_snapshot_keeps_the_properties_of_its_image(store: Store) -> None:
    store.image(min_disk=3, name="snap")
    store.glance.upload(None, IMAGE, [b"1" * 1000, b"2" * 5000])  # type: ignore[arg-type]
    assert store.api.data[IMAGE] == b"1" * 1000 + b"2" * 5000
    found = store.api.images[IMAGE]
    assert (found["min_disk"], found["name"], found["size"]) == (3, "snap", 6000)
    assert found["properties"] == {"os_command_line": "date"}
    assert (found["disk_format"], found["container_format"]) == ("raw", "docker")


def test_upload_that_broke_and_was_repeated_is_no_image(store: Store) -> None:
    store.image()
    store.api.breaks_at = 1500
    with pytest.raises(exception.ImageUnacceptable, match="5000 bytes of 6000"):
        store.glance.upload(None, IMAGE, [bytes(1000), bytes(5000)])  # type: ignore[arg-type]
    before = set(store.api.images)
    with pytest.raises(exception.ImageUnacceptable, match="bytes of"):
        store.glance.send_parcel(None, "parcel", SERVER, [bytes(1000), bytes(5000)])
    assert set(store.api.images) == before
    assert store.glance.begun.servers() == []


def test_parcel_goes_and_comes_and_is_known_until_the_move_is_over(store: Store) -> None:
    image_id = store.glance.send_parcel(None, "parcel", SERVER, [bytes(3000)])
    assert store.api.images[image_id]["container_format"] == "bare"
    assert b"".join(store.glance.parcel(None, image_id)) == bytes(3000)
    known = store.again().begun
    known.start()
    assert (known.parcel(SERVER), known.servers()) == (image_id, [SERVER])
    known.discard(None, IMAGE)
    assert image_id in store.api.images
    for _ in range(2):
        known.discard(None, SERVER)
    assert (known.parcel(SERVER), known.servers(), store.api.images) == (None, [], {})


def test_parcel_that_cannot_be_deleted_now_is_kept_in_mind(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    image_id = store.glance.send_parcel(None, "parcel", SERVER, [bytes(3000)])
    store.api.refusing = True
    store.glance.begun.discard(None, SERVER)
    assert f"Image {image_id} was begun by this host" in caplog.text
    store.api.refusing = False
    store.again().begun.discard(None, SERVER)
    assert store.api.images == {}


@pytest.mark.parametrize(("status", "left"), [("saving", []), ("queued", []), ("active", [IMAGE])])
def test_snapshot_that_a_crash_has_cut_short_is_deleted_at_the_next_start(
    store: Store, status: str, left: list[str]
) -> None:
    store.image(status=status)
    store.glance.begun.note(IMAGE, SERVER, begun.Kind.SNAPSHOT)
    for _ in range(2):
        store.again().begun.start()
    assert list(store.api.images) == left
    assert list(store.directory.glob("glance/*")) == []


def test_snapshot_that_has_ended_is_nobodys_business(store: Store) -> None:
    store.image(status="saving")
    with pytest.raises(RuntimeError), store.glance.begun.snapshot(IMAGE, SERVER):
        raise RuntimeError
    store.again().begun.start()
    assert list(store.api.images) == [IMAGE]


def test_cache_goes_by_novas_options(store: Store) -> None:
    instances = [types.SimpleNamespace(image_ref=each) for each in (IMAGE, "", None)]
    store.glance.manage_cache(instances)
    assert store.images.in_use == {IMAGE}
    store.images.in_use = {"unchanged"}
    CONF.set_override("remove_unused_base_images", False, group="image_cache")
    try:
        store.glance.manage_cache(instances)
    finally:
        CONF.clear_override("remove_unused_base_images", group="image_cache")
    assert store.images.in_use == {"unchanged"}
