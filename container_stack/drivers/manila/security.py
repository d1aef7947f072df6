# SPDX-License-Identifier: Apache-2.0
"""Manila's security services, as the directories that share servers have their users from.

Manila keeps a service's password with the share server, and hands it over when a server is made
and when it is removed. Nothing of ours keeps it.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from oslo_log import log
from oslo_serialization import jsonutils

from container_stack import exceptions
from container_stack.shares import security

LOG = log.getLogger(__name__)

#: Key of a share server's backend details under which its directory is kept, without secrets.
USERS = "users"
#: What Manila itself keeps there, by type, with the password.
_KEPT = "security_service_"

_PART = re.compile(r"\s*(?P<kind>[A-Za-z]+)\s*=\s*(?P<name>[^=,\\]+?)\s*")


def wanted(
    services: Sequence[Mapping[str, Any]],
) -> tuple[security.SecurityService | None, security.Login | None]:
    """Return the directory that a share network's security services name, and who may join it.

    :raises NotSupported: there are several, or one of a type that isn't served.
    :raises InvalidRequest: a value is wrong or missing; the text says which.
    """
    if not services:
        return None, None
    if len(services) > 1:
        raise exceptions.NotSupported(
            "A share server can have the users of one directory; give the share network one "
            "security service."
        )
    [given] = services
    servers = (given["dns_ip"] or "").replace(",", " ").split()
    found = security.SecurityService(
        given["type"],
        domain=given["domain"] or "",
        dns=tuple(servers),
        server=given["server"] or None,
        site=given.get("default_ad_site") or None,
        unit=_unit(given["ou"] or ""),
    )
    return found, security.Login(given["user"] or "", given["password"] or "")


def login(services: Sequence[Mapping[str, Any]] | None) -> security.Login | None:
    """Return who may take a server out of its directory, if that can be told."""
    try:
        return wanted(services or ())[1]
    except exceptions.ContainerStackError as exc:
        LOG.warning("A security service can't be used: %(why)s", {"why": exc})
        return None


def kept(details: Mapping[str, str]) -> Sequence[Mapping[str, Any]]:
    """Return the security services that Manila keeps with a share server."""
    found = [text for key, text in details.items() if key.startswith(_KEPT)]
    return [jsonutils.loads(each) for each in found]


def users(share_server: Any) -> security.SecurityService | None:
    """Return the directory of a share server, if it has one."""
    details = (share_server and share_server["backend_details"]) or {}
    text = details.get(USERS)
    return security.SecurityService.from_json(text) if text else None


def _unit(text: str) -> str | None:
    """Return an organizational unit from the top, as Samba wants it.

    Manila's users say it as LDAP does: ``OU=Storage,OU=Servers,DC=corp,DC=example``.
    """
    if "=" not in text:
        return text.strip().strip("/") or None
    parts = [_PART.fullmatch(each) for each in text.split(",")]
    units = []
    for part in parts:
        if part is None or part["kind"].upper() not in ("OU", "DC"):
            raise exceptions.InvalidRequest(
                f"{text!r} isn't understood: say the organizational unit as "
                "'OU=Storage,OU=Servers', or from the top as 'Servers/Storage'."
            )
        if part["kind"].upper() == "OU":
            units.append(part["name"])
    return "/".join(reversed(units)) or None
