# SPDX-License-Identifier: Apache-2.0
"""What may name a share in a server, and the networks that rules name."""

import ipaddress
import re

from container_stack import exceptions

#: Names with a meaning of their own for Samba.
RESERVED_SHARES = frozenset({"global", "homes", "printers"})

_SHARE = re.compile(r"(?!.*\.\.)[a-z0-9][a-z0-9._-]{0,62}")


def check_share(name: str) -> str:
    """Return the name if a share can have it, whatever its protocol.

    :raises InvalidRequest: it can't.
    """
    if not _SHARE.fullmatch(name) or name in RESERVED_SHARES:
        raise exceptions.InvalidRequest(
            f"{name!r} can't name a share: use 1 to 63 of a-z, 0-9, '.', '_' and '-'."
        )
    return name


def network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """Return the network of an address (then it is that alone) or of a network.

    :raises InvalidRequest: the text is neither, or has a zone.
    """
    try:
        found = ipaddress.ip_network(text, strict=False)
    except ValueError as exc:
        raise exceptions.InvalidRequest(f"{text!r} is not an IP address or network.") from exc
    if "%" in str(found):
        raise exceptions.InvalidRequest(f"{text!r} has a zone, which only its own host knows.")
    return found
