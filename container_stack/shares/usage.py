# SPDX-License-Identifier: Apache-2.0
"""How much of their shares tenants use."""

import logging
from collections.abc import Iterable, Mapping

from container_stack import exceptions
from container_stack.shares import service

LOG = logging.getLogger(__name__)


def measure(shares: service.ShareService, share_ids: Iterable[str]) -> Mapping[str, int]:
    """Return the bytes that each share's files take, with those of its file system itself.

    A share that can't be measured is left out; those being made or deleted are often among them.
    """
    found = {}
    for each in share_ids:
        try:
            found[each] = shares.usage(each).used
        except exceptions.NotFound as exc:
            LOG.debug("Share %(id)s is not measured: %(why)s", {"id": each, "why": exc})
        except (exceptions.ContainerStackError, OSError) as exc:
            LOG.warning("Could not measure share %(id)s: %(why)s", {"id": each, "why": exc})
    return found
