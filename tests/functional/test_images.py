# SPDX-License-Identifier: Apache-2.0
"""Images of the engine of this machine."""

import io
import itertools
import json
import os
import tarfile
import time
from collections.abc import Iterator
from typing import IO

import pytest

from container_stack import exceptions
from container_stack.host import containers, images

from . import busybox
from .conftest import MakeSpec

CHUNK = 64 * 1024


@pytest.fixture
def own_images(engine: containers.Engine) -> images.Images:
    return images.Images(engine)


@pytest.fixture
def image(own_images: images.Images, name: str) -> Iterator[images.Image]:
    """A small image that no other test has, tagged name:1."""
    yield make_image(own_images, f"{name}:1")
    for tag in ("1", "2", "latest"):
        own_images.remove(f"{name}:{tag}")


def archive(content: bytes) -> IO[bytes]:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        busybox.add_file(tar, "blob", content)
    buffer.seek(0)
    return buffer


def make_image(own_images: images.Images, reference: str, size: int = 100_001) -> images.Image:
    changes = ["LABEL container_stack.test=1", 'CMD ["/blob"]']
    return own_images.import_tar(archive(os.urandom(size)), reference, changes)


def test_imported_image_is_what_was_asked_for(
    own_images: images.Images, image: images.Image, name: str
) -> None:
    assert image.id.startswith("sha256:")
    assert image.tags == (f"{name}:1",)
    assert 100_001 <= image.size < 110_000
    assert image.labels == {"container_stack.test": "1"}
    assert image.created is not None
    assert abs(image.created.timestamp() - time.time()) < 60
    assert image.architecture in ("amd64", "arm64")
    assert own_images.find(f"{name}:1") == image
    assert own_images.find(image.id) == image
    assert own_images.find(f"{name}:2") is None
    assert own_images.find("sha256:" + "0" * 64) is None


def test_reference_without_a_tag_is_latest(own_images: images.Images, name: str) -> None:
    made = make_image(own_images, name)
    assert made.tags == (f"{name}:latest",)
    own_images.remove(name)
    assert own_images.find(made.id) is None


def test_import_takes_bytes_in_pieces(own_images: images.Images, name: str) -> None:
    data = archive(b"pieces").read()
    pieces = (data[start : start + 1000] for start in range(0, len(data), 1000))
    assert own_images.import_tar(pieces, f"{name}:1").tags == (f"{name}:1",)
    own_images.remove(f"{name}:1")


def test_image_saved_by_id_comes_back_with_its_id_and_no_name(
    own_images: images.Images, image: images.Image, name: str
) -> None:
    saved = b"".join(own_images.save([image.id]))
    own_images.remove(f"{name}:1")
    assert own_images.find(image.id) is None
    (loaded,) = own_images.load(io.BytesIO(saved))
    assert (loaded.id, loaded.tags, loaded.size) == (image.id, (), image.size)
    assert loaded.labels == image.labels
    own_images.tag(loaded.id, f"{name}:2")
    own_images.tag(loaded.id, f"{name}:2")
    found = own_images.find(f"{name}:2")
    assert found is not None
    assert (found.id, found.tags) == (image.id, (f"{name}:2",))


def test_images_saved_by_name_come_back_with_that_name(
    own_images: images.Images, image: images.Image, name: str
) -> None:
    second = make_image(own_images, f"{name}:2", size=200_002)
    saved = b"".join(own_images.save([f"{name}:1", f"{name}:2"]))
    for tag in ("1", "2"):
        own_images.remove(f"{name}:{tag}")
    loaded = own_images.load(saved[start : start + CHUNK] for start in range(0, len(saved), CHUNK))
    assert {each.id: each.tags for each in loaded} == {
        image.id: (f"{name}:1",),
        second.id: (f"{name}:2",),
    }
    assert own_images.load(io.BytesIO(saved)) == loaded


def test_load_reports_an_image_of_several_names_once(
    own_images: images.Images, image: images.Image, name: str
) -> None:
    own_images.tag(image.id, f"{name}:2")
    saved = b"".join(own_images.save([f"{name}:1", f"{name}:2"]))
    (loaded,) = own_images.load(io.BytesIO(saved))
    assert loaded.id == image.id
    assert sorted(loaded.tags) == [f"{name}:1", f"{name}:2"]


def test_image_may_be_saved_and_loaded_in_one_stream(
    own_images: images.Images, image: images.Image
) -> None:
    assert [each.id for each in own_images.load(own_images.save([image.id]))] == [image.id]


def test_save_streams_and_can_be_given_up(own_images: images.Images, name: str) -> None:
    big = make_image(own_images, f"{name}:1", size=30_000_000)
    chunks = own_images.save([big.id])
    first = list(itertools.islice(chunks, 3))
    assert 0 < sum(map(len, first)) <= 3 * images.CHUNK
    chunks.close()  # type: ignore[attr-defined]
    assert own_images.find(big.id) == big
    own_images.remove(f"{name}:1")


def test_archive_holds_what_was_imported(
    own_images: images.Images, image: images.Image, name: str
) -> None:
    saved = io.BytesIO(b"".join(own_images.save([f"{name}:1"])))
    with tarfile.open(fileobj=saved) as tar:
        manifest = tar.extractfile("manifest.json")
        assert manifest is not None
        (entry,) = json.load(manifest)
    assert entry["RepoTags"] == [f"{name}:1"]
    assert len(entry["Layers"]) == 1


def test_tag_moves_from_one_image_to_another(
    own_images: images.Images, image: images.Image, name: str
) -> None:
    second = make_image(own_images, f"{name}:2")
    own_images.tag(second.id, f"{name}:1")
    found = own_images.find(f"{name}:1")
    assert found is not None
    assert found.id == second.id
    own_images.remove(image.id)
    assert own_images.find(image.id) is None


def test_remove_is_idempotent_and_spares_what_is_used(
    own_images: images.Images,
    engine: containers.Engine,
    make_spec: MakeSpec,
    image: images.Image,
    name: str,
) -> None:
    own_images.tag(image.id, f"{name}:2")
    with pytest.raises(exceptions.Busy):
        own_images.remove(image.id)
    with engine.creating(make_spec(image=image.id)) as container_id:
        own_images.remove(f"{name}:2")
        with pytest.raises(exceptions.Busy, match="using"):
            own_images.remove(f"{name}:1")
        engine.remove(container_id)
    own_images.remove(f"{name}:1")
    own_images.remove(f"{name}:1")
    own_images.remove(image.id)
    assert own_images.find(image.id) is None


@pytest.mark.parametrize("reference", ["", ":1", "Capitals:1", "a b", "name:", "name@sha256:0"])
def test_bad_reference_is_refused(own_images: images.Images, reference: str) -> None:
    with pytest.raises(exceptions.InvalidRequest):
        own_images.import_tar(archive(b"x"), reference)


def test_bad_change_is_refused_and_leaves_no_image(own_images: images.Images, name: str) -> None:
    with pytest.raises(exceptions.InvalidRequest, match=r"(?i)nonsense"):
        own_images.import_tar(archive(b"x"), f"{name}:1", ["NONSENSE here"])
    assert own_images.find(f"{name}:1") is None


@pytest.mark.parametrize("data", [b"\x01" * 5_000_000, b"no archive"])
def test_what_is_no_archive_is_refused(own_images: images.Images, name: str, data: bytes) -> None:
    with pytest.raises(exceptions.InvalidRequest):
        own_images.import_tar(io.BytesIO(data), f"{name}:1")
    with pytest.raises(exceptions.InvalidRequest):
        own_images.load(io.BytesIO(data))
    assert own_images.find(f"{name}:1") is None


def test_missing_image_can_not_be_saved_or_tagged(own_images: images.Images, name: str) -> None:
    with pytest.raises(exceptions.NotFound, match=name):
        list(own_images.save([f"{name}:1"]))
    with pytest.raises(exceptions.NotFound, match=name):
        own_images.tag(f"{name}:1", f"{name}:2")


class Failing(io.RawIOBase):
    """A file on a disk that breaks after a while."""

    def __init__(self) -> None:
        self._left = 20

    def read(self, size: int = -1) -> bytes:
        self._left -= 1
        if not self._left:
            raise OSError(5, "Input/output error")
        return b"\0" * min(size, CHUNK)


def test_unreadable_archive_is_not_blamed_on_the_engine(
    own_images: images.Images, name: str
) -> None:
    with pytest.raises(OSError, match="Input/output error"):
        own_images.import_tar(Failing(), f"{name}:1")  # type: ignore[arg-type]
    with pytest.raises(OSError, match="Input/output error"):
        own_images.load(Failing())  # type: ignore[arg-type]
    assert own_images.find(f"{name}:1") is None
