# SPDX-License-Identifier: Apache-2.0
"""The nodes of a deployment, by the operator's inventory or by a ring."""

from collections.abc import Sequence

from container_stack import exceptions
from container_stack.drivers import storlet_workbench
from container_stack.storlets import gateway, inventory, nodes, settings


def all_of(values: settings.Settings, node_gateway: gateway.Gateway) -> Sequence[nodes.Node]:
    """Return the nodes, in their order.

    :raises InvalidRequest: the inventory, or the ring, can't be used.
    :raises HostNotReady: Swift itself, which reads rings, isn't installed here.
    """
    listed = _ring(values) if values.ring else inventory.Inventory.read(values.inventory)
    user = storlet_workbench.node_user(values) if values.sandbox_user else None
    return listed.to_nodes(
        node_gateway, base=values.base_image, user=user, timeout=values.node_timeout
    )


def _ring(values: settings.Settings) -> inventory.Inventory:
    try:
        from container_stack.drivers import rings
    except ImportError as exc:
        raise exceptions.HostNotReady(
            f"{values.ring} is read by Swift's own code: install swift, or list the nodes in an "
            "inventory."
        ) from exc
    return rings.read(values.ring or "", values.ring_url)
