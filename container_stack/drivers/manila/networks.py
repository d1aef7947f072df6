# SPDX-License-Identifier: Apache-2.0
"""What Manila says of networks, as the spec of a share server."""

from collections.abc import Mapping, Sequence
from typing import Any

from container_stack.shares import model, security


def spec(
    network_info: Sequence[dict[str, Any]], users: security.SecurityService | None = None
) -> model.ServerSpec:
    """Return what ``_setup_server`` is asked for: an address on each subnet.

    :param users: the directory that its users are in; None for its own.
    """
    # Manila has no order of subnets; most clients have IPv4.
    first, *others = sorted(map(interface, network_info), key=lambda each: each.version)
    return model.ServerSpec(
        id=network_info[0]["server_id"],
        subnet=first.subnet,
        address=first.address,
        mac=first.mac,
        port_id=first.port_id,
        also=tuple(others),
        users=users,
    )


def interface(info: Mapping[str, Any]) -> model.Interface:
    """Return the address that Manila allocated on one subnet."""
    allocation = info["network_allocations"][0]
    return model.Interface(
        subnet(info["neutron_subnet_id"], allocation),
        address=allocation["ip_address"],
        mac=allocation["mac_address"] or None,
        port_id=allocation["id"] if info["neutron_subnet_id"] else None,
    )


def subnet(neutron_subnet_id: str | None, segment: Mapping[str, Any]) -> model.Subnet:
    """Return a subnet.

    :param segment: an allocation in it, or Manila's own subnet.
    """
    name = f"{segment['segmentation_id'] or 0}-{segment['cidr']}"
    return model.Subnet(
        # What everybody on a subnet of Manila's standalone plug-in calls it.
        id=neutron_subnet_id or name.translate(str.maketrans("/:", "_.")),
        cidr=segment["cidr"],
        gateway=segment["gateway"] or None,
        mtu=segment["mtu"] or None,
    )
