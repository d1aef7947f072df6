# SPDX-License-Identifier: Apache-2.0
"""What a server is told of itself: its configuration drive, and variables of its environment."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from nova.api.metadata import base as metadata_base
from nova.virt import configdrive

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


def environment(instance: Any) -> dict[str, str]:
    """Return the server's metadata as variables; what can't name one is on the drive only."""
    return {
        key: value
        for key, value in instance.metadata.items()
        if _VARIABLE.match(key) and "\0" not in value
    }


def drive(
    instance: Any,
    network_info: Any,
    injected_files: Sequence[tuple[str, Any]] = (),
    admin_password: str | None = None,
    *,
    wanted: bool = False,
) -> Mapping[str, bytes] | None:
    """Return the files of a server's configuration drive by path, or None when it has none.

    :param wanted: it must have one, whatever Nova says.
    """
    if not wanted and not configdrive.required_by(instance):
        return None
    extra = {"admin_pass": admin_password} if admin_password else {}
    described = metadata_base.InstanceMetadata(
        instance, content=list(injected_files), extra_md=extra, network_info=network_info
    )
    return {
        path: content.encode() if isinstance(content, str) else bytes(content)
        for path, content in described.metadata_for_config_drive()
    }
