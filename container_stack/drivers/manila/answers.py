# SPDX-License-Identifier: Apache-2.0
"""The core's values as Manila wants them answered."""

from typing import Any

from container_stack.shares import model

GIB = 1024**3


def locations(share: model.Share) -> list[dict[str, Any]]:
    """Return where clients find a share: by each address of its server, the first is preferred."""
    return [
        {
            "path": path,
            "is_admin_only": False,
            "metadata": {"preferred": path == share.export_location},
        }
        for path in share.export_locations
    ]
