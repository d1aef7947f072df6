# SPDX-License-Identifier: Apache-2.0
"""Archives of images, between our reader and the engine's."""

import io
import itertools
import pathlib
import struct
import tarfile
import time
import tracemalloc
from collections.abc import Iterator

import pytest

from container_stack import exceptions
from container_stack.host import containers, images
from container_stack.host.image_archive.tar import Kind
from container_stack.storlets.image import archive
from container_stack.storlets.store import remote
from container_stack.testing import image_archives, objects

CAPABILITY = "SCHILY.xattr.security.capability"
GRANTED = struct.pack("<IIIII", 0x02000001, 0x2000, 0, 0, 0).decode("utf-8", "surrogateescape")

BASE: dict[str, image_archives.Content] = {
    "t/": image_archives.special(tarfile.DIRTYPE, mode=0o1777),
    "t/bin/tool": image_archives.program(b"#!/bin/sh\n", 0o4755),
    "t/bin/hard": image_archives.special(tarfile.LNKTYPE, linkname="t/bin/tool", mode=0o4711),
    "t/bin/soft": image_archives.symlink("../../t/bin/tool"),
    "t/etc/gone": b"1",
    "t/etc/hidden/below": b"2",
    "t/etc/" + 120 * "n": b"long",
    "t/was/directory": b"3",
    "t/file": b"4",
    "t/null": image_archives.device(),
    "t/fifo": image_archives.special(tarfile.FIFOTYPE),
}
UPPER: dict[str, image_archives.Content] = {
    "t/": image_archives.special(tarfile.DIRTYPE, mode=0o1777),
    "t/etc/": b"",
    "t/etc/.wh.gone": b"",
    "t/etc/hidden/": b"",
    "t/etc/hidden/.wh..wh..opq": b"",
    "t/etc/hidden/new": b"5",
    "t/bin/": image_archives.special(tarfile.DIRTYPE, mode=0o750),
    "t/bin/tool2": image_archives.program(b"6"),
    "t/was": b"a file",
    "t/file/": b"",
    "t/ping": image_archives.special(tarfile.REGTYPE, pax_headers={CAPABILITY: GRANTED}),
}


class Loaded:
    """Images that a test gave to the engine, removed when it ends."""

    def __init__(self, engine: containers.Engine) -> None:
        self.images = images.Images(engine)
        self._references: list[str] = []

    def load(self, data: bytes | Iterator[bytes]) -> images.Image:
        (image,) = self.images.load([data] if isinstance(data, bytes) else data)
        self._references += [image.id, *image.tags]
        return image

    def saved(self, reference: str) -> bytes:
        return b"".join(self.images.save([reference]))

    def clear(self) -> None:
        for reference in reversed(self._references):
            self.images.remove(reference)


@pytest.fixture
def loaded(engine: containers.Engine) -> Iterator[Loaded]:
    made = Loaded(engine)
    yield made
    made.clear()


@pytest.fixture
def base(name: str) -> bytes:
    """A layer that no other test has."""
    return image_archives.layer(BASE | {"name": name.encode()})


def opened(data: bytes) -> archive.ImageArchive:
    return archive.ImageArchive.open(io.BytesIO(data), len(data))


def test_what_the_engine_saves_is_understood(loaded: Loaded, base: bytes, name: str) -> None:
    made = image_archives.build([base, UPPER, base, {}], names=[f"{name}:1"])
    image = loaded.load(made)
    found = opened(loaded.saved(f"{name}:1"))
    found.check_digests()
    assert (found.image_id, found.names) == (image.id, (f"{name}:1",))
    # Though the engine links to a layer that is there twice.
    assert [each.diff_id for each in found.layers] == [each.diff_id for each in opened(made).layers]
    assert found.config == opened(made).config


def test_engine_takes_our_stream_for_the_same_image(loaded: Loaded, base: bytes, name: str) -> None:
    found = opened(image_archives.build([base, UPPER, base], names=[f"{name}:1"]))
    image = loaded.load(found.stream())
    assert (image.id, image.tags) == (found.image_id, ())
    assert loaded.images.find(f"{name}:1") is None
    again = opened(loaded.saved(image.id))
    assert b"".join(again.stream()) == b"".join(found.stream())


def test_archive_takes_no_name_from_whoever_has_it(loaded: Loaded, base: bytes, name: str) -> None:
    victim = loaded.load(image_archives.build([base], {"author": "victim"}, [f"{name}:latest"]))
    hostile = opened(image_archives.build([base], {"author": "attacker"}, [f"{name}:latest"]))
    assert hostile.names == (f"{name}:latest",)
    loaded.load(hostile.stream())
    assert loaded.images.find(f"{name}:latest") == victim


@pytest.mark.parametrize("skip", [1, 2, 3])
def test_engine_takes_what_it_has_not_got_yet(
    loaded: Loaded, base: bytes, name: str, skip: int
) -> None:
    layers = [base, image_archives.layer({"large": name.encode() * 50_000}), {"small": b"x"}]
    found = opened(image_archives.build(layers))
    loaded.load(image_archives.build(layers[:skip], {"author": "below"}))
    delta = b"".join(found.stream(skip))
    assert len(delta) == found.stream_size(skip)
    assert len(delta) < {1: 1_000_000, 2: 20_000, 3: 6_000}[skip]
    assert loaded.load(delta).id == found.image_id


def test_engine_that_lacks_the_first_layers_refuses_and_keeps_nothing(
    loaded: Loaded, base: bytes
) -> None:
    found = opened(image_archives.build([base, UPPER]))
    with pytest.raises(exceptions.ContainerStackError, match="no such file"):
        loaded.load(found.stream(skip=1))
    assert loaded.images.find(found.image_id) is None
    assert loaded.load(found.stream()).id == found.image_id


def test_file_system_is_the_one_that_the_engine_makes(
    engine: containers.Engine, loaded: Loaded, base: bytes, busybox_image: str, name: str
) -> None:
    busybox = opened(loaded.saved(busybox_image))
    with tarfile.open(fileobj=io.BytesIO(loaded.saved(busybox_image))) as saved:
        below = [_content(saved, each.name) for each in busybox.layers]
    again: dict[str, image_archives.Content] = {
        "t/": image_archives.special(tarfile.DIRTYPE, mode=0o711),
        "t/etc/": b"",
        "t/etc/gone": b"back",
        "t/file/": b"",
        "t/file/.wh.never": b"",
    }
    layers = [*below, base, UPPER, again]
    found = opened(image_archives.build(layers, {"config": busybox.config["config"]}))
    image = loaded.load(found.stream())
    container = engine.run(containers.ContainerSpec(name=name, image=image.id, init=True))
    try:
        packed = engine.exec(container, ["tar", "-c", "-C", "/", "t"]).stdout
    finally:
        engine.remove(container)
    made = found.tree(trusted=len(below) + 1)
    ours = {path.lstrip("/"): entry for path, entry in made.walk() if path.startswith("/t")}
    ours.pop("tmp", None)
    with tarfile.open(fileobj=io.BytesIO(packed)) as theirs:
        assert theirs.getnames() and set(theirs.getnames()) == set(ours)  # noqa: PT018
        for member in theirs:
            entry = ours[member.name]
            if member.islnk():
                continue
            assert (entry.kind.value, entry.mode) == (member.type, member.mode), member.name
            assert (entry.size, entry.target) == (member.size, member.linkname)
            if entry.kind is Kind.FILE:
                assert made.read("/" + member.name, 1000) == _content(theirs, member.name)
    assert made.read("/t/bin/hard", 100) == b"#!/bin/sh\n"
    told = {path for path, entry in ours.items() if entry.privileged}
    assert told == {"t/bin/tool", "t/bin/hard", "t/ping"}


def test_looking_at_an_archive_in_swift_takes_few_requests(
    loaded: Loaded, base: bytes, name: str
) -> None:
    layers = [base, *({f"large{n}": name.encode() * 100_000} for n in range(4))]
    data = loaded.saved(loaded.load(image_archives.build(layers)).id)
    store = objects.MemoryObjects()
    store.set_container("docker_images", {})
    store.write("docker_images", "image.tar", data)
    file = remote.RangeFile(store, "docker_images", "image.tar")
    found = archive.ImageArchive.open(file, file.size)
    assert found.image_id == opened(data).image_id
    assert file.requests <= 14
    assert file.fetched < 100_000


def test_hundred_thousand_files_are_refused_in_time() -> None:
    header = bytearray(image_archives.special(tarfile.REGTYPE, name="0" * 6).tobuf())
    parts = []
    for number in range(100_001):
        header[:6] = b"%06d" % number
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
        parts.append(bytes(header))
    found = opened(image_archives.build([b"".join(parts) + bytes(1024)]))
    begin = time.process_time()
    with pytest.raises(exceptions.InvalidRequest, match="too many files"):
        found.tree()
    assert time.process_time() - begin < 20


def test_gigabyte_of_zeros_is_looked_at_in_little_memory(tmp_path: pathlib.Path) -> None:
    size = 1024**3
    header = image_archives.special(tarfile.REGTYPE, name="zeros", size=size).tobuf()
    layer = size + 2048
    config = image_archives.configuration([b""])
    members = image_archives.archive(
        {
            "c.json": image_archives.encode(config),
            "manifest.json": image_archives.encode([image_archives.manifest("c.json", ["l"])]),
        }
    ).rstrip(b"\0")
    members += bytes(-len(members) % 512)
    path = tmp_path / "archive.tar"
    with path.open("wb") as file:
        file.write(members)
        file.write(image_archives.special(tarfile.REGTYPE, name="l", size=layer).tobuf() + header)
        file.truncate(file.tell() + layer + 1024)
    tracemalloc.start()
    try:
        with path.open("rb") as file:
            found = archive.ImageArchive.open(file, path.stat().st_size)
            entry = found.tree().find("/zeros")
            piece = next(itertools.islice(found.stream(), 3, None))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert entry is not None
    assert entry.size == size
    assert piece == header + bytes(len(piece) - 512)
    assert peak < 8 * 1024**2


def _content(tar: tarfile.TarFile, name: str) -> bytes:
    file = tar.extractfile(name)
    assert file is not None
    return file.read()
