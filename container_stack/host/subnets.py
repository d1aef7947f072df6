# SPDX-License-Identifier: Apache-2.0
"""Subnets: whether they are ones, overlap, or are this host's own."""

import ipaddress
import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from container_stack import exceptions

Net = ipaddress.IPv4Network | ipaddress.IPv6Network


def parse(cidr: str) -> Net:
    """Return a subnet, given as 192.0.2.0/24 or 2001:db8::/64.

    :raises InvalidRequest: it is none, or names a host in it.
    """
    try:
        return ipaddress.ip_network(cidr)
    except ValueError as exc:
        raise exceptions.InvalidRequest(f"{cidr!r} is no subnet: {exc}.") from exc


def overlap(some: Iterable[Net], others: Iterable[Net]) -> bool:
    """Tell whether one of the first has an address with one of the others."""
    pairs = itertools.product(some, others)
    return any(one.version == other.version and one.overlaps(other) for one, other in pairs)


def of_host() -> Iterator[tuple[str, Net]]:
    """Yield interface and subnet of every route that needs no router.

    Source: proc_net(5) for IPv4; net/ipv6/route.c, rt6_info_route(), for IPv6.
    """
    for line in _lines("/proc/net/route"):
        interface, destination, router, *_, mask = line.split()[:8]
        if not int(router, 16) and int(mask, 16):
            address = ipaddress.IPv4Address(int(destination, 16).to_bytes(4, "little"))
            yield interface, ipaddress.IPv4Network((address, int(mask, 16).bit_count()))
    for line in _lines("/proc/net/ipv6_route"):
        destination, prefix, _, _, router, *_, interface = line.split()
        net = ipaddress.IPv6Network((bytes.fromhex(destination), int(prefix, 16)))
        if not int(router, 16) and net.prefixlen and not (net.is_link_local or net.is_multicast):
            yield interface, net


def _lines(path: str) -> Sequence[str]:
    try:
        lines = Path(path).read_text(encoding="ascii").splitlines()
    except FileNotFoundError:
        return ()
    return lines[1:] if lines and lines[0].startswith("Iface") else lines
