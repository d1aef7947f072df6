# SPDX-License-Identifier: Apache-2.0
"""A small client of Manila's REST API that waits for what it asked for."""

import dataclasses
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import requests
from requests import adapters

from . import process, resources

VERSION = "2.99"
_PASSING = ("ing", "queued_to_apply", "queued_to_update", "queued_to_deny")


class Client:
    """One project's view of Manila.

    :param url: of the API, with its version and a final slash.
    :param processes: whose logs are shown when something doesn't come about.
    """

    def __init__(self, url: str, token: str, processes: Sequence[process.Process]) -> None:
        self._url = url
        self._processes = tuple(processes)
        self._nowhere = ""
        self._session = requests.Session()
        self._session.mount("http://", adapters.HTTPAdapter(pool_maxsize=32))
        self._session.headers.update(
            {
                "X-Auth-Token": token,
                "X-OpenStack-Manila-API-Version": VERSION,
                "X-OpenStack-Manila-API-Experimental": "True",
            }
        )

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Return the answer's JSON, or None when it has no body.

        :raises RefusedError: the answer is an error.
        """
        answer = self._session.request(method, self._url + path, json=body, timeout=60)
        if not answer.ok:
            raise resources.RefusedError(answer.status_code, answer.text)
        return answer.json() if answer.content else None

    def wait(
        self, what: str, probe: Callable[[], process.Found | None], timeout: float = 60.0
    ) -> process.Found:
        """Return the first true answer of ``probe``, or fail with the services' last words."""
        return process.wait_for(what, probe, timeout=timeout, processes=self._processes)

    # Back ends -------------------------------------------------------------------------------

    def services(self) -> list[dict[str, Any]]:
        """Return the services that have reported."""
        found: list[dict[str, Any]] = self.call("GET", "services")["services"]
        return found

    def pools(self, host: str) -> list[resources.Pool]:
        """Return the pools of a back end (``host@backend``) as last reported to the scheduler."""
        self._place_nowhere()
        pools = self.call("GET", "scheduler-stats/pools/detail")["pools"]
        return [
            resources.Pool(
                pool["name"],
                float(pool["capabilities"]["total_capacity_gb"]),
                float(pool["capabilities"]["free_capacity_gb"]),
                pool["capabilities"],
            )
            for pool in pools
            if pool["name"].startswith(f"{host}#")
        ]

    def create_type(self, name: str, **extra_specs: str) -> str:
        """Make a public share type and return its id."""
        specs = {"driver_handles_share_servers": "True", **extra_specs}
        body = {"name": name, "share_type_access:is_public": True, "extra_specs": specs}
        return str(self.call("POST", "types", {"share_type": body})["share_type"]["id"])

    def _place_nowhere(self) -> None:
        """Have the scheduler look at its back ends: the API shows what it saw at its last look.

        It looks when it has a share to place; this one fits nowhere.
        """
        if not self._nowhere:
            specs = {"driver_handles_share_servers": "False", "share_backend_name": "nowhere"}
            self._nowhere = self.create_type(f"nowhere-{uuid.uuid4()}", **specs)
        share = self.create_share(share_type=self._nowhere).id
        assert self.settled(share).status == "error"
        self.delete_share(share)

    # Networks and servers --------------------------------------------------------------------

    def create_network(self, name: str) -> str:
        """Make a share network with its default subnet and return its id."""
        body = {"share_network": {"name": name}}
        return str(self.call("POST", "share-networks", body)["share_network"]["id"])

    def delete_network(self, network: str) -> None:
        """Delete a share network; its servers go with it."""
        self.call("DELETE", f"share-networks/{network}")

    def server(self, server: str) -> resources.Server | None:
        """Return a share server, or None when there is none."""
        found = self._find(f"share-servers/{server}", "share_server")
        if found is None:
            return None
        return resources.Server(
            found["id"],
            found["status"],
            found["host"],
            found["identifier"] or "",
            found["backend_details"],
        )

    def servers(self, network: str) -> list[str]:
        """Return the ids of a share network's servers."""
        found = self.call("GET", f"share-servers?share_network_id={network}")["share_servers"]
        return [server["id"] for server in found]

    def delete_server(self, server: str) -> None:
        """Delete a share server and wait until it is gone."""
        self.call("DELETE", f"share-servers/{server}")
        self.wait_server_gone(server)

    def wait_server_gone(self, server: str) -> None:
        """Wait until there is no such share server."""
        self.wait(f"the end of share server {server}", lambda: self.server(server) is None)

    # Shares ----------------------------------------------------------------------------------

    def create_share(
        self,
        *,
        share_type: str,
        network: str | None = None,
        size: int = 1,
        protocol: str = "CIFS",
    ) -> resources.Share:
        """Ask for a share; it is not ready yet.

        :param network: the share network; None only for types without share servers.
        """
        body = {
            "share_proto": protocol,
            "size": size,
            "share_type": share_type,
            "share_network_id": network,
        }
        return resources.share(self.call("POST", "shares", {"share": body})["share"])

    def share(self, share: str) -> resources.Share | None:
        """Return a share, or None when there is none."""
        found = self._find(f"shares/{share}", "share")
        return None if found is None else resources.share(found)

    def settled(self, share: str, timeout: float = 60.0) -> resources.Share:
        """Wait until nothing is under way with a share, and return it whatever its status."""

        def probe() -> resources.Share | None:
            found = self.share(share)
            assert found is not None, f"Share {share} is gone"
            return None if found.status.endswith("ing") else found

        return self.wait(f"share {share}", probe, timeout)

    def shares(self, network: str) -> list[str]:
        """Return the ids of a share network's shares."""
        found = self.call("GET", f"shares?share_network_id={network}")["shares"]
        return [share["id"] for share in found]

    def available(self, share: str, timeout: float = 60.0) -> resources.Share:
        """Wait until a share is available, and return it."""
        found = self.settled(share, timeout)
        if found.status != "available":
            logs = "\n".join(each.tail() for each in self._processes)
            raise AssertionError(f"{found}: {self.messages(share)}\n{logs}")
        return found

    def exports(self, share: str) -> list[str]:
        """Return the paths under which a share is exported."""
        found = self.call("GET", f"shares/{share}/export_locations")["export_locations"]
        return [location["path"] for location in found]

    def extend(self, share: str, size: int) -> resources.Share:
        """Let a share grow to ``size`` GiB and return it when it is done."""
        self._act(share, extend={"new_size": size})
        return self.settled(share)

    def delete_share(self, share: str) -> None:
        """Delete a share and wait until it is gone."""
        self.call("DELETE", f"shares/{share}")
        self.wait_share_gone(share)

    def wait_share_gone(self, share: str) -> None:
        """Wait until there is no such share."""

        def probe() -> bool:
            found = self.share(share)
            assert found is None or not found.status.startswith("error"), f"{found}"
            return found is None

        self.wait(f"the end of share {share}", probe)

    def reset(self, kind: str, made: str) -> None:
        """Tell Manila that something it has given up is in error, so that it may be deleted.

        :param kind: ``shares`` or ``share-servers``.
        """
        self.call("POST", f"{kind}/{made}/action", {"reset_status": {"status": "error"}})

    def messages(self, share: str) -> list[str]:
        """Return what Manila tells the user about a share's failures."""
        found = self.call("GET", f"messages?resource_id={share}")["messages"]
        return [message["user_message"] for message in found]

    # Access rules ----------------------------------------------------------------------------

    def allow(
        self, share: str, to: str, *, level: str = "rw", kind: str = "user"
    ) -> resources.Rule:
        """Make an access rule and return it when it is settled, whatever its state."""
        rule = {"access_type": kind, "access_to": to, "access_level": level}
        made = self._act(share, allow_access=rule)["access"]["id"]
        return self._settled_rule(share, made)

    def change(self, share: str, rule: str, level: str) -> resources.Rule:
        """Change a rule's access level and return the rule when it is settled."""
        body = {"update_access": {"access_level": level}}
        self.call("PUT", f"share-access-rules/{rule}", body)
        return self._settled_rule(share, rule)

    def deny(self, share: str, rule: str) -> None:
        """Delete an access rule and wait until it is gone."""
        self._act(share, deny_access={"access_id": rule})

        def probe() -> bool:
            found = {each.id: each for each in self.rules(share)}
            assert rule not in found or found[rule].state != "error", f"{found[rule]}"
            return rule not in found

        self.wait(f"the end of rule {rule}", probe)

    def rules(self, share: str) -> list[resources.Rule]:
        """Return a share's access rules."""
        found = self.call("GET", f"share-access-rules?share_id={share}")["access_list"]
        fields = [field.name for field in dataclasses.fields(resources.Rule)]
        return [resources.Rule(**{field: rule[field] for field in fields}) for rule in found]

    def _settled_rule(self, share: str, rule: str) -> resources.Rule:
        def probe() -> resources.Rule | None:
            [found] = [each for each in self.rules(share) if each.id == rule]
            return None if found.state.endswith(_PASSING) else found

        return self.wait(f"access rule {rule}", probe)

    def _act(self, share: str, **action: Mapping[str, Any]) -> Any:
        return self.call("POST", f"shares/{share}/action", action)

    def _find(self, path: str, key: str) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = self.call("GET", path)[key]
        except resources.RefusedError as exc:
            if exc.code == 404:
                return None
            raise
        return found
