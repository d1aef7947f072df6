# SPDX-License-Identifier: Apache-2.0
"""Images that stand on the operator's base image, as accounts make them, good and bad."""

import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from container_stack.testing import image_archives

from . import storlet_host


def build(
    path: Path,
    files: image_archives.Files | None = None,
    *,
    config: Mapping[str, Any] | None = None,
    names: Sequence[str] = (),
) -> Path:
    """Write an image archive: the base image, with a layer over it, and return its path.

    :param files: what the layer consists of; no layer without.
    :param config: what the Dockerfile sets, in the engine's words: Env, WorkingDir...
    """
    layer = image_archives.layer(files) if files is not None else None
    with (
        tarfile.open(storlet_host.base_archive()) as base,
        tarfile.open(path, "w") as made,
    ):
        entry = json.load(_file(base, "manifest.json"))[0]
        description = json.load(_file(base, entry["Config"]))
        for name in entry["Layers"]:
            made.addfile(base.getmember(name), _file(base, name))
        members = {}
        if layer is not None:
            digest = image_archives.digest(layer)
            entry["Layers"].append(f"{digest}/layer.tar")
            description["rootfs"]["diff_ids"].append(f"sha256:{digest}")
            members[entry["Layers"][-1]] = layer
        description["config"] |= config or {}
        text = image_archives.encode(description)
        entry |= {"Config": f"{image_archives.digest(text)}.json", "RepoTags": list(names)}
        members |= {entry["Config"]: text, "manifest.json": image_archives.encode([entry])}
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            made.addfile(member, io.BytesIO(content))
    return path


def script(text: str) -> image_archives.Content:
    """Return a program for /bin/sh."""
    return image_archives.program(f"#!/bin/sh\n{text}\n".encode())


def _file(archive: tarfile.TarFile, name: str) -> IO[bytes]:
    file = archive.extractfile(name)
    assert file is not None
    return file
