# SPDX-License-Identifier: Apache-2.0
"""NFS: the language of Ganesha, its access rules and export locations.

In the container one program answers, ``nfs-server``. It checks again all that it is told. NFS is
spoken in version 4 only: over one port, without a portmapper.
"""

import ipaddress
import math
from collections.abc import Iterable, Mapping

from container_stack import exceptions
from container_stack.shares import names, protocol

NFS_SERVER = "/usr/libexec/nfs-server"

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Rule(protocol.Rule):
    """From where a share may be used, and whether for writing. Users are the clients' affair.

    Where networks overlap, the smallest that holds a client counts.

    :param kind: ``ip``.
    :param to: an IPv4 or IPv6 address or network.
    """

    __slots__ = ()

    def __post_init__(self) -> None:
        protocol.Rule.__post_init__(self)
        if self.kind != "ip":
            raise exceptions.NotSupported(
                f"An NFS share has no access rules of type {self.kind!r}; use ip."
            )
        network(self.to)


def network(text: str) -> _Network:
    """Return the network that a rule names.

    :raises InvalidRequest: it is none, or says IPv4 as IPv6.
    :raises NotSupported: Ganesha would take it for none: an IPv6 network of /100 to /127.
    """
    found = names.network(text)
    if isinstance(found, ipaddress.IPv6Network) and found.network_address.ipv4_mapped:
        raise exceptions.InvalidRequest(f"{text!r} is IPv4 in IPv6's clothes; write it as IPv4.")
    if 99 < found.prefixlen < 128:
        raise exceptions.NotSupported(
            f"Ganesha can't tell {text} from other networks: name addresses one by one, or a "
            "network of at most /99."
        )
    return found


def document(rules: Iterable[protocol.Rule]) -> str:
    """Return the rules as ``nfs-server`` reads them, the smallest networks first.

    :raises InvalidRequest: a network has two rules that differ.
    """
    levels: dict[_Network, str] = {}
    for rule in rules:
        if levels.setdefault(network(rule.to), rule.level) != rule.level:
            raise exceptions.InvalidRequest(f"The rules for {rule.to} contradict each other.")
    ordered = sorted(levels, key=lambda each: (-each.prefixlen, str(each)))
    return "".join(f"{levels[each]} {each}\n" for each in ordered) + "end\n"


class Ganesha(protocol.Protocol):
    """The Ganesha of one running share server. Every method is one run of ``nfs-server``."""

    name = "NFS"
    summary = "By Ganesha at TCP port 2049, version 4, for addresses; where the operator names it."
    rule = Rule

    @staticmethod
    def export_location(address: str, share: str) -> str:
        ip = ipaddress.ip_address(address)
        return f"{ip}:/{share}" if ip.version == 4 else f"[{ip}]:/{share}"

    def wait_ready(self, timeout: float) -> None:
        seconds = math.ceil(timeout)
        self._run(NFS_SERVER, "ready", str(seconds), timeout=seconds + 10.0)

    def set_share(
        self,
        name: str,
        rules: Iterable[protocol.Rule],
        keys: Mapping[str, str] = protocol.NO_KEYS,
    ) -> Mapping[str, str]:
        """Serve a share to exactly these networks.

        The next request of a client meets the new rules, whatever it has open.
        """
        wanted = document(rules)
        self._run(NFS_SERVER, "set", names.check_share(name), stdin=wanted.encode())
        return {}

    def restore_share(self, name: str) -> None:
        self._run(NFS_SERVER, "restore", names.check_share(name))

    def suspend(self, name: str) -> None:
        self._run(NFS_SERVER, "suspend", names.check_share(name))

    def remove_share(self, name: str) -> None:
        self._run(NFS_SERVER, "remove", names.check_share(name))

    def shares(self) -> Mapping[str, frozenset[protocol.Rule]]:
        found: dict[str, set[protocol.Rule]] = {}
        for line in self._run(NFS_SERVER, "list").splitlines():
            level, share, to = line.split()
            address, _, prefix = to.partition("/")
            alone = int(prefix) == ipaddress.ip_address(address).max_prefixlen
            found.setdefault(share, set()).add(Rule("ip", address if alone else to, level))
        return {share: frozenset(rules) for share, rules in found.items()}
