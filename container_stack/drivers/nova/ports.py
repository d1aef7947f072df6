# SPDX-License-Identifier: Apache-2.0
"""Nova's interfaces (VIFs) as ports of servers."""

import ipaddress
from collections.abc import Sequence
from typing import Any

from nova.network import model as network_model

from container_stack import exceptions
from container_stack.servers import model

#: How Neutron bound a port, where that is all it takes to know; "ovs" has two ways.
BINDINGS = {
    # Nova 34 refuses it before us; it is for who still has such a port.
    "bridge": model.Binding.BRIDGE,
    network_model.VIF_TYPE_TAP: model.Binding.TAP,
    network_model.VIF_TYPE_UNBOUND: model.Binding.UNBOUND,
    "noop": model.Binding.NOOP,
}
#: Open vSwitch's integration bridge, where Neutron names none.
INTEGRATION_BRIDGE = "br-int"


def ports(network_info: Any) -> tuple[model.Port, ...]:
    """Return the ports of a server, in Nova's order.

    :raises NotSupported: one is bound in a way that a container can't have.
    """
    return tuple(port(vif) for vif in network_info or ())


def port(vif: Any) -> model.Port:
    """Return one port.

    :raises NotSupported: see :func:`ports`.
    """
    network = vif["network"]
    subnets = network["subnets"]
    binding = _binding(vif)
    return model.Port(
        id=vif["id"],
        network=str(network["id"]),
        binding=binding,
        mac=vif["address"],
        bridge=_bridge(vif, binding),
        addresses=tuple(_addresses(subnets)),
        gateways=tuple(_gateways(subnets)),
        routes=tuple(_routes(subnets)),
        mtu=network.get_meta("mtu"),
        dns=_name_servers(subnets),
        device=vif["devname"] or "",
        filtered=bool(vif["details"].get(network_model.VIF_DETAILS_PORT_FILTER)),
    )


def _binding(vif: Any) -> model.Binding:
    kind = vif["type"]
    if kind == network_model.VIF_TYPE_OVS:
        return model.Binding.OVS_HYBRID if vif.is_hybrid_plug_enabled() else model.Binding.OVS
    if kind not in BINDINGS:
        raise exceptions.NotSupported(
            f"Port {vif['id']} is bound as {kind!r}; a container can have "
            f"{', '.join(sorted([*BINDINGS, network_model.VIF_TYPE_OVS]))}."
        )
    return BINDINGS[kind]


def _bridge(vif: Any, binding: model.Binding) -> str:
    if binding is model.Binding.BRIDGE:
        return str(vif["network"]["bridge"] or "")
    if binding in (model.Binding.OVS, model.Binding.OVS_HYBRID):
        named = vif["details"].get(network_model.VIF_DETAILS_BRIDGE_NAME)
        return str(named or vif["network"]["bridge"] or INTEGRATION_BRIDGE)
    return ""


def _addresses(subnets: Sequence[Any]) -> Sequence[str]:
    return [
        f"{ip['address']}/{ipaddress.ip_network(subnet['cidr'], strict=False).prefixlen}"
        for subnet in subnets
        for ip in subnet["ips"]
    ]


def _gateways(subnets: Sequence[Any]) -> Sequence[str]:
    """Return the first gateway of each family, as there is one default route."""
    first: dict[int, str] = {}
    for subnet in subnets:
        gateway = (subnet["gateway"] or {}).get("address")
        if gateway and subnet["ips"]:
            first.setdefault(ipaddress.ip_address(gateway).version, gateway)
    return list(first.values())


def _routes(subnets: Sequence[Any]) -> Sequence[model.Route]:
    return [
        model.Route(str(route["cidr"]), str(route["gateway"]["address"]))
        for subnet in subnets
        for route in subnet["routes"]
        if route["gateway"] and subnet["ips"]
    ]


def _name_servers(subnets: Sequence[Any]) -> tuple[str, ...]:
    found = (str(dns["address"]) for subnet in subnets for dns in subnet["dns"])
    return tuple(dict.fromkeys(found))
