# SPDX-License-Identifier: Apache-2.0
"""The layers of an image archive: what each changes in the file system below it.

Names and whiteouts as the engine understands them:
https://github.com/moby/moby/blob/v20.10.24/pkg/archive/diff.go and archive_linux.go. Where its
storage drivers would unpack a layer in different ways, the layer is refused; the engine itself
writes none of these.
"""

import dataclasses
import enum
import itertools
import re
import struct
from collections.abc import Iterator, Sequence

from container_stack import exceptions
from container_stack.host.image_archive import tar

#: Bytes of a name, of a link's target, and of one part of a name.
NAME, PART = 1024, 255
#: Directories in one another.
DEPTH = 128

_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"
#: What the engine takes for a compressed archive: gzip, bzip2, xz, zstd and what may precede that.
COMPRESSED = re.compile(rb"\x1f\x8b\x08|BZh|\xfd7zXZ\0|\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
CAPABILITY = "security.capability"
#: https://github.com/torvalds/linux/blob/v6.1/include/uapi/linux/capability.h, VFS_CAP_REVISION_2
_CAPABILITY_SIZE, _CAPABILITY_REVISION = 20, 0x02000000


@dataclasses.dataclass(frozen=True, slots=True)
class Layer:
    """A layer of an image.

    :param diff_id: sha256:... of its bytes, as the configuration says.
    :param name: of its member in the archive.
    :param offset: where its bytes begin in the archive; ``size`` is their number.
    """

    diff_id: str
    name: str
    offset: int
    size: int


class Effect(enum.Enum):
    """What an entry does to the file system below."""

    WRITES = enum.auto()
    REMOVES = enum.auto()
    #: What lower layers have in the directory is gone.
    HIDES = enum.auto()


@dataclasses.dataclass(frozen=True, slots=True)
class Change:
    """An entry of a layer.

    :param path: parts of the name that it is about, none for the root directory.
    :param target: the same of the other name, if it is a hard link.
    """

    effect: Effect
    path: tuple[str, ...]
    target: tuple[str, ...]
    header: tar.Header


def shared(one: Sequence[str], other: Sequence[str]) -> int:
    """Return how many layers two images have in common, from the first on, by their diff IDs."""
    pairs = zip(one, other, strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


def changes(source: tar.Source, layer: Layer, *, trusted: bool) -> Iterator[Change]:
    """Yield what a layer changes, in the order of the archive.

    :param trusted: it may have device nodes, names from the root and extended attributes.
    :raises InvalidRequest: a name in it leads out of the image, it has what an account's layer
        must not have, or its effect isn't the same everywhere.
    """
    check_plain(source, layer.offset, f"Layer {layer.name}")
    for header in tar.headers(source, layer.offset, layer.offset + layer.size):
        if not trusted:
            _check_strictly(header)
        yield change(header)


def change(header: tar.Header) -> Change:
    """Return what an entry of a layer changes.

    :raises InvalidRequest: its name, or what it links to, leads out of the image or is too long.
    """
    path = _parts(header.name, header)
    target: tuple[str, ...] = ()
    if header.kind is tar.Kind.HARD_LINK:
        target = _parts(header.target, header)
    elif header.kind is tar.Kind.SYMLINK and not 0 < _length(header.target) <= NAME:
        raise refused(header, "a symbolic link that leads nowhere, or too far")
    return _change(path, target, header)


def check_plain(source: tar.Source, offset: int, what: str) -> None:
    """Refuse what is compressed: the engine's classic image store never writes that.

    :raises InvalidRequest: it is.
    """
    check_plain_start(source.read(offset, min(tar.BLOCK, source.size - offset)), what)


def check_plain_start(start: bytes, what: str) -> None:
    """Refuse what begins as something compressed does.

    :raises InvalidRequest: it does.
    """
    if COMPRESSED.match(start):
        raise exceptions.InvalidRequest(
            f"{what} is compressed; give the archive as docker save writes it, made by an engine "
            "that doesn't keep its images in containerd."
        )


def refused(header: tar.Header, what: str) -> exceptions.InvalidRequest:
    """Return the error for a member that an image must not have."""
    return exceptions.InvalidRequest(f"{ascii(header.name)[:300]} in the image is {what}.")


def _change(path: tuple[str, ...], target: tuple[str, ...], header: tar.Header) -> Change:
    last = path[-1] if path else ""
    if not last.startswith(_WHITEOUT):
        return Change(Effect.WRITES, path, target, header)
    if header.kind is not tar.Kind.FILE or header.size:
        raise refused(header, "named as a whiteout and none")
    if last == _OPAQUE:
        return Change(Effect.HIDES, path[:-1], target, header)
    name = last.removeprefix(_WHITEOUT)
    # The engine would remove the directory that it is in, or the one above.
    if name in ("", ".", "..") or name.startswith(_WHITEOUT):
        raise refused(header, "a whiteout of nothing")
    return Change(Effect.REMOVES, (*path[:-1], name), target, header)


def _parts(name: str, header: tar.Header) -> tuple[str, ...]:
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if not name or "\0" in name or ".." in parts:
        raise refused(header, "or leads to a name outside of it")
    length = _length(name)
    long_part = length > PART and any(_length(part) > PART for part in parts)
    if length > NAME or long_part or len(parts) > DEPTH:
        raise refused(header, "or leads to a name that is too long")
    if any(part.startswith(_WHITEOUT) for part in parts[:-1]):
        raise refused(header, "below a whiteout")
    return parts


def _check_strictly(header: tar.Header) -> None:
    if header.kind in (tar.Kind.CHARACTER_DEVICE, tar.Kind.BLOCK_DEVICE):
        raise refused(header, "a device node, which a layer of an account's must not have")
    if header.name.startswith("/") or (
        header.kind is tar.Kind.HARD_LINK and header.target.startswith("/")
    ):
        raise refused(header, "an absolute name, or leads to one")
    if _CONTROL.search(header.name) or _CONTROL.search(header.target):
        raise refused(header, "a name with control characters, or leads to one")
    for name, value in header.attributes.items():
        if name != CAPABILITY or not is_capability(header, value):
            raise refused(header, f"a file with the attribute {name[:80]!a}; remove that")


def is_capability(header: tar.Header, value: str) -> bool:
    """Whether an attribute's value is a file's capabilities, as all kernels understand them."""
    data = value.encode("utf-8", "surrogateescape")
    return (
        header.kind is tar.Kind.FILE
        and len(data) == _CAPABILITY_SIZE
        and struct.unpack_from("<I", data)[0] & 0xFF000000 == _CAPABILITY_REVISION
    )


def _length(name: str) -> int:
    return len(name.encode("utf-8", "surrogateescape"))
