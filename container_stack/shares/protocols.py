# SPDX-License-Identifier: Apache-2.0
"""The protocols that share servers speak, by name."""

from container_stack import exceptions
from container_stack.shares import active_directory, cifs, ldap, nfs, protocol, security

PROTOCOLS: dict[str, type[protocol.Protocol]] = {
    each.name: each for each in (cifs.Samba, nfs.Ganesha)
}
#: That of shares made before there were several.
DEFAULT = cifs.Samba.name


#: What is spoken by servers whose users are a directory's, by kind.
MEMBERS: dict[str, dict[str, type[protocol.Protocol]]] = {
    security.ACTIVE_DIRECTORY: {active_directory.Samba.name: active_directory.Samba},
    security.LDAP: {ldap.Samba.name: ldap.Samba},
}


def get(name: str, users: security.SecurityService | None = None) -> type[protocol.Protocol]:
    """Return the protocol of this name.

    :param users: whose users the server's are; None for its own.
    :raises NotSupported: share servers don't speak it, or not with users of a directory.
    """
    known = MEMBERS[users.kind] if users else PROTOCOLS
    if name in known:
        return known[name]
    if users and name in PROTOCOLS:
        raise exceptions.NotSupported(
            f"{name} is not served with users of {users.domain}: a server with a security service "
            f"speaks {' or '.join(known)} only; use a share network without one."
        )
    raise exceptions.NotSupported(f"Protocol {name} is not served here; use {' or '.join(known)}.")
