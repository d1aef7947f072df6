# SPDX-License-Identifier: Apache-2.0
"""The archive of an image, as ``docker save`` writes it and anybody may have forged it.

Whatever writes it puts manifest.json in it, engines that keep their images in containerd too. It
names one configuration and the layers; all else in the archive is ignored, above all the names
that it claims. What an engine gets is never the archive itself but :meth:`ImageArchive.stream`.
"""

import dataclasses
import hashlib
import json
import posixpath
import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO, Self

from container_stack import exceptions
from container_stack.storlets import model
from container_stack.storlets.image import image_config, layers, tar, tree
from container_stack.storlets.image.layers import Layer

MANIFEST = "manifest.json"

_GIB = 1024**3
_END = bytes(2 * tar.BLOCK)
_HEX = re.compile(r"[0-9a-f]{64}")


@dataclasses.dataclass(frozen=True, slots=True)
class Bounds:
    """How much of an image is read before it is refused.

    :param archive: bytes of the archive.
    :param unpacked: bytes of all layers; more than the archive's when it has one layer twice.
    :param layers: the engine takes 125.
    :param entries: files of all layers, directories and links too.
    :param config: bytes of the configuration, and of manifest.json.
    """

    archive: int = 8 * _GIB
    unpacked: int = 16 * _GIB
    layers: int = 125
    entries: int = 100_000
    config: int = 1024 * 1024

    @property
    def members(self) -> int:
        """Members of the archive itself: engines write four for each layer, and a few more."""
        return 8 * self.layers + 64


@dataclasses.dataclass(frozen=True, slots=True)
class ImageArchive:
    """An image in an archive; its bytes are as they were on :meth:`open`, or all of it is void.

    :param image_id: sha256:... of the configuration.
    :param config: what the configuration says.
    :param layers: the base's first.
    :param names: references that the archive claims; for people to see, and never to be used.
    :param size: bytes of the archive.
    """

    image_id: str
    config: Mapping[str, Any]
    layers: tuple[Layer, ...]
    names: tuple[str, ...]
    size: int
    bounds: Bounds
    _config: bytes = dataclasses.field(repr=False)
    _source: tar.Source = dataclasses.field(repr=False)

    @classmethod
    def open(cls, file: BinaryIO, size: int, bounds: Bounds | None = None) -> Self:
        """Return the image in an archive; of its layers only headers are read.

        :param file: seekable, of ``size`` bytes; the caller keeps it open, and closes it.
        :raises InvalidRequest: it is no image archive, a damaged or a forged one, or too large.
        """
        bounds = bounds or Bounds()
        _check_bound("bytes", size, bounds.archive)
        source = tar.Source(file, size)
        layers.check_plain(source, 0, "The archive")
        members = _members(source, bounds)
        manifest = _manifest(_read(source, members, MANIFEST, bounds))
        _check_bound("layers", len(manifest.layers), bounds.layers)
        config = _read(source, members, manifest.config, bounds)
        digest = hashlib.sha256(config).hexdigest()
        claimed = posixpath.basename(manifest.config).removesuffix(".json")
        if _HEX.fullmatch(claimed) and claimed != digest:
            raise _another("The configuration", claimed, digest)
        description = image_config.read(config)
        found = _layers(manifest.layers, description["rootfs"]["diff_ids"], members)
        _check_bound("bytes when unpacked", sum(each.size for each in found), bounds.unpacked)
        image_id = f"sha256:{digest}"
        names = tuple(manifest.names)
        return cls(image_id, description, found, names, size, bounds, config, source)

    def check_digests(self, progress: model.Progress = model.silent) -> None:
        """Read all layers and check that they are what the configuration says.

        :raises InvalidRequest: one isn't.
        """
        distinct = {(each.offset, each.diff_id): each for each in self.layers}.values()
        done, total = 0, sum(each.size for each in distinct)
        for layer in distinct:
            layers.check_plain(self._source, layer.offset, f"Layer {layer.name}")
            digest = hashlib.sha256()
            for chunk in self._source.chunks(layer.offset, layer.size):
                digest.update(chunk)
                done += len(chunk)
                progress("Checking digests", done, total)
            if layer.diff_id != f"sha256:{digest.hexdigest()}":
                raise _another(f"Layer {layer.name}", layer.diff_id, digest.hexdigest())

    def stream(self, skip: int = 0) -> Iterator[bytes]:
        """Yield an archive of the same image, without any name, for an engine to load.

        Several may be read at once.

        :param skip: first layers that are left out; the engine must have them.
        """
        for name, content in self._texts().items():
            yield _header(name, len(content)) + content + _padding(len(content))
        for layer in self._sent(skip):
            yield _header(_member(layer), layer.size)
            yield from self._source.chunks(layer.offset, layer.size)
            yield _padding(layer.size)
        yield _END

    def stream_size(self, skip: int = 0) -> int:
        """Return the bytes of :meth:`stream`."""
        sizes = [len(content) for content in self._texts().values()]
        sizes += [layer.size for layer in self._sent(skip)]
        return sum(tar.BLOCK + size + len(_padding(size)) for size in sizes) + len(_END)

    def tree(self, progress: model.Progress = model.silent, *, trusted: int = 0) -> tree.Tree:
        """Return the file system that the layers make; only their headers are read.

        :param trusted: first layers, those of the base; they alone may have device nodes.
        :raises InvalidRequest: a layer is damaged or has what it must not have, or there are too
            many files.
        """
        made = tree.Tree(self._source, self.bounds.entries)
        done, total = 0, sum(each.size for each in self.layers)
        for number, layer in enumerate(self.layers):
            made.apply(number, layers.changes(self._source, layer, trusted=number < trusted))
            done += layer.size
            progress("Reading layers", done, total)
        return made

    def _texts(self) -> dict[str, bytes]:
        name = f"{self.image_id.removeprefix('sha256:')}.json"
        manifest = [{"Config": name, "RepoTags": None, "Layers": [*map(_member, self.layers)]}]
        return {name: self._config, MANIFEST: json.dumps(manifest).encode()}

    def _sent(self, skip: int) -> list[Layer]:
        return list({each.diff_id: each for each in self.layers[skip:]}.values())


@dataclasses.dataclass(frozen=True, slots=True)
class _Manifest:
    config: str
    layers: list[str]
    names: list[str]


def _members(source: tar.Source, bounds: Bounds) -> dict[str, tar.Header]:
    """Return the files in the archive by name; a link stands for what it leads to."""
    found: dict[str, tar.Header] = {}
    for number, header in enumerate(tar.headers(source, 0, source.size), 1):
        _check_bound("members", number, bounds.members)
        name = _inside(header.name, header)
        if header.kind is tar.Kind.DIRECTORY:
            continue
        if header.kind not in (tar.Kind.FILE, tar.Kind.SYMLINK):
            raise layers.refused(header, "a link or a device, which no engine writes there")
        if name in found:
            raise layers.refused(header, "in the archive twice")
        found[name] = header
    # The engine has a layer once, and links to it, when an image has it several times.
    links = {name: each for name, each in found.items() if each.kind is tar.Kind.SYMLINK}
    for name, link in links.items():
        target = found.get(_inside(posixpath.join(posixpath.dirname(name), link.target), link))
        if target is None or target.kind is not tar.Kind.FILE:
            raise layers.refused(link, "a symbolic link to no file in the archive")
        links[name] = target
    return found | links


def _inside(path: str, header: tar.Header) -> str:
    """Return a path in its shortest form, if it doesn't leave the archive."""
    short = posixpath.normpath(path)
    if short.startswith(("/", "../")) or short == "..":
        raise layers.refused(header, "outside of the archive, or leads there")
    return short


def _read(
    source: tar.Source, members: Mapping[str, tar.Header], name: str, bounds: Bounds
) -> bytes:
    member = members.get(name)
    if member is None:
        raise exceptions.InvalidRequest(
            f"The archive has no {ascii(name)[:300]}; make it by docker save."
        )
    _check_bound(f"bytes of {ascii(name)[:300]}", member.size, bounds.config)
    return source.read(member.offset, member.size)


def _manifest(data: bytes) -> _Manifest:
    images = image_config.parse(data, MANIFEST)
    if not isinstance(images, list) or len(images) != 1 or not isinstance(images[0], dict):
        raise exceptions.InvalidRequest("The archive must have one image; save one by its name.")
    config, names = images[0].get("Config"), images[0].get("RepoTags") or []
    found = images[0].get("Layers") or []
    if not isinstance(config, str) or not _are_texts(found) or not _are_texts(names):
        raise exceptions.InvalidRequest(f"The archive's {MANIFEST} is malformed.")
    return _Manifest(config, found, names)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(each, str) and each.isprintable() and len(each) <= layers.NAME for each in value
    )


def _layers(
    names: Sequence[str], diff_ids: Sequence[str], members: Mapping[str, tar.Header]
) -> tuple[Layer, ...]:
    if len(names) != len(diff_ids):
        raise exceptions.InvalidRequest(
            f"The archive has {len(names)} layers, and its configuration {len(diff_ids)}."
        )
    missing = [name for name in names if name not in members]
    if missing:
        raise exceptions.InvalidRequest(
            f"The archive lacks {len(missing)} of {len(names)} layers: {ascii(missing[0])[:300]}."
        )
    found = [members[name] for name in names]
    return tuple(
        Layer(diff_id, name, member.offset, member.size)
        for diff_id, name, member in zip(diff_ids, names, found, strict=True)
    )


def _check_bound(what: str, value: int, limit: int) -> None:
    if value > limit:
        raise exceptions.InvalidRequest(f"The archive has more than {limit} {what}.")


def _another(what: str, wanted: str, digest: str) -> exceptions.InvalidRequest:
    return exceptions.InvalidRequest(
        f"{what} is damaged or forged: its digest is {digest}, not {wanted}; save and upload it "
        "again."
    )


def _member(layer: Layer) -> str:
    return f"{layer.diff_id.removeprefix('sha256:')}/layer.tar"


def _header(name: str, size: int) -> bytes:
    member = tarfile.TarInfo(name)
    member.size = size
    return member.tobuf(tarfile.GNU_FORMAT)


def _padding(size: int) -> bytes:
    return bytes(-size % tar.BLOCK)
