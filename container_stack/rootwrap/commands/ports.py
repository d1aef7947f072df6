# SPDX-License-Identifier: Apache-2.0
"""Interfaces of servers, whose outer ends have the names that Neutron's agents look for."""

import re

from container_stack.rootwrap.commands import networks
from container_stack.rootwrap.commands.kinds import KINDS
from container_stack.rootwrap.commands.template import Command

# What is done within the container is the same as on other networks.
_TAPS = {
    command.name: command.variant("host", "tap")
    for command in (
        networks.PLUG_ADD,
        networks.PLUG_DELETE,
        networks.PLUG_BRIDGE,
        networks.PLUG_READY,
    )
}
PLUG_DISABLE6 = Command(
    "plug_disable6",
    "nsenter --net={sandbox:sandbox} /sbin/sysctl -q -w"
    " net.ipv6.conf.{inside:inside}.disable_ipv6=1",
)
# With several interfaces the default route of the first counts, as long as it is there.
PLUG_WAY = Command(
    "plug_way",
    "nsenter --net={sandbox:sandbox} /sbin/ip route replace {destination:destination}"
    " via {gateway:gateway} dev {inside:inside} onlink metric {metric:size}",
)
PLUG_LINK_WAY = Command(
    "plug_link_way",
    "nsenter --net={sandbox:sandbox} /sbin/ip route replace {destination:destination}"
    " dev {inside:inside} metric {metric:size}",
)
PORT_OVS = Command(
    "port_ovs",
    "ovs-vsctl --timeout=10 --may-exist add-port {bridge:bridge} {host:switched}"
    " -- set Interface {host:switched} external_ids:iface-id={port:id}"
    " external_ids:attached-mac={mac:mac} external_ids:iface-status=active"
    " external_ids:vm-uuid={server:id}",
)
UNPLUG_PORT_OVS = Command(
    "unplug_port_ovs", "ovs-vsctl --timeout=10 --if-exists del-port {host:switched}"
)
BRIDGE_ADD = Command(
    "bridge_add",
    "ip link add name {bridge:made_bridge} type bridge forward_delay 0 stp_state 0"
    " mcast_snooping 0",
    idempotent=False,
)
# An agent may filter what it has on either side of a port's bridge: this learns no addresses.
BRIDGE_ADD_PORT = Command(
    "bridge_add_port",
    "ip link add name {bridge:port_bridge} type bridge forward_delay 0 stp_state 0"
    " mcast_snooping 0 ageing_time 0",
    idempotent=False,
)
# The host is nobody's neighbour there: it answers for none of its addresses that aren't the
# link's, takes no advertised routes, and hears nobody whom it wouldn't answer that way.
SILENCE = Command(
    "silence",
    "sysctl -q -w net.ipv6.conf.{link:silent}.disable_ipv6=1"
    " net.ipv4.conf.{link:silent}.arp_ignore=1 net.ipv4.conf.{link:silent}.rp_filter=1",
)
BRIDGE_UP = Command("bridge_up", "ip link set dev {bridge:made_bridge} up")
BRIDGE_DELETE = Command(
    "bridge_delete", "ip link delete dev {bridge:made_bridge}", idempotent=False
)
HYBRID_ADD = Command(
    "hybrid_add",
    "ip link add {inner:port_inner} mtu {mtu:size} type veth peer name {outer:port_outer}"
    " mtu {mtu:size}",
    idempotent=False,
)
HYBRID_JOIN = Command(
    "hybrid_join", "ip link set dev {inner:port_inner} master {bridge:port_bridge} up"
)
HYBRID_UP = Command("hybrid_up", "ip link set dev {outer:port_outer} up")
HYBRID_DELETE = Command("hybrid_delete", "ip link delete dev {inner:port_inner}", idempotent=False)

# A switch in user space sees what the kernel has left to the hardware: half a checksum.
OVS_DATAPATH = Command(
    "ovs_datapath", "ovs-vsctl --timeout=10 get Bridge {bridge:bridge} datapath_type"
)
PLUG_CHECKSUM = Command(
    "plug_checksum", "nsenter --net={sandbox:sandbox} /sbin/ethtool -K {inside:inside} tx off"
)
# A port that nobody filters says only what it is: a chain for each admits its addresses.
_EBTABLES = "ebtables --concurrent"
FILTER_LIST = Command("filter_list", f"{_EBTABLES} -L")
FILTER_NEW = Command("filter_new", f"{_EBTABLES} -N {{chain:tap_chain}} -P DROP", idempotent=False)
FILTER_MAC = Command("filter_mac", f"{_EBTABLES} -A {{chain:tap_chain}} -s ! {{mac:mac}} -j DROP")
FILTER_ARP = Command(
    "filter_arp",
    f"{_EBTABLES} -A {{chain:tap_chain}} -p ARP --arp-mac-src {{mac:mac}}"
    " --arp-ip-src {address:alone4} -j ACCEPT",
)
FILTER_IP4 = Command(
    "filter_ip4",
    f"{_EBTABLES} -A {{chain:tap_chain}} -p IPv4 --ip-src {{address:alone4}} -j ACCEPT",
)
FILTER_IP6 = Command(
    "filter_ip6",
    f"{_EBTABLES} -A {{chain:tap_chain}} -p IPv6 --ip6-src {{address:alone6}} -j ACCEPT",
)
FILTER_INPUT = Command(
    "filter_input", f"{_EBTABLES} -I INPUT -i {{host:tap}} -j {{chain:tap_chain}}"
)
FILTER_FORWARD = Command(
    "filter_forward", f"{_EBTABLES} -I FORWARD -i {{host:tap}} -j {{chain:tap_chain}}"
)
FILTER_NO_INPUT = Command(
    "filter_no_input",
    f"{_EBTABLES} -D INPUT -i {{host:tap}} -j {{chain:tap_chain}}",
    idempotent=False,
)
FILTER_NO_FORWARD = Command(
    "filter_no_forward",
    f"{_EBTABLES} -D FORWARD -i {{host:tap}} -j {{chain:tap_chain}}",
    idempotent=False,
)
FILTER_EMPTY = Command("filter_empty", f"{_EBTABLES} -F {{chain:tap_chain}}")
FILTER_REMOVE = Command("filter_remove", f"{_EBTABLES} -X {{chain:tap_chain}}", idempotent=False)
# Docker drops what its own networks don't know, on bridges too where the kernel shows it those.
_ADMIT = "DOCKER-USER -i csb+ -o csb+ -m physdev --physdev-is-bridged -j ACCEPT"
ADMIT_LIST4 = Command("admit_list4", "iptables --wait --list-rules DOCKER-USER")
ADMIT_LIST6 = Command("admit_list6", "ip6tables --wait --list-rules DOCKER-USER")
ADMIT_INSERT4 = Command("admit_insert4", f"iptables --wait --insert {_ADMIT}", idempotent=False)
ADMIT_INSERT6 = Command("admit_insert6", f"ip6tables --wait --insert {_ADMIT}", idempotent=False)

ALL = (
    *_TAPS.values(),
    networks.PLUG_UP,
    networks.PLUG_ADDRESS4,
    networks.PLUG_ADDRESS6,
    networks.PLUG_ENABLE6,
    PLUG_DISABLE6,
    PLUG_WAY,
    PLUG_LINK_WAY,
    PORT_OVS,
    UNPLUG_PORT_OVS,
    BRIDGE_ADD,
    BRIDGE_ADD_PORT,
    SILENCE,
    BRIDGE_UP,
    BRIDGE_DELETE,
    HYBRID_ADD,
    HYBRID_JOIN,
    HYBRID_UP,
    HYBRID_DELETE,
    OVS_DATAPATH,
    PLUG_CHECKSUM,
    FILTER_LIST,
    FILTER_NEW,
    FILTER_MAC,
    FILTER_ARP,
    FILTER_IP4,
    FILTER_IP6,
    FILTER_INPUT,
    FILTER_FORWARD,
    FILTER_NO_INPUT,
    FILTER_NO_FORWARD,
    FILTER_EMPTY,
    FILTER_REMOVE,
    ADMIT_LIST4,
    ADMIT_LIST6,
    ADMIT_INSERT4,
    ADMIT_INSERT6,
)


def outer(device: str, command: Command) -> Command:
    """Return the command that does to this outer end what the given one does to those of ours."""
    return _TAPS[command.name] if re.fullmatch(KINDS["tap"], device) else command
