# SPDX-License-Identifier: Apache-2.0
"""The nodes of a deployment, by the operator's inventory, and the registry that they pull from."""

from collections.abc import Sequence

import yaml

from container_stack import exceptions
from container_stack.drivers import storlet_workbench
from container_stack.host import containers
from container_stack.storlets import engine_node, gateway, nodes, settings


def all_of(values: settings.Settings, node_gateway: gateway.Gateway) -> Sequence[nodes.Node]:
    """Return the nodes, in their order.

    :raises InvalidRequest: the inventory can't be used.
    """
    try:
        with open(values.inventory, encoding="utf-8") as file:
            listed = [
                (str(each["name"]), str(each["url"])) for each in yaml.safe_load(file)["nodes"]
            ]
    except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError) as exc:
        raise exceptions.InvalidRequest(f"{values.inventory} lists no nodes: {exc}") from exc
    user = storlet_workbench.node_user(values) if values.sandbox_user else None
    return [
        engine_node.EngineNode(
            name,
            containers.Engine(url, timeout=values.node_timeout),
            node_gateway,
            base=values.base_image,
            user=user,
        )
        for name, url in listed
    ]
