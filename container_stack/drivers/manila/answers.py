# SPDX-License-Identifier: Apache-2.0
"""The core's values as Manila wants them answered."""

import dataclasses
import itertools
from collections.abc import Iterable, Mapping
from typing import Any

from container_stack import exceptions
from container_stack.drivers.manila import security
from container_stack.shares import model

GIB = 1024**3
#: Key of a share server's backend details under which all that makes it is kept.
SPEC = "spec"


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


def snapshot_locations(snapshot: model.Snapshot) -> list[dict[str, Any]]:
    """Return where those who may look into a snapshot find it."""
    return [{"path": path, "is_admin_only": False} for path in snapshot.export_locations]


def size_gb(size: int) -> int:
    """Return bytes as GiB, rounded up: Manila knows no parts of them."""
    return -(-size // GIB)


def server_details(server: model.Server) -> dict[str, str]:
    """Return what Manila is to remember of a share server, from which it can be made again.

    Manila's values end at 1023 characters, so each further address is one, and its directory.
    """
    first = dataclasses.replace(server.spec, also=(), users=None)
    also = {f"{SPEC}.{n}": each.to_json() for n, each in enumerate(server.spec.also, 1)}
    return {
        "identifier": _identifier(server.id),
        "id": server.id,
        "ip": server.spec.address,
        SPEC: first.to_json(),
        **also,
        **({security.USERS: server.spec.users.to_json()} if server.spec.users else {}),
    }


def server_spec(details: Mapping[str, str]) -> model.ServerSpec:
    """Return the spec in what Manila remembers of a share server."""
    found = model.ServerSpec.from_json(details[SPEC])
    for number in itertools.count(1):
        text = details.get(f"{SPEC}.{number}")
        if text is None:
            break
        found = found.joined(model.Interface.from_json(text))
    return dataclasses.replace(found, users=security.users({"backend_details": details}))


def server_id(share_server: Any) -> str:
    """Return the id of a share server here: one that was managed has another in Manila."""
    details = share_server["backend_details"] or {}
    return str(details.get("id") or share_server["id"])


def by_identifier(servers: Iterable[model.Server], identifier: str) -> model.Server:
    """Return the server of this identifier.

    :raises NotFound: there is none; the text names those that there are.
    """
    known = {_identifier(each.id): each for each in servers}
    if identifier not in known:
        there = ", ".join(known) or "none"
        raise exceptions.NotFound(
            f"{identifier!r} is no share server of this back end, which has: {there}."
        )
    return known[identifier]


def _identifier(server_id: str) -> str:
    return f"cs-share-{server_id}"
