# SPDX-License-Identifier: Apache-2.0
"""Image archives that are checked while they pass."""

import gzip
import io
import random
import tarfile
import tracemalloc
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pytest

from container_stack import exceptions
from container_stack.host.image_archive import bounds, manifest, transit
from container_stack.storlets.image import archive
from container_stack.testing import image_archives

FILES: dict[str, image_archives.Content] = {
    "bin/": b"",
    "bin/tool": image_archives.program(b"#!/bin/sh\n" * 1000),
    "bin/soft": image_archives.symlink("/bin/tool"),
    "bin/hard": image_archives.hard_link("bin/tool"),
    "/absolute": b"1",
    "long/" + 200 * "n": b"2",
    "fifo": image_archives.special(tarfile.FIFOTYPE),
    "labelled": image_archives.special(
        tarfile.REGTYPE, pax_headers={"SCHILY.xattr.security.selinux": "a:b:c:s0\0"}
    ),
}
UPPER: dict[str, image_archives.Content] = {"bin/.wh.tool": b"", "new": b"3" * 20_000}


def cut(data: bytes, size: int = 4096) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))


def passed(
    data: bytes | Iterable[bytes], limits: bounds.Bounds | None = None, **more: Any
) -> tuple[bytes, transit.Transit]:
    pieces = cut(data) if isinstance(data, bytes) else data
    passing = transit.Transit(pieces, limits or bounds.Bounds(), **more)
    return b"".join(passing), passing


def opened(data: bytes) -> archive.ImageArchive:
    found = archive.ImageArchive.open(io.BytesIO(data), len(data))
    found.check_digests()
    return found


def made(layers: Sequence[Any] = (FILES, UPPER, FILES), **config: Any) -> bytes:
    return image_archives.build(layers, config, ["ubuntu:latest"])


def members_of(data: bytes) -> dict[str, bytes]:
    """Return what is in an archive, or in the beginning of one."""
    found = {}
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:", ignore_zeros=False) as tar:
        for member in tar:
            file = tar.extractfile(member)
            assert file is not None
            found[member.name] = file.read()
    return found


def opened_manifest(members: Mapping[str, bytes]) -> list[str]:
    return manifest.read(members["manifest.json"]).layers


def config_digest(data: bytes) -> str:
    return opened(data).image_id.removeprefix("sha256:")


def refused(pieces: Iterable[bytes], reason: str, limits: bounds.Bounds | None = None) -> bytes:
    """Return what had passed when an archive was refused."""
    sent: list[bytes] = []
    with pytest.raises(exceptions.InvalidRequest, match=reason):
        sent.extend(transit.Transit(pieces, limits or bounds.Bounds()))
    return b"".join(sent)


@pytest.mark.parametrize("size", [1, 511, 512, 4096, 10**7])
def test_image_that_passes_is_the_same_but_for_its_names(size: int) -> None:
    data = made()
    out, passing = passed(cut(data, size), names=["ours:1"])
    before, after = opened(data), opened(out)
    assert passing.image_id == after.image_id == before.image_id
    assert [each.diff_id for each in after.layers] == [each.diff_id for each in before.layers]
    assert (before.names, after.names) == (("ubuntu:latest",), ("ours:1",))


def test_nothing_passes_that_the_image_does_not_need() -> None:
    described = image_archives.encode({"schemaVersion": 2, "manifests": []})
    extra = {"index.json": described, "oci-layout": b"{}", "repositories": b'{"ubuntu":{}}'}
    out, _ = passed(image_archives.archive([*members_of(made()).items(), *extra.items()]))
    assert set(members_of(out)) == {"1.tar", "2.tar", f"{config_digest(out)}.json", "manifest.json"}


def test_layers_may_be_small_large_linked_and_compressed() -> None:
    small, large = image_archives.layer({"s": b"1"}), image_archives.layer({"l": bytes(100_000)})
    tars = [small, large, large]
    text = image_archives.encode(image_archives.configuration(tars))
    members: dict[str, image_archives.Content] = {
        "manifest.json": image_archives.encode(
            [image_archives.manifest("c.json", ["a/layer.tar", "b/layer.tar", "d/layer.tar"])]
        ),
        "c.json": text,
        "a/": b"",
        "a/layer.tar": gzip.compress(small),
        # As files in a row, which readers of gzip take for one.
        "b/layer.tar": gzip.compress(large[:5000]) + gzip.compress(large[5000:]),
        "d/layer.tar": image_archives.symlink("../b/layer.tar"),
    }
    out, passing = passed(image_archives.archive(members))
    assert passing.image_id == f"sha256:{image_archives.digest(text)}"
    found = members_of(out)
    assert gzip.decompress(found["4.tar"]) == small
    assert gzip.decompress(found["5.tar"]) == large
    assert opened_manifest(found) == ["4.tar", "5.tar", "5.tar"]


def test_archive_may_be_compressed_as_a_whole() -> None:
    data = made()
    assert passed(gzip.compress(data))[0] == passed(data)[0]


def test_configuration_may_be_changed_on_the_way() -> None:
    def renamed(config: Mapping[str, Any]) -> Mapping[str, Any]:
        return {**config, "author": "nobody"}

    out, passing = passed(made(), change=renamed)
    after = opened(out)
    assert (after.config["author"], after.image_id) == ("nobody", passing.image_id)
    assert [each.diff_id for each in after.layers] == [
        each.diff_id for each in opened(made()).layers
    ]


def test_what_raises_at_the_end_of_the_source_holds_the_image_back() -> None:
    def source() -> Iterator[bytes]:
        yield from cut(made())
        raise exceptions.InvalidRequest("it has another digest")

    assert set(members_of(refused(source(), "another digest"))) == {"1.tar", "2.tar"}


def hostile() -> dict[str, tuple[bytes, str]]:
    layer = image_archives.layer(FILES)
    good = members_of(made([FILES]))
    name = next(each for each in good if each.endswith("layer.tar"))
    two = [image_archives.manifest("c", [name]), image_archives.manifest("c", [name])]

    def of(**files: image_archives.Content) -> bytes:
        return made([{key.replace("__", "/"): value for key, value in files.items()}])

    def with_(**members: Any) -> bytes:
        changed = {key.replace("_json", ".json"): value for key, value in members.items()}
        return image_archives.archive([*(good | changed).items()])

    def attribute(key: str) -> tuple[tarfile.TarInfo, bytes]:
        headers = {f"SCHILY.xattr.{key}": "y"}
        return image_archives.special(tarfile.REGTYPE, pax_headers=headers), b""

    return {
        "nothing": (b"", "cut off"),
        "text": (b"no archive at all" * 100, "neither as POSIX nor as GNU"),
        "zeros": (bytes(100_000), "no 'manifest.json'"),
        "disk": (b"QFI\xfb" + bytes(100_000), "neither as POSIX nor as GNU"),
        "bzip2": (b"BZh91AY&SY" + bytes(600), "is compressed"),
        "damaged gzip": (gzip.compress(made())[:5000] + b"\xff" * 5000, "compression is damaged"),
        "short gzip": (gzip.compress(made())[:-500], "cut off"),
        "short": (made()[:9000], "cut off"),
        "a root file system": (layer, "no 'manifest.json'|link or a device"),
        "two images": (with_(manifest_json=image_archives.encode(two)), "one image"),
        "no image": (with_(manifest_json=b"[]"), "one image"),
        "bad manifest": (with_(manifest_json=b'[{"Config":1}]'), "malformed"),
        "deep manifest": (with_(manifest_json=b"[" * 100_000), "nested too deeply|no JSON"),
        "huge manifest": (with_(manifest_json=b"[" * 2**21), "no JSON object, or has more"),
        "no config": (
            with_(manifest_json=image_archives.encode([image_archives.manifest("x", [name])])),
            "no 'x'",
        ),
        "lacks a layer": (
            image_archives.archive({k: v for k, v in good.items() if k != name}),
            "lacks 1 of 1",
        ),
        "forged layer": (
            image_archives.archive(good | {name: image_archives.layer(UPPER)}),
            "damaged or forged",
        ),
        "no tar": (image_archives.archive(good | {name: b"x" * 10_000}), "neither as POSIX"),
        "twice": (image_archives.archive([*good.items(), (name, layer)]), "twice"),
        "outside": (image_archives.archive({**good, "../x": b""}), "outside of the archive"),
        "device outside": (
            image_archives.archive({**good, "x": image_archives.device()}),
            "a link or a device",
        ),
        "link outside": (
            image_archives.archive({**good, "x": image_archives.symlink("../../etc")}),
            "outside of the archive",
        ),
        "link to nothing": (
            image_archives.archive({**good, "x": image_archives.symlink("y")}),
            "no file in the archive",
        ),
        "dots": (of(**{"a__..__..__x": b""}), "name outside"),
        "dots in a link": (of(x=image_archives.hard_link("../../etc/shadow")), "name outside"),
        "device": (of(dev__sda=image_archives.device(8, 0, tarfile.BLKTYPE)), "a device node"),
        "overlay's attribute": (of(x=attribute("trusted.overlay.redirect")), "the attribute"),
        "bad capability": (of(x=attribute("security.capability")), "the attribute"),
        "windows": (made([FILES], os="windows"), "not for 'linux'"),
    }


@pytest.mark.parametrize("case", hostile())
def test_hostile_archive_is_refused_and_never_complete(case: str) -> None:
    data, reason = hostile()[case]
    assert b"manifest.json" not in refused(cut(data), reason)


BOMB = gzip.compress(image_archives.layer({"zeros": bytes(30_000_000)}))


@pytest.mark.parametrize(
    ("limits", "data", "reason"),
    [
        (bounds.Bounds(archive=50_000), made(), "more than 50000 bytes"),
        (bounds.Bounds(archive=50_000), gzip.compress(bytes(10**6)), "more than 50000 bytes"),
        (bounds.Bounds(unpacked=10**6), image_archives.archive({"x": BOMB}), "when unpacked"),
        # Not much, but a hundred times.
        (bounds.Bounds(unpacked=10**6), made([FILES] * 100), "when unpacked"),
        (bounds.Bounds(layers=2), made(), "more than 2 layers"),
        (
            bounds.Bounds(layers=0),
            image_archives.archive({str(n): b"" for n in range(99)}),
            "more than 64 members",
        ),
        (bounds.Bounds(config=100), made(), "more than 100 bytes"),
        (
            bounds.Bounds(config=2000),
            image_archives.archive({str(n): b"{" * 2000 for n in range(50)}),
            "descriptions",
        ),
    ],
)
def test_too_much_is_refused_before_it_is_all_read(
    limits: bounds.Bounds, data: bytes, reason: str
) -> None:
    refused(cut(data), reason, limits)


def test_too_many_files_are_refused() -> None:
    with pytest.raises(exceptions.InvalidRequest, match="more than 5 files"):
        passed(made([{str(number): b"" for number in range(6)}]), bounds.Bounds(entries=5))


def test_large_archive_needs_little_memory() -> None:
    layer = image_archives.layer({str(n): bytes(1_000_000) for n in range(40)})
    data = image_archives.build([layer])
    tracemalloc.start()
    try:
        for _piece in transit.Transit(cut(data, 65536), bounds.Bounds()):
            pass
        _now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8_000_000


def test_damaged_archive_is_refused_or_the_same_image() -> None:
    data = made([FILES, UPPER])
    whole = passed(data)[1].image_id
    chance = random.Random(7)
    refused = 0
    for _ in range(300):
        changed = bytearray(data)
        for _ in range(chance.randint(1, 3)):
            changed[chance.randrange(len(data))] = chance.randrange(256)
        try:
            _, passing = passed(bytes(changed))
        except exceptions.InvalidRequest:
            refused += 1
        else:
            assert passing.image_id == whole
    assert refused > 20
