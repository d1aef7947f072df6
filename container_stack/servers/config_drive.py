# SPDX-License-Identifier: Apache-2.0
"""The configuration drive: a directory with what the compute service tells a server of itself."""

import os
import shutil
from collections.abc import Mapping

from container_stack import exceptions


def write(directory: str, files: Mapping[str, bytes]) -> None:
    """Write a drive anew.

    :param files: contents by relative path.
    :raises InvalidRequest: a path leads elsewhere.
    """
    for path in files:
        if path.startswith("/") or not {"", ".", ".."}.isdisjoint(path.split("/")):
            raise exceptions.InvalidRequest(f"{path!r} can't be in a configuration drive.")
    remove(directory)
    for path, content in files.items():
        target = os.path.join(directory, path)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "wb") as file:
            file.write(content)


def remove(directory: str) -> None:
    """Remove a drive; idempotent."""
    shutil.rmtree(directory, ignore_errors=True)
