# SPDX-License-Identifier: Apache-2.0
"""Names of initiators."""

import re
import socket

from container_stack import exceptions
from container_stack.host import attach

#: Where a name of our own making begins. ``internal`` is a domain that nobody can own (ICANN,
#: 2024), so the name collides with no maker's.
PREFIX = "iqn.2026-11.internal.container-stack"

# RFC 3720, 3.2.6.3: iqn.<date>.<domain backwards>[:<more>], eui.<16 digits>; RFC 3980: naa.
_NAME = re.compile(r"iqn\.\d{4}-\d{2}\.[a-z0-9.:-]+|eui\.[0-9a-fA-F]{16}|naa\.[0-9a-fA-F]{16,32}")


def initiator(options: attach.Options) -> str:
    """Return who we are to targets: what the operator says, else a name made of this host's.

    Hosts that share a host name share the name made of it: let the operator set one there.

    :raises InvalidRequest: what the operator says isn't the name of an initiator.
    """
    if not options.initiator:
        host = re.sub(r"[^a-z0-9.-]", "-", socket.gethostname().lower())
        return f"{PREFIX}:{host or 'host'}"[:223]
    if not _NAME.fullmatch(options.initiator) or len(options.initiator) > 223:
        raise exceptions.InvalidRequest(
            f"{options.initiator!r} can't name an initiator; an example is {PREFIX}:host1."
        )
    return options.initiator
