# SPDX-License-Identifier: Apache-2.0
"""The protocols that share servers speak, by name."""

from container_stack import exceptions
from container_stack.shares import cifs, nfs, protocol

PROTOCOLS: dict[str, type[protocol.Protocol]] = {
    each.name: each for each in (cifs.Samba, nfs.Ganesha)
}
#: That of shares made before there were several.
DEFAULT = cifs.Samba.name


def get(name: str) -> type[protocol.Protocol]:
    """Return the protocol of this name.

    :raises NotSupported: share servers don't speak it.
    """
    try:
        return PROTOCOLS[name]
    except KeyError:
        known = " or ".join(PROTOCOLS)
        raise exceptions.NotSupported(f"Protocol {name} is not served here; use {known}.") from None
