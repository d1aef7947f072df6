# SPDX-License-Identifier: Apache-2.0
"""What Manila tells others of how much tenants use."""

from collections.abc import Sequence
from typing import Any

from oslo_utils import timeutils

from container_stack.drivers.manila import answers
from container_stack.shares import service, usage


class Usage:
    """What Manila asks now and then, where ``enable_gathering_share_usage_size`` is set."""

    _shares: service.ShareService

    def update_share_usage_size(self, context: Any, shares: Sequence[Any]) -> list[dict[str, Any]]:
        """Return how many GiB of each share are used; without those that can't be measured."""
        now = timeutils.utcnow()
        found = usage.measure(self._shares, [share["id"] for share in shares or ()])
        return [
            {"id": share_id, "used_size": used / answers.GIB, "gathered_at": now}
            for share_id, used in found.items()
        ]
