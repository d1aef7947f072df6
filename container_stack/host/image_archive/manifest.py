# SPDX-License-Identifier: Apache-2.0
"""What an image archive consists of: manifest.json, and the members that it names."""

import dataclasses
import json
import posixpath
import re
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from container_stack import exceptions
from container_stack.host.image_archive import image_config, layers, tar

NAME = "manifest.json"
#: What ends a tar archive.
END = bytes(2 * tar.BLOCK)

_HEX = re.compile(r"[0-9a-f]{64}")


@dataclasses.dataclass(frozen=True, slots=True)
class Manifest:
    """The one image that an archive has.

    :param config: name of the member with the configuration.
    :param layers: names of members, the base's first.
    :param names: references that the archive claims.
    """

    config: str
    layers: list[str]
    names: list[str]


def read(data: bytes) -> Manifest:
    """Return what manifest.json says.

    :raises InvalidRequest: it is malformed, or about several images.
    """
    images = image_config.parse(data, NAME)
    if not isinstance(images, list) or len(images) != 1 or not isinstance(images[0], dict):
        raise exceptions.InvalidRequest("The archive must have one image; save one by its name.")
    config, names = images[0].get("Config"), images[0].get("RepoTags") or []
    found = images[0].get("Layers") or []
    if not isinstance(config, str) or not _are_texts(found) or not _are_texts(names):
        raise exceptions.InvalidRequest(f"The archive's {NAME} is malformed.")
    return Manifest(config, found, names)


def write(config: str, layer_names: Iterable[str], names: Sequence[str] = ()) -> bytes:
    """Return a manifest.json."""
    entry = {"Config": config, "RepoTags": list(names) or None, "Layers": list(layer_names)}
    return json.dumps([entry]).encode()


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(each, str) and each.isprintable() and len(each) <= layers.NAME for each in value
    )


def inside(path: str, header: tar.Header) -> str:
    """Return a path in its shortest form, if it doesn't leave the archive.

    :raises InvalidRequest: it does.
    """
    short = posixpath.normpath(path)
    if short.startswith(("/", "../")) or short == "..":
        raise layers.refused(header, "outside of the archive, or leads there")
    return short


def check_member(header: tar.Header) -> None:
    """Refuse what no engine writes beside files, directories and symbolic links.

    :raises InvalidRequest: it is a device or a hard link.
    """
    if header.kind not in (tar.Kind.FILE, tar.Kind.SYMLINK, tar.Kind.DIRECTORY):
        raise layers.refused(header, "a link or a device, which no engine writes there")


def followed(files: Iterable[str], links: Mapping[str, tar.Header]) -> dict[str, str]:
    """Return the files that symbolic links lead to, by the links' names.

    The engine has a layer once, and links to it, when an image has it several times.

    :raises InvalidRequest: a link leads to none of the files.
    """
    known = set(files)
    found = {}
    for name, link in links.items():
        target = inside(posixpath.join(posixpath.dirname(name), link.target), link)
        if target not in known:
            raise layers.refused(link, "a symbolic link to no file in the archive")
        found[name] = target
    return found


def check_config_name(name: str, digest: str) -> None:
    """Refuse a configuration whose name tells another digest than it has, in hexadecimal digits.

    :raises InvalidRequest: it does.
    """
    claimed = posixpath.basename(name).removesuffix(".json")
    if _HEX.fullmatch(claimed) and claimed != digest:
        raise another("The configuration", claimed, digest)


def check_layers(names: Sequence[str], diff_ids: Sequence[str], there: Iterable[str]) -> None:
    """Refuse an archive whose layers aren't those of its configuration.

    :raises InvalidRequest: one is missing, or there are more or fewer.
    """
    if len(names) != len(diff_ids):
        raise exceptions.InvalidRequest(
            f"The archive has {len(names)} layers, and its configuration {len(diff_ids)}."
        )
    known = set(there)
    missing = [name for name in names if name not in known]
    if missing:
        raise exceptions.InvalidRequest(
            f"The archive lacks {len(missing)} of {len(names)} layers: {ascii(missing[0])[:300]}."
        )


def lacks(name: str) -> exceptions.InvalidRequest:
    """Return the error for an archive without a member that it must have."""
    return exceptions.InvalidRequest(
        f"The archive has no {ascii(name)[:300]}; make it by docker save."
    )


def another(what: str, wanted: str, digest: str) -> exceptions.InvalidRequest:
    """Return the error for what has another digest than is said."""
    return exceptions.InvalidRequest(
        f"{what} is damaged or forged: its digest is {digest}, not {wanted}; save and upload it "
        "again."
    )


def header(name: str, size: int) -> bytes:
    """Return the header of a file in an archive of ours."""
    member = tarfile.TarInfo(name)
    member.size = size
    return member.tobuf(tarfile.GNU_FORMAT)


def padding(size: int) -> bytes:
    """Return what follows so many bytes of a file."""
    return bytes(-size % tar.BLOCK)


def file(name: str, content: bytes) -> bytes:
    """Return a whole file in an archive of ours."""
    return header(name, len(content)) + content + padding(len(content))
