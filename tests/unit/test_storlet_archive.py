# SPDX-License-Identifier: Apache-2.0
"""Archives of images: good ones are understood, hostile ones refused before they cost much."""

import io
import json
import pathlib
import tarfile
import threading

import pytest

from container_stack import exceptions
from container_stack.storlets.image import archive
from container_stack.testing import image_archives

BASE = image_archives.layer({"etc/": b"", "etc/release": b"base\n"})
OURS = image_archives.layer({"etc/ours": b"ours\n", "opt/": b""})


def opened(data: bytes, **bounds: int) -> archive.ImageArchive:
    return archive.ImageArchive.open(io.BytesIO(data), len(data), archive.Bounds(**bounds))


def refusal(data: bytes, **bounds: int) -> str:
    """Return why an archive is refused."""
    with pytest.raises(exceptions.InvalidRequest) as info:
        opened(data, **bounds)
    assert len(str(info.value)) < 1000
    return str(info.value)


def forged(**changes: object) -> bytes:
    """Return an archive whose manifest says something else."""
    config = image_archives.encode(image_archives.configuration([BASE, OURS]))
    entry = image_archives.manifest("config.json", ["a/layer.tar", "b/layer.tar"])
    members = {
        "a/layer.tar": BASE,
        "b/layer.tar": OURS,
        "config.json": config,
        "manifest.json": image_archives.encode([entry | changes]),
    }
    return image_archives.archive(members)


class Watched(io.BytesIO):
    """A file that knows how it was read."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.most = self.total = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.most = max(self.most, len(data))
        self.total += len(data)
        return data


def test_good_archive_is_understood() -> None:
    data = image_archives.build([BASE, OURS], {"author": "me"}, names=["mine:1", "other:2"])
    found = opened(data)
    config = image_archives.encode(image_archives.configuration([BASE, OURS], {"author": "me"}))
    assert found.image_id == f"sha256:{image_archives.digest(config)}"
    assert found.config == json.loads(config)
    assert found.names == ("mine:1", "other:2")
    assert found.size == len(data)
    digests = [f"sha256:{image_archives.digest(each)}" for each in (BASE, OURS)]
    assert [each.diff_id for each in found.layers] == digests
    assert [data[each.offset :][: each.size] for each in found.layers] == [BASE, OURS]
    found.check_digests()


def test_archive_of_a_newer_engine_is_understood() -> None:
    config = image_archives.encode(image_archives.configuration([BASE]))
    blob = f"blobs/sha256/{image_archives.digest(BASE)}"
    name = f"blobs/sha256/{image_archives.digest(config)}"
    data = image_archives.archive(
        {
            "blobs/": b"",
            "blobs/sha256/": b"",
            blob: BASE,
            name: config,
            "index.json": b'{"schemaVersion":2,"manifests":[]}',
            "manifest.json": image_archives.encode(
                [image_archives.manifest(name, [blob], ["mine:1"])]
            ),
            "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
        }
    )
    found = opened(data)
    found.check_digests()
    assert found.image_id == f"sha256:{image_archives.digest(config)}"


def test_archive_that_was_packed_again_by_hand_is_understood() -> None:
    config = image_archives.encode(image_archives.configuration([BASE]))
    entry = image_archives.manifest("c.json", ["a/layer.tar"])
    members = {"./": b"", "./a/layer.tar": BASE, "./c.json": config}
    data = image_archives.archive(
        members | {"./manifest.json": image_archives.encode([entry])}, tarfile.GNU_FORMAT
    )
    assert opened(data).layers[0].size == len(BASE)


def test_layer_that_an_image_has_twice_may_be_a_link() -> None:
    config = image_archives.encode(image_archives.configuration([BASE, OURS, BASE]))
    layers = ["a/layer.tar", "b/layer.tar", "c/layer.tar"]
    data = image_archives.archive(
        {
            "a/layer.tar": BASE,
            "b/layer.tar": OURS,
            "c/layer.tar": image_archives.symlink("../a/layer.tar"),
            "c.json": config,
            "manifest.json": image_archives.encode([image_archives.manifest("c.json", layers)]),
        }
    )
    found = opened(data)
    found.check_digests()
    assert found.layers[2].offset == found.layers[0].offset
    again = opened(b"".join(found.stream()))
    assert [each.diff_id for each in again.layers] == [each.diff_id for each in found.layers]
    # What is left out at the bottom is needed at the top.
    assert found.stream_size(skip=1) == found.stream_size()
    assert refusal(data, unpacked=3 * len(BASE) - 1).startswith("The archive has more than")


def test_stream_is_the_same_image_without_names_and_without_anything_else() -> None:
    config = image_archives.encode(image_archives.configuration([BASE, OURS]))
    layers = ["x/layer.tar", "y/layer.tar"]
    entry = image_archives.manifest("c.json", layers, ["305f5f3d12834:latest"])
    data = image_archives.archive(
        {
            "x/VERSION": b"1.0",
            "x/layer.tar": BASE,
            "y/layer.tar": OURS,
            "c.json": config,
            "manifest.json": image_archives.encode([entry]),
            "repositories": b'{"305f5f3d12834":{"latest":"y"}}',
        }
    )
    found = opened(data)
    clean = b"".join(found.stream())
    assert b"305f5f3d12834" not in clean
    assert b"repositories" not in clean
    again = opened(clean)
    assert (again.image_id, again.names) == (found.image_id, ())
    again.check_digests()
    assert b"".join(again.stream()) == clean
    with tarfile.open(fileobj=io.BytesIO(clean)) as tar:
        assert len(tar.getnames()) == 4
        assert all(member.isreg() and ".." not in member.name for member in tar)


@pytest.mark.parametrize("skip", [0, 1, 2])
def test_stream_leaves_the_first_layers_out(skip: int) -> None:
    found = opened(image_archives.build([BASE, OURS]))
    stream = b"".join(found.stream(skip))
    assert len(stream) == found.stream_size(skip)
    assert [each in stream for each in (BASE, OURS)] == [skip < 1, skip < 2]


def test_streams_of_one_archive_may_be_read_at_once() -> None:
    layers = [image_archives.layer({f"file{n}": bytes([n]) * 3_000_000}) for n in range(3)]
    found = opened(image_archives.build(layers))
    wanted = b"".join(found.stream())
    got: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: got.append(b"".join(found.stream()))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [wanted] * 4


def test_opening_reads_headers_only() -> None:
    layers = [image_archives.layer({f"file{n}": bytes([n]) * 3_000_000}) for n in range(3)]
    data = image_archives.build(layers)
    file = Watched(data)
    archive.ImageArchive.open(file, len(data))
    assert file.total < 16 * 1024


def test_progress_is_told_in_bytes() -> None:
    told: list[tuple[int, int | None]] = []
    found = opened(image_archives.build([BASE, OURS]))
    for work in (found.check_digests, found.tree):
        work(lambda _what, done, total: told.append((done, total)))
    total = len(BASE) + len(OURS)
    assert told == [(len(BASE), total), (total, total)] * 2


def test_flipped_bit_in_a_layer_is_found() -> None:
    data = bytearray(image_archives.build([BASE, OURS]))
    data[data.index(b"ours\n")] ^= 1
    found = opened(bytes(data))
    with pytest.raises(exceptions.InvalidRequest, match="damaged or forged"):
        found.check_digests()


def test_flipped_bit_in_the_configuration_is_found() -> None:
    data = image_archives.build([BASE, OURS])
    assert "damaged or forged" in refusal(data.replace(b'"amd64"', b'"amd65"'))


def test_configuration_of_an_image_with_a_layer_of_another_is_found() -> None:
    mine = forged(Layers=["a/layer.tar", "a/layer.tar"])
    with pytest.raises(exceptions.InvalidRequest, match="damaged or forged"):
        opened(mine).check_digests()


@pytest.mark.parametrize("length", [0, 1, 511, 512, 700, 1024, 11_000, -10_240, -512])
def test_archive_that_is_cut_off_is_refused(length: int) -> None:
    data = image_archives.build([BASE, OURS])
    shorter = data[:length].rstrip(b"\0") if length < 0 else data[:length]
    assert "cut off" in refusal(shorter)


def test_file_that_ends_before_its_size_is_refused() -> None:
    data = image_archives.build([BASE])
    with pytest.raises(exceptions.InvalidRequest, match="cut off"):
        archive.ImageArchive.open(io.BytesIO(data[:9000]), len(data))


@pytest.mark.parametrize("data", [b"", b"hello", b"\x1f\x8b\x08\0rest", b"PK\3\4" * 1000])
def test_what_is_no_archive_is_refused(data: bytes) -> None:
    refusal(data)


@pytest.mark.parametrize("name", ["manifest.json", "c.json", "a/layer.tar"])
def test_archive_that_lacks_something_is_refused(name: str) -> None:
    config = image_archives.encode(image_archives.configuration([BASE]))
    entry = image_archives.manifest("c.json", ["a/layer.tar"])
    members = {"a/layer.tar": BASE, "c.json": config}
    members["manifest.json"] = image_archives.encode([entry])
    del members[name]
    assert name in refusal(image_archives.archive(members))


def test_archive_of_several_images_is_refused() -> None:
    config = image_archives.encode(image_archives.configuration([BASE]))
    entry = image_archives.manifest("c.json", ["a/layer.tar"])
    for entries in ([], [entry, entry], entry, [[entry]], "c.json", [None]):
        members = {"a/layer.tar": BASE, "c.json": config}
        members["manifest.json"] = image_archives.encode(entries)
        assert "one image" in refusal(image_archives.archive(members))


@pytest.mark.parametrize(
    "changes",
    [
        {"Config": None},
        {"Config": 5},
        {"Config": "../config.json"},
        {"Config": "/config.json"},
        {"Layers": "a/layer.tar"},
        {"Layers": None},
        {"Layers": ["a/layer.tar"]},
        {"Layers": ["a/layer.tar", "b/layer.tar", "b/layer.tar"]},
        {"Layers": ["a/layer.tar", "manifest.json/../b/layer.tar"]},
        {"Layers": ["a/layer.tar", None]},
        {"RepoTags": "mine:1"},
        {"RepoTags": {"mine": 1}},
        {"RepoTags": ["\x1b[2Jmine:1"]},
        {"RepoTags": ["n" * 1025]},
        {"Layers": ["a/layer.tar"] * 126},
    ],
)
def test_malformed_manifest_is_refused(changes: dict[str, object]) -> None:
    opened(forged())
    refusal(forged(**changes))


@pytest.mark.parametrize(
    "text",
    [b"", b"[", b"\xff", b'[{"Config": NaN}]', b"[" * 100_000, b'[{"Config":"a","Config":"b"}]'],
)
def test_manifest_that_is_no_json_is_refused(text: bytes) -> None:
    assert "JSON" in refusal(image_archives.archive({"manifest.json": text}))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("../outside", b"x"),
        ("a/../../outside", b"x"),
        ("/etc/passwd", b"x"),
        ("..", b"x"),
        ("link", image_archives.symlink("/etc/passwd")),
        ("link", image_archives.symlink("../outside")),
        ("link", image_archives.symlink("nowhere")),
        ("link", image_archives.symlink("link")),
        ("a/layer.tar", image_archives.symlink("../manifest.json")),
        ("hard", image_archives.hard_link("/etc/passwd")),
        ("hard", image_archives.hard_link("manifest.json")),
        ("null", image_archives.device()),
        ("fifo", image_archives.special(tarfile.FIFOTYPE)),
        ("sparse", image_archives.special(tarfile.GNUTYPE_SPARSE)),
        ("odd", image_archives.special(b"Z")),
        ("manifest.json", b"[]"),
        ("./manifest.json", b"[]"),
    ],
)
def test_member_that_no_engine_writes_is_refused(
    name: str, content: image_archives.Content
) -> None:
    config = image_archives.encode(image_archives.configuration([BASE]))
    entry = image_archives.manifest("c.json", ["a/layer.tar"])
    good = [("a/layer.tar", BASE), ("c.json", config)]
    good.append(("manifest.json", image_archives.encode([entry])))
    opened(image_archives.archive(good))
    refusal(image_archives.archive([*good, (name, content)], tarfile.GNU_FORMAT))


@pytest.mark.parametrize(
    ("bounds", "what"),
    [
        ({"archive": 20_000}, "bytes"),
        ({"unpacked": 20_000}, "unpacked"),
        ({"layers": 1}, "layers"),
        ({"config": 100}, "json"),
    ],
)
def test_archive_beyond_a_bound_is_refused(bounds: dict[str, int], what: str) -> None:
    data = image_archives.build([BASE, OURS])
    opened(data)
    assert what in refusal(data, **bounds)


def test_more_members_than_engines_write_are_refused() -> None:
    members = {f"member{n}": b"" for n in range(archive.Bounds().members + 1)}
    assert "members" in refusal(image_archives.archive(members))


def test_files_of_all_layers_are_counted_together() -> None:
    layers = [image_archives.layer({f"{n}/file": b"" for n in range(7)}), OURS]
    data = image_archives.build(layers)
    # Each file brings a directory that nobody wrote.
    assert len(list(opened(data, entries=17).tree().walk())) == 18
    with pytest.raises(exceptions.InvalidRequest, match="too many files"):
        opened(data, entries=16).tree()


def test_gigabyte_of_zeros_costs_no_more_than_its_header(tmp_path: pathlib.Path) -> None:
    header = image_archives.special(tarfile.REGTYPE, size=1024**3, name="zeros")
    path = tmp_path / "archive.tar"
    with path.open("wb") as file:
        file.write(header.tobuf(tarfile.USTAR_FORMAT))
        file.truncate(1024**3 + 10_240)
    with path.open("rb") as file:
        with pytest.raises(exceptions.InvalidRequest, match="manifest"):
            archive.ImageArchive.open(file, path.stat().st_size)
        with pytest.raises(exceptions.InvalidRequest, match="more than"):
            archive.ImageArchive.open(
                file, path.stat().st_size, archive.Bounds(archive=900 * 1024**2)
            )


@pytest.mark.parametrize("kind", [b"x", b"g", b"L", b"K"])
def test_header_of_eight_gigabytes_is_not_read(kind: bytes, tmp_path: pathlib.Path) -> None:
    size = 8 * 1024**3 - 1
    header = image_archives.special(kind, size=size, name="huge").tobuf(tarfile.GNU_FORMAT)
    path = tmp_path / "archive.tar"
    with path.open("wb") as file:
        file.write(header)
        file.truncate(size + 10_240)
    with path.open("rb") as file, pytest.raises(exceptions.InvalidRequest, match="byte 0"):
        archive.ImageArchive.open(
            file, path.stat().st_size, archive.Bounds(archive=2 * path.stat().st_size)
        )


def test_compressed_layer_is_refused_and_the_cure_is_told() -> None:
    found = opened(image_archives.build([BASE, b"\x1f\x8b\x08\0" + bytes(600)]))
    for work in (found.check_digests, found.tree):
        with pytest.raises(exceptions.InvalidRequest, match=r"compressed.*docker save"):
            work()
