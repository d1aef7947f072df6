# SPDX-License-Identifier: Apache-2.0
"""Filters that keep a port from speaking for others, where no agent does.

On a Linux bridge a port may send from its own MAC address and IP addresses only, in ARP too; what
is neither ARP nor IP is dropped. Nothing is filtered on the way to the port: security groups need
an agent. Nor is an IPv6 neighbour kept from advertising, from his own address, that of another.

Each port has a chain of ebtables, named for the port and for what it admits. The jump from FORWARD
is its last step: with it a filter is whole.
"""

import contextlib
import hashlib
import ipaddress
import re
from collections.abc import Callable, Sequence

from container_stack import exceptions
from container_stack.host import locks
from container_stack.rootwrap import commands, executor

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

#: How often a change is tried that somebody else's may have disturbed.
TRIES = 3

_JUMP = re.compile(r"-i (\S+) -j (cs-\S+)")


class PortFilters:
    """Sets and removes filters. It keeps nothing: the kernel's chains are the state.

    :param object_locks: shared by all processes of this owner. With two of them at a time
        ebtables on nftables loses its way, and with somebody else's as well: then it is repeated.
    """

    def __init__(self, executor: executor.Executor, object_locks: locks.ObjectLocks) -> None:
        self._executor = executor
        self._locks = object_locks

    def confine(self, device: str, mac: str, addresses: Sequence[str]) -> None:
        """Let a port speak for these addresses only; a repeated call changes nothing.

        Set it before the port joins a bridge.

        :param device: its outer end, which need not be there yet.
        :param addresses: with prefix; of its IPv6 the address of the link is admitted, too.
        :raises CommandFailed: a step failed; repeat it, or :meth:`remove`.
        """
        mac, alone = mac.lower(), _alone(mac.lower(), addresses)
        self._patiently(lambda: self._confine(device, mac, alone))

    def remove(self, device: str) -> None:
        """Remove a port's filter; idempotent. Unplug the port before."""
        self._patiently(lambda: self._remove(device, self._chains(device)))

    def _patiently(self, action: Callable[[], None]) -> None:
        with self._locks.hold("port-filters"):
            for _ in range(TRIES - 1):
                with contextlib.suppress(exceptions.CommandFailed):
                    action()
                    return
            action()

    def _confine(self, device: str, mac: str, alone: Sequence[Address]) -> None:
        digest = hashlib.sha256(" ".join([mac, *map(str, alone)]).encode()).hexdigest()[:8]
        chain = f"cs-{device}-{digest}"
        found = self._chains(device)
        if "FORWARD" in found.get(chain, ()) and len(found) == 1:
            return
        self._remove(device, found)
        run = self._executor.run
        run(commands.ports.FILTER_NEW, chain=chain)
        run(commands.ports.FILTER_MAC, chain=chain, mac=mac)
        for address in alone:
            if address.version == 6:
                run(commands.ports.FILTER_IP6, chain=chain, address=str(address))
            else:
                run(commands.ports.FILTER_IP4, chain=chain, address=str(address))
                run(commands.ports.FILTER_ARP, chain=chain, mac=mac, address=str(address))
        run(commands.ports.FILTER_INPUT, host=device, chain=chain)
        run(commands.ports.FILTER_FORWARD, host=device, chain=chain)

    def _remove(self, device: str, chains: dict[str, set[str]]) -> None:
        run = self._executor.run
        for chain, jumps in chains.items():
            if "FORWARD" in jumps:
                run(commands.ports.FILTER_NO_FORWARD, host=device, chain=chain)
            if "INPUT" in jumps:
                run(commands.ports.FILTER_NO_INPUT, host=device, chain=chain)
            run(commands.ports.FILTER_EMPTY, chain=chain)
            run(commands.ports.FILTER_REMOVE, chain=chain)

    def _chains(self, device: str) -> dict[str, set[str]]:
        """Return a port's chains, each with those that jump to it."""
        chains: dict[str, set[str]] = {}
        jumps, within = [], ""
        for line in self._executor.run(commands.ports.FILTER_LIST).splitlines():
            if line.startswith("Bridge chain: "):
                within = line.removeprefix("Bridge chain: ").partition(",")[0]
                if within.startswith(f"cs-{device}-"):
                    chains[within] = set()
            elif found := _JUMP.match(line):
                jumps.append((within, found[2]))
        for source, chain in jumps:
            if chain in chains:
                chains[chain].add(source)
        return chains


def admit_bridges(executor: executor.Executor) -> None:
    """Let packets cross the bridges of networks past Docker's firewall; idempotent.

    The rule goes to the head of chain DOCKER-USER, where an engine has made that.
    """
    families = (
        (commands.ports.ADMIT_LIST4, commands.ports.ADMIT_INSERT4),
        (commands.ports.ADMIT_LIST6, commands.ports.ADMIT_INSERT6),
    )
    for listing, insert in families:
        try:
            rules = executor.run(listing)
        except exceptions.CommandFailed:
            continue  # no such chain: nothing of Docker's drops them
        if "-i csb+ -o csb+" not in rules:
            executor.run(insert)


def _alone(mac: str, addresses: Sequence[str]) -> list[Address]:
    alone: list[Address] = [ipaddress.ip_interface(text).ip for text in addresses]
    if any(each.version == 6 for each in alone):
        alone.append(_of_link(mac))
    return alone


def _of_link(mac: str) -> ipaddress.IPv6Address:
    """Return the address that the kernel gives an interface by itself (RFC 4291, appendix A)."""
    octets = bytes.fromhex(mac.replace(":", ""))
    name = bytes([octets[0] ^ 2]) + octets[1:3] + b"\xff\xfe" + octets[3:]
    return ipaddress.IPv6Address(b"\xfe\x80" + bytes(6) + name)
