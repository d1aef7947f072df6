# SPDX-License-Identifier: Apache-2.0
"""Further subnets for share servers that have been made already."""

from collections.abc import Mapping, Sequence
from typing import Any

from oslo_log import log

from container_stack import exceptions
from container_stack.drivers.manila import answers, errors, networks
from container_stack.shares import model, service

LOG = log.getLogger(__name__)


class Subnets:
    """What Manila calls when a subnet is added to a share network with servers."""

    _shares: service.ShareService

    def check_update_share_server_network_allocations(
        self,
        context: Any,
        share_server: Any,
        current_network_allocations: Mapping[str, Any],
        new_share_network_subnet: Mapping[str, Any],
        security_services: Any,
        share_instances: Sequence[Any],
        share_instances_rules: Sequence[Any],
    ) -> bool:
        """Tell whether a server can have an address in this subnet, too."""
        asked = new_share_network_subnet
        try:
            new = networks.subnet(asked["neutron_subnet_id"], asked)
            server = self._shares.servers.running(answers.server_id(share_server))
            _require_apart(server.spec, new)
        except exceptions.ContainerStackError as exc:
            LOG.warning(
                "Share server %(id)s can't join subnet %(cidr)s: %(why)s",
                {"id": share_server["id"], "cidr": asked["cidr"], "why": exc},
            )
            return False
        return True

    def update_share_server_network_allocations(
        self,
        context: Any,
        share_server: Any,
        current_network_allocations: Mapping[str, Any],
        new_network_allocations: Mapping[str, Any],
        security_services: Any,
        shares: Sequence[Any],
        snapshots: Sequence[Any],
    ) -> dict[str, Any]:
        """Give a server one more address, while its clients go on working."""
        with errors.translated():
            wanted = networks.interface(new_network_allocations)
            server = self._shares.servers.join(answers.server_id(share_server), wanted)
            found = [self._shares.get(share["id"]) for share in shares]
        return {
            "share_updates": {each.id: answers.locations(each) for each in found},
            "server_details": answers.server_details(server),
        }


def _require_apart(spec: model.ServerSpec, new: model.Subnet) -> None:
    for each in spec.interfaces:
        if each.subnet.id == new.id or model.overlap(each.subnet.cidr, new.cidr):
            raise exceptions.InvalidRequest(f"it lives in {each.subnet.cidr}, which overlaps.")
