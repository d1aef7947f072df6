# SPDX-License-Identifier: Apache-2.0
"""Tiny image archives, as ``docker save`` writes them, that a real engine loads; and hostile ones.

The same arguments give the same bytes, and so the same image ID::

    archive = image_archives.build([{"bin/tool": image_archives.program(b"..."), "etc/": b""}])

An attacker's archive is made of the same pieces: :func:`layer`, :func:`manifest` and
:func:`archive` take whatever they are given.
"""

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

#: What is in a tar archive: the bytes of a file that all may read (of a directory, if its name
#: ends with a slash), a header, or a header and bytes.
Content = bytes | tarfile.TarInfo | tuple[tarfile.TarInfo, bytes]
Files = Mapping[str, Content] | Iterable[tuple[str, Content]]

#: What every image of :func:`build` says unless it is told otherwise.
CONFIG: Mapping[str, Any] = {
    "architecture": "amd64",
    "os": "linux",
    "created": "2026-01-02T03:04:05Z",
    "config": {"Env": ["PATH=/usr/bin:/bin"], "Cmd": ["/bin/sh"]},
}


def build(
    layers: Sequence[Files | bytes],
    config: Mapping[str, Any] | None = None,
    names: Sequence[str] = (),
) -> bytes:
    """Return an image archive.

    :param layers: the base first; each is files, or a tar archive as it is.
    :param config: keys of the image's configuration that replace those of :data:`CONFIG`.
    :param names: references that the archive claims to be.
    """
    tars = [each if isinstance(each, bytes) else layer(each) for each in layers]
    description = encode(configuration(tars, config))
    name = f"{digest(description)}.json"
    members = {f"{digest(each)}/layer.tar": each for each in tars}
    entry = manifest(name, [f"{digest(each)}/layer.tar" for each in tars], names)
    return archive({**members, name: description, "manifest.json": encode([entry])})


def configuration(tars: Sequence[bytes], config: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the configuration of an image with these layers."""
    rootfs = {"type": "layers", "diff_ids": [f"sha256:{digest(each)}" for each in tars]}
    history = [{"created": CONFIG["created"], "created_by": f"layer {n}"} for n in range(len(tars))]
    return {**CONFIG, "rootfs": rootfs, "history": history, **(config or {})}


def manifest(config: str, layers: Sequence[str], names: Sequence[str] = ()) -> dict[str, Any]:
    """Return an entry of manifest.json."""
    return {"Config": config, "RepoTags": list(names) or None, "Layers": list(layers)}


def layer(files: Files) -> bytes:
    """Return a layer: a tar archive, in the form that the engine itself writes."""
    return archive(files, tarfile.PAX_FORMAT)


def archive(files: Files, form: int = tarfile.USTAR_FORMAT) -> bytes:
    """Return a tar archive with these members, in this order; nothing about them is checked."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for name, content in files.items() if isinstance(files, Mapping) else files:
            member, data = _member(name, content)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def program(content: bytes, mode: int = 0o755) -> tuple[tarfile.TarInfo, bytes]:
    """Return a file with a mode of its own."""
    return special(tarfile.REGTYPE, mode=mode, size=len(content)), content


def symlink(target: str) -> tarfile.TarInfo:
    return special(tarfile.SYMTYPE, linkname=target, mode=0o777)


def hard_link(target: str) -> tarfile.TarInfo:
    return special(tarfile.LNKTYPE, linkname=target)


def device(major: int = 1, minor: int = 3, kind: bytes = tarfile.CHRTYPE) -> tarfile.TarInfo:
    """Return a device node; /dev/null unless told otherwise."""
    return special(kind, devmajor=major, devminor=minor, mode=0o666)


def special(kind: bytes, **fields: Any) -> tarfile.TarInfo:
    """Return a header of any type with any fields."""
    member = tarfile.TarInfo()
    member.type = kind
    for field, value in fields.items():
        setattr(member, field, value)
    return member


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def encode(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _member(name: str, content: Content) -> tuple[tarfile.TarInfo, bytes]:
    if isinstance(content, bytes) and name.endswith("/"):
        content = special(tarfile.DIRTYPE, mode=0o755)
    elif isinstance(content, bytes):
        content = program(content, 0o644)
    member, data = content if isinstance(content, tuple) else (content, b"")
    member.name = name
    return member, data
