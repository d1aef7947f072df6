# SPDX-License-Identifier: Apache-2.0
"""The nodes of a deployment, by the operator's inventory or by a ring."""

import time
from collections.abc import Iterator, Sequence

from container_stack import exceptions
from container_stack.drivers import storlet_workbench
from container_stack.storlets import gateway, nodes, settings
from container_stack.storlets.deployment import parallel
from container_stack.storlets.node import inventory


def all_of(values: settings.Settings, node_gateway: gateway.Gateway) -> Sequence[nodes.Node]:
    """Return the nodes, in their order.

    :raises InvalidRequest: the inventory, or the ring, can't be used.
    :raises HostNotReady: Swift itself, which reads rings, isn't installed here.
    """
    user = storlet_workbench.node_user(values) if values.sandbox_user else None
    return entries(values).to_nodes(
        node_gateway, base=values.base_image, user=user, timeout=values.node_timeout
    )


def entries(values: settings.Settings) -> inventory.Inventory:
    """Return what is known of the nodes without asking them; errors as of :func:`all_of`."""
    return _ring(values) if values.ring else inventory.Inventory.read(values.inventory)


def check(members: Sequence[nodes.Node], width: int) -> Iterator[tuple[str, str, float]]:
    """Yield each node's name, what stands against deployments there, and the seconds it took.

    :param width: nodes that are asked at once.
    """

    def ask(node: nodes.Node) -> tuple[str, float]:
        begun = time.monotonic()
        try:
            node.check()
        except exceptions.ContainerStackError as exc:
            return str(exc), time.monotonic() - begun
        return "", time.monotonic() - begun

    for done in parallel.each(members, ask, width):
        if done.value is None:
            raise done.error or AssertionError
        yield done.item.name, *done.value


def _ring(values: settings.Settings) -> inventory.Inventory:
    try:
        from container_stack.drivers import rings
    except ImportError as exc:
        raise exceptions.HostNotReady(
            f"{values.ring} is read by Swift's own code: install swift, or list the nodes in an "
            "inventory."
        ) from exc
    return rings.read(values.ring or "", values.ring_url)
