# SPDX-License-Identifier: Apache-2.0
"""Images that stand on the operator's base image, as accounts make them, good and bad."""

import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

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
    with tarfile.open(storlet_host.base_archive()) as archive:
        entry = json.load(_member(archive, "manifest.json"))[0]
        base = json.load(_member(archive, entry["Config"]))
        tars = [_member(archive, each).read() for each in entry["Layers"]]
    if files is not None:
        tars.append(image_archives.layer(files))
    own = {**base["config"], **(config or {})}
    made = image_archives.configuration(tars, {"config": own})
    made["architecture"] = base["architecture"]
    text = image_archives.encode(made)
    digest = image_archives.digest(text)
    members = {f"{image_archives.digest(each)}/layer.tar": each for each in tars}
    manifest = image_archives.manifest(f"{digest}.json", list(members), names)
    path.write_bytes(
        image_archives.archive(
            {
                **members,
                f"{digest}.json": text,
                "manifest.json": image_archives.encode([manifest]),
            }
        )
    )
    return path


def script(text: str) -> image_archives.Content:
    """Return a program for /bin/sh."""
    return image_archives.program(f"#!/bin/sh\n{text}\n".encode())


def _member(archive: tarfile.TarFile, name: str) -> Any:
    file = archive.extractfile(name)
    assert file is not None
    return file
