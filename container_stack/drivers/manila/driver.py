# SPDX-License-Identifier: Apache-2.0
"""Manila: share servers in containers.

In manila.conf::

    share_driver = container_stack.drivers.manila.ContainerShareDriver

This module turns Manila's words into those of :mod:`container_stack.shares` and back. The
contract is that of ``manila.share.driver.ShareDriver`` in Manila 23.
"""

import contextlib
import uuid
from collections.abc import Iterable, Sequence
from typing import Any

from manila.common import constants
from manila.share import driver
from oslo_log import log

from container_stack import exceptions
from container_stack.conf import manila as conf
from container_stack.drivers.manila import (
    answers,
    choosing,
    copying,
    ensuring,
    errors,
    managing,
    migrating,
    neighbours,
    networks,
    newcomers,
    qos,
    security,
    server_migrating,
    sites,
    snapshots,
    subnets,
    usage,
)
from container_stack.shares import assembly, protocol, protocols, service

LOG = log.getLogger(__name__)


class ContainerShareDriver(
    ensuring.Ensuring,
    snapshots.SnapshotCalls,
    managing.ManagingCalls,
    server_migrating.ServerMigrating,
    subnets.Subnets,
    choosing.Choosing,
    qos.Qos,
    usage.Usage,
    driver.ShareDriver,  # type: ignore[misc]
):
    """Serves shares from containers, one for each share server of Manila's."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__([True, False], *args, config_opts=[conf.OPTS], **kwargs)
        self.ipv6_implemented = True
        self.network_allocation_update_support = True
        #: The one server where Manila has none.
        self._site: dict[str, Any] | None = None
        self._site_made = False
        self._start = ""
        self._memory = kwargs.get("private_storage")
        self._settings: assembly.Settings
        self._shares: service.ShareService

    # Start --------------------------------------------------------------------------------

    def do_setup(self, context: Any) -> None:
        """Put the parts together; Manila has forked by now, so connections may be made."""
        self._start = uuid.uuid4().hex
        with errors.translated():
            group = self.configuration.config_group
            owner = conf.owner(group)
            self._settings = conf.settings(self.configuration.safe_get, owner)
            sites.check(self._settings, handles_servers=self.driver_handles_share_servers)
            self._site = sites.server(self._settings)
            self._shares = assembly.open_service(self._settings)
        self.qos_type_support = self._shares.limiting.supported()
        own = neighbours.Neighbour(group, self._settings, self._shares)
        self._neighbours = neighbours.Neighbours(own, ContainerShareDriver)
        self._copying = migrating.Copying()
        self._copies = copying.Copies(self._shares, self._memory, copying.PATIENCE)
        self._newcomers = newcomers.Newcomers(self._shares, self._settings)

    def check_for_setup_error(self) -> None:
        """Refuse to start on a host that can't serve, and finish what a crash left."""
        with errors.translated():
            assembly.check(self._settings)
            self._site_made = sites.ensure(self._shares, self._settings)
            health = self._shares.recover()
            self._newcomers.remove()
            self._settle_moves()
        if health.finished:
            LOG.info("Removed what a crash left: %(ids)s", {"ids": ", ".join(health.finished)})

    def get_backend_info(self, context: Any) -> dict[str, str]:
        """Return what makes Manila call ``ensure_shares`` when it changes: at every start."""
        return {"start": self._start}

    def get_configured_ip_versions(self) -> list[int]:
        """Return the IP versions that share servers can have."""
        return sites.versions(self._settings)

    # Share servers ------------------------------------------------------------------------

    def get_network_allocations_number(self) -> int:
        """Return how many addresses a share server needs."""
        return 1

    def _setup_server(
        self, network_info: Sequence[dict[str, Any]], metadata: Any = None
    ) -> dict[str, str]:
        with errors.translated():
            users, login = security.wanted(network_info[0]["security_services"])
            spec = networks.spec(network_info, users)
            self._newcomers.add(spec.id)
            server = self._shares.create_server(spec, login)
        return answers.server_details(server)

    def _teardown_server(
        self, server_details: dict[str, str], security_services: Any = None
    ) -> None:
        if not server_details or "id" not in server_details:
            LOG.warning("A share server without details was never made; nothing to delete")
            return
        with errors.translated():
            self._shares.delete_server(server_details["id"], security.login(security_services))
            self._newcomers.known(server_details["id"])

    # Shares -------------------------------------------------------------------------------

    def create_share(
        self, context: Any, share: Any, share_server: Any = None
    ) -> list[dict[str, Any]]:
        """Make a share and return where clients find it."""
        with errors.translated(share["id"]):
            self._meet(share_server)
            made = self._shares.create(
                share["id"],
                answers.server_id(share_server or self._site),
                share["size"] * answers.GIB,
                share["share_proto"].upper(),
                limited=self._wanted(share),
            )
        return answers.locations(made)

    def _meet(self, share_server: Any) -> None:
        """Have the server on which Manila wants its first share, if it may have been removed."""
        if share_server and share_server["backend_details"]:
            server_id = answers.server_id(share_server)
            self._ensure_server(server_id, share_server["backend_details"])
            self._newcomers.known(server_id)

    def delete_share(self, context: Any, share: Any, share_server: Any = None) -> None:
        """Remove a share and its data."""
        with errors.translated(share["id"]):
            self._shares.delete(share["id"])

    def extend_share(self, share: Any, new_size: int, share_server: Any = None) -> None:
        """Let a share grow while it is in use.

        :param new_size: GiB.
        """
        with errors.translated(share["id"]):
            self._shares.extend(share["id"], new_size * answers.GIB)

    def shrink_share(self, share: Any, new_size: int, share_server: Any = None) -> None:
        """Cut a share down, unless data would be lost.

        :param new_size: GiB.
        """
        with errors.translated(share["id"]):
            try:
                self._shares.shrink(share["id"], new_size * answers.GIB)
            except exceptions.NotSupported as exc:
                # Manila tells the user, and the share is available as before.
                raise NotImplementedError(str(exc)) from exc

    def update_access(
        self,
        context: Any,
        share: Any,
        access_rules: Sequence[Any],
        add_rules: Sequence[Any],
        delete_rules: Sequence[Any],
        update_rules: Sequence[Any],
        share_server: Any = None,
    ) -> dict[str, dict[str, str]]:
        """Make the rules of a share exactly ``access_rules``.

        What changed is not looked at: the whole set is what can't go wrong. A user's password is
        returned as the rule's access key; a rule that the protocol can't obey goes to error alone.
        """
        accepted: dict[str, protocol.Rule] = {}
        answer: dict[str, dict[str, str]] = {}
        with errors.translated(share["id"]):
            speaking = protocols.get(share["share_proto"].upper(), security.users(share_server))
        for rule in access_rules:
            try:
                accepted[rule["access_id"]] = speaking.rule(
                    rule["access_type"], rule["access_to"], rule["access_level"]
                )
            except exceptions.ContainerStackError as exc:
                LOG.warning(
                    "Rule %(rule)s of share %(id)s is refused: %(why)s",
                    {"rule": rule["access_id"], "id": share["id"], "why": exc},
                )
                answer[rule["access_id"]] = {"state": constants.ACCESS_STATE_ERROR}
        with errors.translated(share["id"]), self._claimed(share, accepted.values()) as others:
            refused = dict.fromkeys(others, "another project has the user name")
            unknown = self._shares.unknown(share["id"], accepted.values())
            refused |= dict.fromkeys(unknown, "nobody has this name in the directory")
            for access_id in [key for key, rule in accepted.items() if rule.to in refused]:
                LOG.warning(
                    "Rule %(rule)s of share %(id)s is refused: %(why)s",
                    {"rule": access_id, "id": share["id"], "why": refused[accepted[access_id].to]},
                )
                answer[access_id] = {"state": constants.ACCESS_STATE_ERROR}
                del accepted[access_id]
            passwords = self._shares.set_rules(share["id"], accepted.values())
        for access_id, accepted_rule in accepted.items():
            answer[access_id] = {"state": constants.ACCESS_STATE_ACTIVE}
            if accepted_rule.to in passwords:
                answer[access_id]["access_key"] = passwords[accepted_rule.to]
        return answer

    def _claimed(
        self, share: Any, rules: Iterable[protocol.Rule]
    ) -> contextlib.AbstractContextManager[frozenset[str]]:
        if self._site is None:
            return contextlib.nullcontext(frozenset())
        return sites.Users(self._shares, self._settings).claimed(share, rules)

    # Capacity -----------------------------------------------------------------------------

    def _update_share_stats(self, data: dict[str, Any] | None = None) -> None:
        with errors.translated():
            capacity = self._shares.capacity()
            self._shares.keep()
        reserved = self.configuration.safe_get("reserved_share_percentage") or 0
        on_extend = self.configuration.safe_get("reserved_share_extend_percentage")
        from_snapshot = self.configuration.safe_get("reserved_share_from_snapshot_percentage")
        pool = {
            "pool_name": self.configuration.safe_get("share_backend_name")
            or self.configuration.config_group,
            "total_capacity_gb": capacity.total / answers.GIB,
            "free_capacity_gb": capacity.free / answers.GIB,
            "allocated_capacity_gb": capacity.provisioned / answers.GIB,
            "provisioned_capacity_gb": capacity.provisioned / answers.GIB,
            "reserved_percentage": reserved,
            "reserved_share_extend_percentage": on_extend or reserved,
            "reserved_snapshot_percentage": from_snapshot or reserved,
            "thin_provisioning": False,
            "qos": self.qos_type_support,
        }
        super()._update_share_stats(
            {
                "vendor_name": "container-stack",
                # Manila's own order: NFS_CIFS where both are served.
                "storage_protocol": "_".join(sorted(self._settings.protocols, reverse=True)),
                "network_allocation_update_support": True,
                "share_server_multiple_subnet_support": True,
                "snapshot_support": True,
                "create_share_from_snapshot_support": True,
                "revert_to_snapshot_support": True,
                # Its rules would name users of whom nobody knows whose they are.
                "mount_snapshot_support": self._site is None,
                "pools": [pool],
                **(data or {}),
            }
        )
