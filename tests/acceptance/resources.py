# SPDX-License-Identifier: Apache-2.0
"""What Manila's REST API speaks of, as plain values."""

import dataclasses
from collections.abc import Mapping
from typing import Any


class RefusedError(Exception):
    """The API answered with an error.

    :param code: of HTTP.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


@dataclasses.dataclass(frozen=True, slots=True)
class Share:
    """A share as the API shows it; ``size`` is in GiB."""

    id: str
    status: str
    size: int
    host: str
    share_network_id: str
    share_server_id: str


@dataclasses.dataclass(frozen=True, slots=True)
class Rule:
    """An access rule."""

    id: str
    state: str
    access_type: str
    access_to: str
    access_level: str
    access_key: str | None = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True, slots=True)
class Server:
    """A share server."""

    id: str
    status: str
    host: str
    identifier: str
    details: Mapping[str, str]


@dataclasses.dataclass(frozen=True, slots=True)
class Pool:
    """A pool as the scheduler knows it; sizes in GiB."""

    name: str
    total_capacity_gb: float
    free_capacity_gb: float
    capabilities: Mapping[str, Any]


def share(found: Mapping[str, Any]) -> Share:
    """Return a share from the API's words."""
    return Share(
        found["id"],
        found["status"],
        found["size"],
        found["host"] or "",
        found["share_network_id"] or "",
        found["share_server_id"] or "",
    )
