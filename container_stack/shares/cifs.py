# SPDX-License-Identifier: Apache-2.0
"""CIFS: the language of Samba, its access rules and export locations.

In the container one program answers, ``share-server``. It checks again all that it is told.
"""

import dataclasses
import ipaddress
import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from container_stack import exceptions
from container_stack.shares import names, protocol

SHARE_SERVER = "/usr/libexec/share-server"
#: Accounts and groups of the image's own, and the group that Samba puts everybody in.
RESERVED_USERS = frozenset({"root", "nobody", "none", "share"})

_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
_KEY = re.compile(r"key (?P<user>\S+) (?P<key>[0-9a-f]{40})")

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclasses.dataclass(frozen=True, slots=True)
class Rule(protocol.Rule):
    """Who may use a share, or from where.

    User rules say WHO and ip rules say FROM WHERE: with both, a user needs both. A share without
    user rules admits nobody, wherever they are.

    :param kind: ``user`` or ``ip``.
    :param to: a user's name as POSIX has it in lower case, or an IP address or network.
    :param level: ``rw``, or ``ro`` for a user who may only read.
    :raises InvalidRequest: the name, the network or the level is none.
    :raises NotSupported: SMB has no rule of this kind, or not with this level.
    """

    def __post_init__(self) -> None:
        protocol.Rule.__post_init__(self)
        if self.kind == "user":
            self._check_user()
        elif self.kind == "ip":
            names.network(self.to)
            if self.level == "ro":
                raise exceptions.NotSupported(
                    "An ip rule says from where users connect and can't be ro; "
                    "make the users' rules ro."
                )
        else:
            raise exceptions.NotSupported(
                f"A CIFS share has no access rules of type {self.kind!r}; use user or ip."
            )

    def _check_user(self) -> None:
        if not _USER.fullmatch(self.to):
            raise exceptions.InvalidRequest(
                f"{self.to!r} can't be a user: use 1 to 32 of a-z, 0-9, '_' and '-', "
                "and a letter or '_' first."
            )
        if self.to in RESERVED_USERS:
            raise exceptions.InvalidRequest(
                f"{self.to} is the server's own; use another user name."
            )


def _to_samba(network: _Network) -> str:
    """Samba takes "/128" for an address and then admits all of IPv6; it understands a mask."""
    return network.with_netmask if network.prefixlen > 99 else str(network)


def _from_samba(text: str) -> str:
    address, _, mask = text.partition("/")
    if ":" not in mask:
        return text
    return f"{address}/{int(ipaddress.IPv6Address(mask)).bit_count()}"


def sorted_rules(rules: Iterable[protocol.Rule]) -> tuple[dict[str, str], list[str]]:
    """Return the level of each user, and the networks as Samba understands them.

    :raises InvalidRequest: a user has two rules that differ.
    """
    levels: dict[str, str] = {}
    networks: set[str] = set()
    for rule in rules:
        if rule.kind == "ip":
            networks.add(_to_samba(names.network(rule.to)))
        elif levels.setdefault(rule.to, rule.level) != rule.level:
            raise exceptions.InvalidRequest(f"The rules for user {rule.to} contradict each other.")
    return levels, sorted(networks)


def section(share: str, rules: Iterable[protocol.Rule]) -> str:
    """Return the share's section for Samba, or "" when nobody is to get in.

    An empty list of valid users admits everybody, so there is no section with one.

    :raises InvalidRequest: the share can't have this name, or a user has two rules.
    """
    names.check_share(share)
    levels, networks = sorted_rules(rules)
    if not levels:
        return ""
    lists = {
        "valid users": sorted(levels),
        "read list": sorted(user for user, level in levels.items() if level == "ro"),
        "hosts allow": networks,
    }
    fixed = f"path = /shares/{share}/{protocol.DATA}\nread only = no\n"
    return fixed + "".join(f"{key} = {' '.join(each)}\n" for key, each in lists.items() if each)


def export_location(address: str, share: str) -> str:
    r"""Return what a client connects to: ``\\192.0.2.5\NAME``.

    Windows takes no colons in a path, so IPv6 becomes ``\\2001-db8--5.ipv6-literal.net\NAME``,
    which it resolves by itself.
    """
    ip = ipaddress.ip_address(address)
    host = str(ip) if ip.version == 4 else str(ip).replace(":", "-") + ".ipv6-literal.net"
    return rf"\\{host}\{share}"


@dataclasses.dataclass(frozen=True, slots=True)
class Session:
    """A client that is connected now, and by what: SMB3_11 and AES-128-GCM, say.

    :param shares: those it has opened, sorted.
    """

    user: str
    address: str
    shares: tuple[str, ...]
    dialect: str
    cipher: str


class Samba(protocol.Protocol):
    """The Samba of one running share server. Every method is one run of ``share-server``."""

    name = "CIFS"
    summary = "By Samba at TCP port 445, for users and addresses; share servers always speak it."
    rule = Rule

    @staticmethod
    def export_location(address: str, share: str) -> str:
        return export_location(address, share)

    def wait_ready(self, timeout: float) -> None:
        seconds = math.ceil(timeout)
        self._run(SHARE_SERVER, "ready", str(seconds), timeout=seconds + 10.0)

    def set_share(
        self,
        name: str,
        rules: Iterable[protocol.Rule],
        keys: Mapping[str, str] = protocol.NO_KEYS,
    ) -> Mapping[str, str]:
        """Serve a share to exactly these users from exactly these networks.

        Connections of those who may no longer enter, or no longer write, are closed, and no
        others. Who may write from now on can when he connects next. A user has one password for
        all shares of a server, until no rule names him.
        """
        # The end tells that nothing was cut off: half a section may admit more than the whole.
        given = "".join(f"key = {user}:{key}\n" for user, key in keys.items())
        wanted = section(name, rules) + given + "end\n"
        answer = self._run(SHARE_SERVER, "set", name, stdin=wanted.encode())
        return {m["user"]: m["key"] for m in map(_KEY.fullmatch, answer.splitlines()) if m}

    def restore_share(self, name: str) -> None:
        """Nothing: Samba looks for the volume when a client comes."""

    def remove_share(self, name: str) -> None:
        names.check_share(name)
        self._run(SHARE_SERVER, "remove", name)

    def suspend(self, name: str) -> None:
        names.check_share(name)
        self._run(SHARE_SERVER, "suspend", name)

    def shares(self) -> Mapping[str, frozenset[protocol.Rule]]:
        found: dict[str, set[protocol.Rule]] = {}
        for line in self._run(SHARE_SERVER, "list").splitlines():
            kind, share, *rest = line.split(" ", 3)
            rules = found.setdefault(share, set())
            if kind == "user":
                rules.add(self.rule("user", rest[1], rest[0]))
            elif kind == "from":
                rules.add(self.rule("ip", _from_samba(rest[0])))
        return {share: frozenset(rules) for share, rules in found.items()}

    def sessions(self) -> list[Session]:
        """Return the clients that are connected now."""
        status: dict[str, dict[str, dict[str, Any]]] = json.loads(
            self._run(SHARE_SERVER, "sessions")
        )
        return [_session(each, status["tcons"]) for each in status["sessions"].values()]


def _session(session: Mapping[str, Any], tcons: Mapping[str, Mapping[str, Any]]) -> Session:
    mine = (each for each in tcons.values() if each["session_id"] == session["session_id"])
    return Session(
        user=session["username"],
        address=session["remote_machine"],
        shares=tuple(sorted({each["service"] for each in mine} - {"IPC$"})),
        dialect=session["session_dialect"],
        cipher=session["encryption"]["cipher"],
    )
