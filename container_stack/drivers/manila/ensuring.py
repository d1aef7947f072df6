# SPDX-License-Identifier: Apache-2.0
"""How shares come back when Manila starts: each server once, then their shares side by side."""

from collections.abc import Mapping, Sequence
from concurrent import futures
from typing import Any

from manila.common import constants
from oslo_log import log

from container_stack import exceptions
from container_stack.drivers.manila import answers, qos, security, sites
from container_stack.shares import assembly, model, recovery, service

LOG = log.getLogger(__name__)


class Ensuring(qos.Qos):
    """The part of the driver that Manila calls at every start."""

    _shares: service.ShareService
    _settings: assembly.Settings
    _site: dict[str, Any] | None
    _site_made: bool

    def ensure_shares(self, context: Any, shares: Sequence[Any]) -> dict[str, dict[str, Any]]:
        """Bring every share back, with its server if that is gone, and report on each."""
        details = {_server(share): _details(share) for share in shares}
        with futures.ThreadPoolExecutor(recovery.WORKERS) as pool:
            servers = {
                server_id: pool.submit(self._ensure_server, server_id, kept)
                for server_id, kept in details.items()
            }
            futures.wait(servers.values())
            found = [pool.submit(self._shares.ensure, share["id"]) for share in shares]
        return {
            share["id"]: self._ensured(share, servers[_server(share)], its)
            for share, its in zip(shares, found, strict=True)
        }

    def _ensured(
        self, share: Any, server: "futures.Future[bool]", found: "futures.Future[model.Share]"
    ) -> dict[str, Any]:
        try:
            again = server.result()
            locations = answers.locations(found.result())
            self._limit(share)
        except exceptions.ContainerStackError as exc:
            LOG.error("Share %(id)s is not served: %(why)s", {"id": share["id"], "why": exc})
            return {"status": constants.STATUS_ERROR}
        return {
            "status": constants.STATUS_AVAILABLE,
            "export_locations": locations,
            "reapply_access_rules": again,
        }

    def _ensure_server(self, server_id: str, details: Mapping[str, str]) -> bool:
        if self._site:
            return sites.ensure(self._shares, self._settings) or self._site_made
        return bring_back(self._shares, server_id, details)


def bring_back(shares: service.ShareService, server_id: str, details: Mapping[str, str]) -> bool:
    """Have a server run; make it again if somebody removed its container, and tell whether so.

    With the container went the rules of all its shares.

    :param details: what Manila remembers of it.
    :raises NotFound: it is gone, and Manila remembers nothing of it.
    """
    try:
        shares.servers.running(server_id)
    except exceptions.NotFound:
        if answers.SPEC not in details:
            raise
        login = security.login(security.kept(details))
        shares.create_server(answers.server_spec(details), login)
        return True
    return False


def _server(share: Any) -> str:
    """Return the id of a share's server here; "" where Manila has none."""
    return answers.server_id(share["share_server"]) if share["share_server"] else ""


def _details(share: Any) -> dict[str, str]:
    """Return what Manila remembers of a share's server."""
    return dict((share["share_server"] or {}).get("backend_details") or {})
