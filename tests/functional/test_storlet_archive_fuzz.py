# SPDX-License-Identifier: Apache-2.0
"""Ten thousand damaged and forged archives: refused, or an image that the engine takes.

The reference is the engine itself. What we accept it must load, with the ID that we announced.
"""

import collections
import io
import json
import random
import tarfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from container_stack import exceptions
from container_stack.host import containers, images
from container_stack.storlets.image import archive
from container_stack.testing import image_archives

SEED = 20_260_102
COUNT = 10_000

BASE: dict[str, image_archives.Content] = {
    "./": b"",
    "bin/": b"",
    "bin/tool": image_archives.program(b"#!/bin/sh\n", 0o4755),
    "bin/hard": image_archives.hard_link("bin/tool"),
    "bin/soft": image_archives.symlink("../bin/tool"),
    "etc/": b"",
    "etc/gone": b"1",
    "etc/hidden/below": b"2",
    "etc/" + 120 * "n": b"long",
}
UPPER: dict[str, image_archives.Content] = {
    "etc/.wh.gone": b"",
    "etc/hidden/": b"",
    "etc/hidden/.wh..wh..opq": b"",
    "etc/hidden/new": b"3" * 700,
    "café": image_archives.symlink("t" * 150),
}

#: Where the fields of a header are.
FIELDS = [(0, 100), (100, 8), (108, 8), (116, 8), (124, 12), (136, 12), (156, 1), (157, 100)]
FIELDS += [(257, 8), (265, 32), (297, 32), (329, 8), (337, 8), (345, 155), (500, 12)]
NUMBERS = [b"", b"0", b"7", b"0000644\0", b"-1", b"+1", b"1_0", b"99999999999", b"0o17", b" 12 "]
NUMBERS += [b"\x80" + bytes(10) + b"\5", b"\xff" * 12, b"\x80" + b"\xff" * 11, b"77777777777\0"]
NAMES = [b"../x", b"/x", b"x/../../y", b".", b"..", b"", b"etc", b"etc/gone", b"bin/tool/x"]
NAMES += [
    b".wh.bin",
    b".wh..wh..opq",
    b".wh.",
    b".wh...",
    b".wh..wh.plnk",
    b"a\nb",
    b"BZh",
    b"\xe9",
]
NAMES += [b"n" * 100, b"manifest.json", b"bin/soft/x", b"././x//y/", b"\x1f\x8b\x08", b"x\0y"]
TYPES = [bytes([each]) for each in b"\x001234567gxLKSVXZ"]
VALUES: list[Any] = [None, True, 0, -1, 1.5, 2**63, "", "x", "../x", "/etc/passwd", [], {}, [[]]]
VALUES += [["x"], {"a": "b"}, {"a": {}}, "linux", "windows", "2026-01-02T03:04:05Z", "\0", "\ud800"]
KEYS = [
    "Cmd",
    "cmd",
    "CMD",
    "config",
    "Config",
    "os",
    "OS",
    "rootfs",
    "Layers",
    "layers",
    "history",
]
KEYS += ["RepoTags", "created", "Labels", "Entrypoint", "Volumes", "new"]

Random = random.Random


def flip(data: bytes, chance: Random) -> bytes:
    made = bytearray(data)
    for _ in range(chance.randint(1, 8)):
        made[chance.randrange(len(made))] ^= 1 << chance.randrange(8)
    return bytes(made)


def truncate(data: bytes, chance: Random) -> bytes:
    return data[: chance.randrange(len(data))]


def shuffle(data: bytes, chance: Random) -> bytes:
    """Swap, repeat, remove or clear blocks."""
    blocks = [data[each : each + 512] for each in range(0, len(data), 512)]
    one, other = chance.randrange(len(blocks)), chance.randrange(len(blocks))
    kind = chance.randrange(4)
    if kind == 0:
        blocks[one], blocks[other] = blocks[other], blocks[one]
    elif kind == 1:
        blocks.insert(one, blocks[other])
    elif kind == 2:
        del blocks[one]
    else:
        blocks[one] = bytes(512)
    return b"".join(blocks)


def edit_header(data: bytes, chance: Random) -> bytes:
    """Change a field of a header, or of several, and repair the checksum."""
    made = bytearray(data)
    starts = [
        each for each in range(0, len(made), 512) if made[each + 257 : each + 262] == b"ustar"
    ]
    for _ in range(chance.randint(1, 2)):
        start = chance.choice(starts)
        offset, length = chance.choice(FIELDS)
        value = chance.choice({1: TYPES, 100: NAMES, 155: NAMES}.get(length, NUMBERS))
        if length > 1 and chance.random() < 0.2:
            value = chance.randbytes(chance.randint(1, length))
        made[start + offset : start + offset + length] = value[:length].ljust(length, b"\0")
        made[start + 148 : start + 156] = b" " * 8
        made[start + 148 : start + 156] = b"%06o\0 " % sum(made[start : start + 512])
    return bytes(made)


def edit_json(value: Any, chance: Random) -> Any:
    """Change a value, a key or a number of items somewhere."""
    places: list[Any] = [value]
    for place in places:
        inner = place.values() if isinstance(place, dict) else place
        places += [each for each in inner if isinstance(each, dict | list) and each]
    place = chance.choice(places)
    keys: Sequence[Any] = list(place) if isinstance(place, dict) else range(len(place))
    key, kind = chance.choice(keys), chance.randrange(4)
    if kind == 0:
        del place[key]
    elif kind == 1 and isinstance(place, dict):
        place[chance.choice(KEYS)] = place[key]
    elif kind == 2 and isinstance(place, list):
        place.insert(chance.randrange(len(place) + 1), place[key])
    else:
        place[key] = chance.choice(VALUES)
    return value


class Mutants:
    """Archives made of one good one, and how each was made."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._layers = [image_archives.layer(BASE)]
        self._layers += [image_archives.archive(UPPER, tarfile.GNU_FORMAT)]
        # The engine's padding is nothing to damage.
        self._layers = [each.rstrip(b"\0") for each in self._layers]
        self._layers = [each + bytes(-len(each) % 512 + 1024) for each in self._layers]
        self.good = image_archives.build(self._layers, names=["cstest-fuzz:1"])
        self._kinds: dict[str, tuple[int, Callable[[], bytes]]] = {
            "flip": (20, lambda: flip(self.good, self._chance)),
            "truncate": (10, lambda: truncate(self.good, self._chance)),
            "shuffle": (15, lambda: shuffle(self.good, self._chance)),
            "header": (25, lambda: edit_header(self.good, self._chance)),
            "manifest": (15, self._manifest),
            "config": (8, self._config),
            "layer": (7, self._layer),
        }

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        weights = [weight for weight, _ in self._kinds.values()]
        for kind in self._chance.choices(list(self._kinds), weights, k=COUNT):
            yield kind, self._kinds[kind][1]()

    def _layer(self) -> bytes:
        """Damage a layer, and forge all digests accordingly."""
        layers = list(self._layers)
        which = self._chance.randrange(len(layers))
        change = self._chance.choice([flip, shuffle, edit_header, edit_header, edit_header])
        layers[which] = change(layers[which], self._chance)
        return image_archives.build(layers)

    def _config(self) -> bytes:
        config = image_archives.configuration(self._layers, {"config": {"Cmd": ["x"], "Env": []}})
        return self._packed(edit_json(config, self._chance), None)

    def _manifest(self) -> bytes:
        config = image_archives.configuration(self._layers)
        names = [f"{number}/layer.tar" for number in range(len(self._layers))]
        manifest = [image_archives.manifest("c.json", names, ["cstest-fuzz:1"])]
        return self._packed(config, edit_json(manifest, self._chance))

    def _packed(self, config: Any, manifest: Any) -> bytes:
        names = [f"{number}/layer.tar" for number in range(len(self._layers))]
        if manifest is None:
            manifest = [image_archives.manifest("c.json", names)]
        members = dict(zip(names, self._layers, strict=True))
        members["c.json"] = json.dumps(config).encode()
        members["manifest.json"] = json.dumps(manifest).encode()
        return image_archives.archive(members)


def accepted(data: bytes) -> archive.ImageArchive | None:
    """Return the image in an archive; None when it is refused. Nothing else may come of it."""
    try:
        found = archive.ImageArchive.open(io.BytesIO(data), len(data))
        found.check_digests()
        made = found.tree()
    except exceptions.InvalidRequest:
        return None
    for path, _ in made.walk():
        made.find(path)
    return found


@pytest.fixture
def own_images(engine: containers.Engine) -> Iterator[images.Images]:
    """Images of an engine that has the good one, so that the others are loaded faster."""
    made = images.Images(engine)
    good = accepted(Mutants(SEED).good)
    assert good is not None
    made.load(good.stream())
    yield made
    made.remove(good.image_id)


def test_what_is_accepted_the_engine_takes_and_nothing_crashes(own_images: images.Images) -> None:
    mutants = Mutants(SEED)
    streams: dict[str, tuple[str, bytes]] = {}
    told: collections.Counter[tuple[str, bool]] = collections.Counter()
    for kind, data in mutants:
        found = accepted(data)
        told[kind, found is not None] += 1
        if found is not None:
            streams[found.image_id] = kind, b"".join(found.stream())
    refused = []
    for image_id, (kind, stream) in streams.items():
        refused += [f"{kind}: {why}" for why in _refusals(own_images, image_id, stream)]
    assert not refused, "\n".join(refused)
    assert len(streams) > 50
    assert {kind for kind, taken in told if taken} >= {"flip", "header", "config", "layer"}


def _refusals(own_images: images.Images, image_id: str, stream: bytes) -> Iterator[str]:
    held = own_images.find(image_id)
    try:
        (image,) = own_images.load([stream])
        if (image.id, image.tags) != (image_id, ()):
            yield f"{image.id} is loaded, not {image_id}, with tags {image.tags}"
    except exceptions.ContainerStackError as exc:
        yield str(exc)
    finally:
        if held is None:
            own_images.remove(image_id)


@pytest.mark.parametrize("seed", [1, 2])
def test_mutants_are_the_same_every_time(seed: int) -> None:
    first, second = iter(Mutants(seed)), iter(Mutants(seed))
    assert [next(first) for _ in range(50)] == [next(second) for _ in range(50)]
