# SPDX-License-Identifier: Apache-2.0
"""What a command in a server's container says, asked of the engine."""

from collections.abc import Mapping
from typing import Any

from . import host


def run(container: Mapping[str, Any], *words: str) -> str:
    """Run a command in a container and return what it writes; "" when it fails."""
    with host.engine() as client:
        made = client.api.exec_create(container["Id"], list(words), stderr=False)
        said = client.api.exec_start(made["Id"])
        code = client.api.exec_inspect(made["Id"])["ExitCode"]
    return said.decode() if code == 0 else ""
