# SPDX-License-Identifier: Apache-2.0
"""What a share type, or a QoS type of Manila's, says of a share's bandwidth and operations.

``container_stack:maxbps``, ``container_stack:maxbpspergib``
    Bytes that may be read, and as many that may be written, in each second; for each GiB.
``container_stack:maxiops``, ``container_stack:maxiopspergib``
    The same of operations.

A QoS type's specs have the same names, and count where both say something.
"""

import re
from collections.abc import Mapping
from typing import Any

from manila import exception
from manila.share import qos_types, share_types
from oslo_log import log

from container_stack import exceptions
from container_stack.shares import limits, service

LOG = log.getLogger(__name__)

_PREFIX = "container_stack:"
#: Spec to its name in the core.
SPECS: Mapping[str, str] = {
    f"{_PREFIX}maxbps": "bps",
    f"{_PREFIX}maxbpspergib": "bps_per_gib",
    f"{_PREFIX}maxiops": "iops",
    f"{_PREFIX}maxiopspergib": "iops_per_gib",
}
_NUMBER = re.compile(r"[0-9]{1,19}")


class Qos:
    """What the driver asks of Manila about limits."""

    _shares: service.ShareService

    def _wanted(self, share: Any) -> limits.Limits | None:
        """Return the limits that a share is to have.

        :raises InvalidRequest: a spec can't be obeyed; the text names it.
        """
        return wanted(specs(share))

    def _limit(self, share: Any) -> None:
        """Give a share the limits that its type says now; what can't be obeyed changes nothing."""
        try:
            self._shares.limiting.set(share["id"], self._wanted(share))
        except (exceptions.InvalidRequest, exceptions.NotSupported, exception.NotFound) as exc:
            LOG.warning(
                "Share %(id)s keeps the limits that it has: %(why)s",
                {"id": share["id"], "why": exc},
            )


def specs(share: Any) -> Mapping[str, str]:
    """Return all that the types of a share say."""
    found: dict[str, str] = {}
    if share.get("share_type_id"):
        found |= share_types.get_extra_specs_from_share(share) or {}
    return found | dict(qos_types.get_specs_from_share(share))


def wanted(found: Mapping[str, str]) -> limits.Limits | None:
    """Return the limits among a type's specs, or None.

    :raises InvalidRequest: one can't be obeyed; the text names it.
    """
    given: dict[str, int] = {}
    for key, value in found.items():
        if not key.startswith(_PREFIX):
            continue
        if key not in SPECS:
            raise exceptions.InvalidRequest(
                f"There is no extra spec {key}; there are: {', '.join(SPECS)}."
            )
        if not _NUMBER.fullmatch(value):
            raise exceptions.InvalidRequest(f"Extra spec {key} is {value!r}, and no number.")
        try:
            limits.Limits(**{SPECS[key]: int(value)})
        except exceptions.InvalidRequest as exc:
            raise exceptions.InvalidRequest(f"Extra spec {key} can't be obeyed: {exc}") from exc
        given[SPECS[key]] = int(value)
    return limits.Limits(**given) if given else None
