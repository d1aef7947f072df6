# SPDX-License-Identifier: Apache-2.0
"""An image archive that is checked while it passes on to an engine, once and in pieces.

The engine gets the layers as they come, under names of ours; the configuration and manifest.json,
without which it makes nothing of them, come last, when all that there was to check is checked.
So it never completes a wrong image, and a gigabyte needs neither memory nor disk here.
"""

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from container_stack import exceptions
from container_stack.host.image_archive import (
    bounds,
    forward,
    image_config,
    layers,
    manifest,
    tar,
)

#: Bytes of a member up to which it waits, and doesn't pass at once, whatever it is.
_SMALL = 4096
#: Configurations that may wait, of the largest size.
_WAITING = 16
#: Bytes that are more than any archive has.
_FAR = 2**62
#: Attributes of files that an image may have; those that file systems act upon aren't among them.
_ATTRIBUTES = ("user.", "security.selinux", "system.posix_acl_")

#: Gets an image's configuration and returns what it shall be; raises InvalidRequest to refuse it.
Change = Callable[[Mapping[str, Any]], Mapping[str, Any]]


def _as_it_is(config: Mapping[str, Any]) -> Mapping[str, Any]:
    return config


@dataclasses.dataclass(slots=True)
class _Member:
    """A file of the archive.

    :param content: None when it has passed already.
    :param fault: why it is no layer that an image may have, if so.
    :param size: bytes, unpacked.
    """

    sent_as: str
    content: bytes | None = None
    diff_id: str = ""
    size: int = 0
    fault: exceptions.InvalidRequest | None = None


class Transit:
    """An archive on its way; iterating yields, once, the archive that goes on.

    Layers may be compressed by gzip, and so may the whole. What goes on has one image, whose
    names are ours, and nothing else that the archive claims.

    :param pieces: the archive; all of it is read, so that what raises at its end can refuse it.
    :param names: references that the image gets in the engine.
    :param change: of the configuration, and thereby of the image's ID.
    """

    def __init__(
        self,
        pieces: Iterable[bytes],
        limits: bounds.Bounds,
        *,
        names: Sequence[str] = (),
        change: Change = _as_it_is,
    ) -> None:
        self._source = forward.Forward(forward.unpacked(pieces), limits.archive)
        self._limits = limits
        self._names = names
        self._change = change
        self._members: dict[str, _Member] = {}
        self._links: dict[str, tar.Header] = {}
        self._waiting = 0
        self._unpacked = 0
        self._entries = 0
        #: sha256:... of the configuration, once everything has passed.
        self.image_id = ""

    def __iter__(self) -> Iterator[bytes]:
        """Yield what goes on.

        :raises InvalidRequest: it is no image archive, a damaged or a forged one, or too large.
        """
        layers.check_plain_start(self._source.peek(tar.BLOCK), "The archive")
        for number, header in enumerate(tar.headers(self._source, 0, _FAR), 1):
            bounds.check("members", number, self._limits.members)
            name = manifest.inside(header.name, header)
            if header.kind is tar.Kind.DIRECTORY:
                continue
            manifest.check_member(header)
            if name in self._members or name in self._links:
                raise layers.refused(header, "in the archive twice")
            if header.kind is tar.Kind.SYMLINK:
                self._links[name] = header
            else:
                self._members[name] = _Member(f"{number}.tar")
                yield from self._file(self._members[name], header.size)
        for _ in self._source.rest():
            pass
        yield from self._completed()

    def _file(self, member: _Member, size: int) -> Iterator[bytes]:
        """Check a file as if it were a layer, and pass it on unless it may be something else."""
        start = self._source.peek(min(tar.BLOCK, size))[:size]
        described = start.lstrip()[:1] in (b"{", b"[") and size <= self._limits.config
        if described or size <= _SMALL:
            self._waiting += size
            bounds.check("bytes of descriptions", self._waiting, _WAITING * self._limits.config)
            member.content = b"".join(self._source.pieces(size))
            for _ in self._layer(member, iter([member.content])):
                pass
        else:
            yield manifest.header(member.sent_as, size)
            yield from self._layer(member, self._source.pieces(size))
            yield manifest.padding(size)

    def _layer(self, member: _Member, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """Yield what comes, and find out what it is when it is a layer."""
        passage = _Passage(pieces, self._measured)
        try:
            layers.check_plain_start(passage.plain.peek(tar.BLOCK), "A layer")
            for header in tar.headers(passage.plain, 0, _FAR):
                self._entries += 1
                bounds.check("files", self._entries, self._limits.entries)
                _check_entry(header)
                yield from passage.passed()
                for _ in passage.plain.pieces(header.size):
                    yield from passage.passed()
            for _ in passage.plain.rest():
                yield from passage.passed()
        except exceptions.InvalidRequest as exc:
            if passage.broken:
                raise
            member.fault = exc
        yield from passage.passed()
        yield from pieces
        member.diff_id, member.size = f"sha256:{passage.digest}", passage.size

    def _measured(self, size: int) -> None:
        self._unpacked += size
        bounds.check("bytes when unpacked", self._unpacked, self._limits.unpacked)

    def _completed(self) -> Iterator[bytes]:
        """Yield what makes an image of the layers."""
        files = manifest.followed(self._members, self._links)
        files |= {name: name for name in self._members}
        told = manifest.read(self._description(files, manifest.NAME))
        bounds.check("layers", len(told.layers), self._limits.layers)
        text = self._description(files, told.config)
        manifest.check_config_name(told.config, hashlib.sha256(text).hexdigest())
        config = image_config.read(text)
        diff_ids = config["rootfs"]["diff_ids"]
        manifest.check_layers(told.layers, diff_ids, files)
        found = [self._members[files[name]] for name in told.layers]
        _check_layers(told.layers, found, diff_ids)
        bounds.check("bytes when unpacked", sum(m.size for m in found), self._limits.unpacked)
        changed = self._change(config)
        if changed is not config:
            text = json.dumps(changed, separators=(",", ":")).encode()
        digest = hashlib.sha256(text).hexdigest()
        for sent_as, content in {each.sent_as: each.content for each in found}.items():
            if content is not None:
                yield manifest.file(sent_as, content)
        yield manifest.file(f"{digest}.json", text)
        sent = (each.sent_as for each in found)
        last = manifest.write(f"{digest}.json", sent, self._names)
        yield manifest.file(manifest.NAME, last) + manifest.END
        self.image_id = f"sha256:{digest}"

    def _description(self, files: Mapping[str, str], name: str) -> bytes:
        """Return a member that had to wait."""
        if name not in files:
            raise manifest.lacks(name)
        content = self._members[files[name]].content
        if content is None:
            raise exceptions.InvalidRequest(
                f"{ascii(name)[:300]} in the archive is no JSON object, or has more than "
                f"{self._limits.config} bytes."
            )
        bounds.check(f"bytes of {ascii(name)[:300]}", len(content), self._limits.config)
        return content


class _Passage:
    """A file that is read, unpacked if need be, and passed on as it came."""

    def __init__(self, pieces: Iterator[bytes], measured: Callable[[int], None]) -> None:
        self._pieces = pieces
        self._measured = measured
        self._waiting: list[bytes] = []
        self._hash = hashlib.sha256()
        self.size = 0
        #: What raised wasn't about this file.
        self.broken = False
        self.plain = forward.Forward(self._hashed(), _FAR)

    @property
    def digest(self) -> str:
        """SHA-256 of what was read, in hexadecimal digits."""
        return self._hash.hexdigest()

    def passed(self) -> Iterator[bytes]:
        """Yield what was taken and not yet passed on."""
        while self._waiting:
            yield self._waiting.pop(0)

    def _hashed(self) -> Iterator[bytes]:
        for data in forward.unpacked(self._taken()):
            self._hash.update(data)
            self.size += len(data)
            with self._breaking():
                self._measured(len(data))
            yield data

    def _taken(self) -> Iterator[bytes]:
        with self._breaking():
            for piece in self._pieces:
                self._waiting.append(piece)
                yield piece

    @contextlib.contextmanager
    def _breaking(self) -> Iterator[None]:
        try:
            yield
        except exceptions.ContainerStackError:
            self.broken = True
            raise


def _check_entry(header: tar.Header) -> None:
    """Refuse an entry of a layer that no tenant's image may have."""
    layers.change(header)
    if header.kind in (tar.Kind.CHARACTER_DEVICE, tar.Kind.BLOCK_DEVICE):
        raise layers.refused(header, "a device node, which images must not have")
    for name, value in header.attributes.items():
        known = name == layers.CAPABILITY and layers.is_capability(header, value)
        if not known and not name.startswith(_ATTRIBUTES):
            raise layers.refused(header, f"a file with the attribute {name[:80]!a}; remove that")


def _check_layers(names: Sequence[str], found: Sequence[_Member], diff_ids: Sequence[str]) -> None:
    for name, member, diff_id in zip(names, found, diff_ids, strict=True):
        if member.fault is not None:
            raise member.fault
        if member.diff_id != diff_id:
            raise manifest.another(f"Layer {ascii(name)[:300]}", diff_id, member.diff_id)
