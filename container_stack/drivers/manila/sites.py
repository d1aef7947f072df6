# SPDX-License-Identifier: Apache-2.0
"""Where the driver handles no share servers: one serves all, on the host's own addresses."""

import contextlib
import ipaddress
import os
from collections.abc import Iterable
from typing import Any

from container_stack import exceptions
from container_stack.host import locks, records
from container_stack.shares import assembly, model, protocol, service, site


def check(settings: assembly.Settings, *, handles_servers: bool) -> None:
    """Refuse options that contradict each other.

    :raises InvalidRequest: the text names the options.
    """
    if handles_servers and settings.site_addresses:
        raise exceptions.InvalidRequest(
            "container_stack_site_addresses is for driver_handles_share_servers = False; with "
            "True, servers have the addresses of their share networks."
        )
    if not handles_servers and not settings.site_addresses:
        raise exceptions.InvalidRequest(
            "driver_handles_share_servers = False needs container_stack_site_addresses: the "
            "addresses of this host at which clients find their shares."
        )


def versions(settings: assembly.Settings) -> list[int]:
    """Return the IP versions of the host's addresses, or of share servers anywhere."""
    addresses = settings.site_addresses or ("192.0.2.1", "2001:db8::1")
    return sorted({ipaddress.ip_address(each).version for each in addresses})


def ensure(shares: service.ShareService, settings: assembly.Settings) -> bool:
    """Have the one server run, if there is to be one; tell whether there was none before."""
    if not settings.site_addresses:
        return False
    # What it serves is mounted later, and is seen only where the tree was shared before.
    shares.start()
    wanted = _spec(settings)
    missing = wanted.id not in {each.id for each in shares.servers.list()}
    site.ensure(shares.servers, wanted)
    return missing


def server(settings: assembly.Settings) -> dict[str, Any] | None:
    """Return the one server as Manila would say it, where Manila says none."""
    if not settings.site_addresses:
        return None
    return {"id": _spec(settings).id, "backend_details": {}}


class Users:
    """Whose a user's name is, where one server has the shares of all projects."""

    def __init__(self, shares: service.ShareService, settings: assembly.Settings) -> None:
        self._server_id = _spec(settings).id
        self._users = site.Users(
            shares.servers,
            locks.ObjectLocks(os.path.join(settings.state_dir, "locks")),
            records.Records(os.path.join(settings.state_dir, "users")),
        )

    def claimed(
        self, share: Any, rules: Iterable[protocol.Rule]
    ) -> contextlib.AbstractContextManager[frozenset[str]]:
        """Lend the names in a share's rules to its project; yield those of other projects."""
        users = [each.to for each in rules if each.kind == "user"]
        return self._users.claimed(self._server_id, share["project_id"], share["id"], users)


def _spec(settings: assembly.Settings) -> model.ServerSpec:
    return site.spec(settings.owner, settings.site_addresses)
