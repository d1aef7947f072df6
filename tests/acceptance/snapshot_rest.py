# SPDX-License-Identifier: Apache-2.0
"""A small client of Manila's REST API for snapshots, and for what an administrator manages."""

import dataclasses
from typing import Any

from . import resources, rest


@dataclasses.dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot as the API shows it; ``size`` is in GiB."""

    id: str
    status: str
    size: int
    provider_location: str


class Snapshots:
    """One project's snapshots.

    :param client: of the same project; its user is an administrator too.
    """

    def __init__(self, client: rest.Client) -> None:
        self._client = client

    def create(self, share: str) -> Snapshot:
        """Take a snapshot of a share and return it when it is settled, whatever its status."""
        body = {"snapshot": {"share_id": share}}
        return self.settled(self._client.call("POST", "snapshots", body)["snapshot"]["id"])

    def settled(self, snapshot: str) -> Snapshot:
        """Wait until nothing is under way with a snapshot, and return it."""

        def probe() -> Snapshot | None:
            found = self._get(snapshot)
            assert found is not None, f"Snapshot {snapshot} is gone"
            return None if found.status.endswith("ing") else found

        return self._client.wait(f"snapshot {snapshot}", probe)

    def delete(self, snapshot: str) -> None:
        """Delete a snapshot and wait until it is gone."""
        self._client.call("DELETE", f"snapshots/{snapshot}")
        self._wait_gone(snapshot)

    def location(self, snapshot: str) -> str:
        """Return the path under which a snapshot is exported."""
        path = f"snapshots/{snapshot}/export-locations"
        [location] = self._client.call("GET", path)["share_snapshot_export_locations"]
        return str(location["path"])

    def allow(self, snapshot: str, user: str, kind: str = "user") -> str:
        """Let somebody look into a snapshot, and return the state in which the rule ends."""
        rule = {"access_type": kind, "access_to": user}
        body = {"allow_access": rule}
        made = self._client.call("POST", f"snapshots/{snapshot}/action", body)["snapshot_access"]

        def probe() -> str | None:
            listed = self._client.call("GET", f"snapshots/{snapshot}/access-list")
            [state] = [
                each["state"] for each in listed["snapshot_access_list"] if each["id"] == made["id"]
            ]
            return state if state in ("active", "error") else None

        return self._client.wait(f"a rule of snapshot {snapshot}", probe)

    def deny_all(self, snapshot: str) -> None:
        """Take all rules of a snapshot away."""

        def rules() -> list[dict[str, Any]]:
            listed = self._client.call("GET", f"snapshots/{snapshot}/access-list")
            found: list[dict[str, Any]] = listed["snapshot_access_list"]
            return found

        for rule in rules():
            body = {"deny_access": {"access_id": rule["id"]}}
            self._client.call("POST", f"snapshots/{snapshot}/action", body)
        self._client.wait(f"the end of snapshot {snapshot}'s rules", lambda: not rules())

    def share(
        self, snapshot: str, share_type: str, network: str, size: int, protocol: str = "CIFS"
    ) -> str:
        """Ask for a share with a snapshot's content and return its id."""
        body = {
            "share_proto": protocol,
            "size": size,
            "share_type": share_type,
            "share_network_id": network,
            "snapshot_id": snapshot,
        }
        return str(self._client.call("POST", "shares", {"share": body})["share"]["id"])

    def revert(self, share: str, snapshot: str) -> resources.Share:
        """Put a share back to a snapshot, and return it when that has ended."""
        self._act("shares", share, revert={"snapshot_id": snapshot})
        return self._client.settled(share)

    def shrink(self, share: str, size: int) -> resources.Share:
        """Have a share shrink to ``size`` GiB, and return it when that has ended."""
        self._act("shares", share, shrink={"new_size": size})
        return self._client.settled(share)

    # Managing --------------------------------------------------------------------------------

    def unmanage(self, snapshot: str) -> None:
        """Have Manila forget a snapshot."""
        self._act("snapshots", snapshot, unmanage=None)
        self._wait_gone(snapshot)

    def manage(self, share: str, location: str) -> Snapshot:
        """Have Manila take up a snapshot, and return it when that has ended."""
        body = {"share_id": share, "provider_location": location, "driver_options": {}}
        made = self._client.call("POST", "snapshots/manage", {"snapshot": body})["snapshot"]
        return self.settled(made["id"])

    def unmanage_share(self, share: str) -> None:
        """Have Manila forget a share."""
        self._act("shares", share, unmanage=None)
        self._client.wait_share_gone(share)

    def manage_share(
        self, host: str, server: str, location: str, share_type: str
    ) -> resources.Share:
        """Have Manila take up a share, and return it when that has ended."""
        body = {
            "protocol": "CIFS",
            "service_host": host,
            "export_path": location,
            "share_type": share_type,
            "share_server_id": server,
            "driver_options": {},
        }
        made = self._client.call("POST", "shares/manage", {"share": body})["share"]["id"]
        return self._client.settled(made)

    def unmanage_server(self, server: str) -> None:
        """Have Manila forget a share server."""
        self._act("share-servers", server, unmanage={"force": False})
        self._client.wait_server_gone(server)

    def manage_server(self, host: str, network: str, identifier: str) -> resources.Server:
        """Have Manila take up a share server, and return it when that has ended."""
        body = {
            "host": host,
            "share_network_id": network,
            "identifier": identifier,
            "driver_options": {},
        }
        made = self._client.call("POST", "share-servers/manage", {"share_server": body})

        def probe() -> resources.Server | None:
            found = self._client.server(made["share_server"]["id"])
            return found if found and not found.status.endswith("ing") else None

        return self._client.wait("a managed share server", probe)

    def _get(self, snapshot: str) -> Snapshot | None:
        try:
            found = self._client.call("GET", f"snapshots/{snapshot}")["snapshot"]
        except resources.RefusedError as exc:
            if exc.code == 404:
                return None
            raise
        return Snapshot(
            found["id"], found["status"], found["size"], found.get("provider_location") or ""
        )

    def _wait_gone(self, snapshot: str) -> None:
        def probe() -> bool:
            found = self._get(snapshot)
            assert found is None or "error" not in found.status, f"{found}"
            return found is None

        self._client.wait(f"the end of snapshot {snapshot}", probe)

    def _act(self, kind: str, made: str, **action: Any) -> None:
        self._client.call("POST", f"{kind}/{made}/action", action)
