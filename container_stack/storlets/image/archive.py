# SPDX-License-Identifier: Apache-2.0
"""The archive of an image, as ``docker save`` writes it and anybody may have forged it.

Whatever writes it puts manifest.json in it, engines that keep their images in containerd too. It
names one configuration and the layers; all else in the archive is ignored, above all the names
that it claims. What an engine gets is never the archive itself but :meth:`ImageArchive.stream`.
"""

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO, Self

from container_stack.host.image_archive import bounds as limits
from container_stack.host.image_archive import image_config, layers, manifest, tar
from container_stack.host.image_archive.bounds import Bounds as Bounds
from container_stack.host.image_archive.layers import Layer
from container_stack.storlets import model
from container_stack.storlets.image import tree

MANIFEST = manifest.NAME


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
        limits.check("bytes", size, bounds.archive)
        source = tar.Source(file, size)
        layers.check_plain(source, 0, "The archive")
        members = _members(source, bounds)
        told = manifest.read(_read(source, members, MANIFEST, bounds))
        limits.check("layers", len(told.layers), bounds.layers)
        config = _read(source, members, told.config, bounds)
        digest = hashlib.sha256(config).hexdigest()
        manifest.check_config_name(told.config, digest)
        description = image_config.read(config)
        found = _layers(told.layers, description["rootfs"]["diff_ids"], members)
        limits.check("bytes when unpacked", sum(each.size for each in found), bounds.unpacked)
        image_id = f"sha256:{digest}"
        names = tuple(told.names)
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
                raise manifest.another(f"Layer {layer.name}", layer.diff_id, digest.hexdigest())

    def stream(self, skip: int = 0) -> Iterator[bytes]:
        """Yield an archive of the same image, without any name, for an engine to load.

        Several may be read at once.

        :param skip: first layers that are left out; the engine must have them.
        """
        for name, content in self._texts().items():
            yield manifest.file(name, content)
        for layer in self._sent(skip):
            yield manifest.header(_member(layer), layer.size)
            yield from self._source.chunks(layer.offset, layer.size)
            yield manifest.padding(layer.size)
        yield manifest.END

    def stream_size(self, skip: int = 0) -> int:
        """Return the bytes of :meth:`stream`."""
        sizes = [len(content) for content in self._texts().values()]
        sizes += [layer.size for layer in self._sent(skip)]
        return sum(tar.BLOCK + size + len(manifest.padding(size)) for size in sizes) + len(
            manifest.END
        )

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
        return {name: self._config, MANIFEST: manifest.write(name, map(_member, self.layers))}

    def _sent(self, skip: int) -> list[Layer]:
        return list({each.diff_id: each for each in self.layers[skip:]}.values())


def _members(source: tar.Source, bounds: Bounds) -> dict[str, tar.Header]:
    """Return the files in the archive by name; a link stands for what it leads to."""
    found: dict[str, tar.Header] = {}
    for number, header in enumerate(tar.headers(source, 0, source.size), 1):
        limits.check("members", number, bounds.members)
        name = manifest.inside(header.name, header)
        if header.kind is tar.Kind.DIRECTORY:
            continue
        manifest.check_member(header)
        if name in found:
            raise layers.refused(header, "in the archive twice")
        found[name] = header
    links = {name: each for name, each in found.items() if each.kind is tar.Kind.SYMLINK}
    targets = manifest.followed(found.keys() - links, links)
    return found | {name: found[target] for name, target in targets.items()}


def _read(
    source: tar.Source, members: Mapping[str, tar.Header], name: str, bounds: Bounds
) -> bytes:
    member = members.get(name)
    if member is None:
        raise manifest.lacks(name)
    limits.check(f"bytes of {ascii(name)[:300]}", member.size, bounds.config)
    return source.read(member.offset, member.size)


def _layers(
    names: Sequence[str], diff_ids: Sequence[str], members: Mapping[str, tar.Header]
) -> tuple[Layer, ...]:
    manifest.check_layers(names, diff_ids, members)
    found = [members[name] for name in names]
    return tuple(
        Layer(diff_id, name, member.offset, member.size)
        for diff_id, name, member in zip(diff_ids, names, found, strict=True)
    )


def _member(layer: Layer) -> str:
    return f"{layer.diff_id.removeprefix('sha256:')}/layer.tar"
