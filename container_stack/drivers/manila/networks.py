# SPDX-License-Identifier: Apache-2.0
"""What Manila says of networks, as the spec of a share server."""

from collections.abc import Sequence
from typing import Any

from container_stack import exceptions
from container_stack.shares import model


def spec(network_info: Sequence[dict[str, Any]]) -> model.ServerSpec:
    """Return what ``_setup_server`` is asked for.

    :raises NotSupported: it asks for what isn't served.
    """
    if len(network_info) != 1:
        raise exceptions.NotSupported("A share server can live in one subnet only.")
    info = network_info[0]
    if info["security_services"]:
        raise exceptions.NotSupported(
            "Security services are not served yet; use a share network without any."
        )
    allocation = info["network_allocations"][0]
    subnet = model.Subnet(
        id=info["neutron_subnet_id"] or _subnet_name(info["segmentation_id"], allocation["cidr"]),
        cidr=allocation["cidr"],
        gateway=allocation["gateway"] or None,
        mtu=allocation["mtu"] or None,
    )
    return model.ServerSpec(
        id=info["server_id"],
        subnet=subnet,
        address=allocation["ip_address"],
        mac=allocation["mac_address"] or None,
        port_id=allocation["id"] if info["neutron_subnet_id"] else None,
    )


def _subnet_name(segmentation_id: int | None, cidr: str) -> str:
    """Return what everybody on a subnet of Manila's standalone plug-in calls it."""
    return f"{segmentation_id or 0}-{cidr}".translate(str.maketrans("/:", "_."))
