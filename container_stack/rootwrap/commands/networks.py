# SPDX-License-Identifier: Apache-2.0
"""Interfaces of containers in networks of their own."""

from container_stack.rootwrap.commands.template import Command

_GUARD = "-o csn+ -m physdev ! --physdev-is-bridged -m conntrack --ctstate NEW -j DROP"

# nsenter enters the namespaces of Docker's containers only (see the kind), to run one fixed
# command each: a process id could be that of any process, the host's own namespace included.
# The inner programs are absolute: nsenter would look them up in PATH.
PLUG_ADD = Command(
    "plug_add",
    "ip link add {host:plug} mtu {mtu:size} type veth"
    " peer name {inside:inside} address {mac:mac} mtu {mtu:size} netns {sandbox:sandbox}",
    idempotent=False,
)
PLUG_DELETE = Command("plug_delete", "ip link delete dev {host:plug}", idempotent=False)
PLUG_UP = Command(
    "plug_up", "nsenter --net={sandbox:sandbox} /sbin/ip link set dev {inside:inside} up"
)
PLUG_ADDRESS4 = Command(
    "plug_address4",
    "nsenter --net={sandbox:sandbox} /sbin/ip address replace {address:address4}"
    " dev {inside:inside}",
)
# Docker turns IPv6 off in containers of networks without it. Duplicate address detection would
# hold the address back for a second; whoever gave the address answers for it.
PLUG_ENABLE6 = Command(
    "plug_enable6",
    "nsenter --net={sandbox:sandbox} /sbin/sysctl -q -w"
    " net.ipv6.conf.{inside:inside}.disable_ipv6=0 net.ipv6.conf.{inside:inside}.accept_ra=0",
)
PLUG_ADDRESS6 = Command(
    "plug_address6",
    "nsenter --net={sandbox:sandbox} /sbin/ip address replace {address:address6}"
    " dev {inside:inside} nodad",
)
PLUG_ROUTE = Command(
    "plug_route",
    "nsenter --net={sandbox:sandbox} /sbin/ip route replace default via {gateway:gateway}"
    " dev {inside:inside} onlink",
)
PLUG_BRIDGE = Command(
    "plug_bridge", "ip link set dev {host:plug} master {bridge:bridge} alias {mark:digest} up"
)
PLUG_READY = Command("plug_ready", "ip link set dev {host:plug} alias {mark:digest} up")
PLUG_OVS = Command(
    "plug_ovs",
    "ovs-vsctl --timeout=10 --may-exist add-port {bridge:bridge} {host:plug}"
    " -- set Interface {host:plug} external_ids:iface-id={port:port}"
    " external_ids:attached-mac={mac:mac} external_ids:iface-status=active",
)
UNPLUG_OVS = Command("unplug_ovs", "ovs-vsctl --timeout=10 --if-exists del-port {host:plug}")

# Engines before 27 filter no IPv6 unless told to: between the tenants' networks, and from outside,
# it would be routed freely. The bridges of our networks begin with "csn"; answers, and what stays
# within one bridge, pass. An operator who wants to admit somebody puts his rule above.
GUARD_CHECK = Command("guard_check", f"ip6tables --wait --check FORWARD {_GUARD}")
GUARD_INSERT = Command(
    "guard_insert", f"ip6tables --wait --insert FORWARD {_GUARD}", idempotent=False
)

ALL = (
    GUARD_CHECK,
    GUARD_INSERT,
    PLUG_ADD,
    PLUG_DELETE,
    PLUG_UP,
    PLUG_ADDRESS4,
    PLUG_ENABLE6,
    PLUG_ADDRESS6,
    PLUG_ROUTE,
    PLUG_BRIDGE,
    PLUG_READY,
    PLUG_OVS,
    UNPLUG_OVS,
)
