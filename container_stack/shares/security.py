# SPDX-License-Identifier: Apache-2.0
"""Whose users a share server's are, where a tenant has a directory of them.

Without a directory a share server makes its own users. With one it has none of its own: those of
the directory log in, with the passwords that they have there.
"""

import abc
import dataclasses
import hashlib
import ipaddress
import json
import re
from collections.abc import Mapping
from typing import Any, ClassVar

from container_stack import exceptions
from container_stack.host import containers

ACTIVE_DIRECTORY = "active_directory"
LDAP = "ldap"
KINDS = (ACTIVE_DIRECTORY, LDAP)
#: Where Debian keeps the certificates that this host trusts.
CA_FILE = "/etc/ssl/certs/ca-certificates.crt"

_HOST = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9-]{1,63})*", re.I)
_WORDS = re.compile(r"[A-Za-z0-9_][A-Za-z0-9 ._-]{0,62}")
_UNITS = re.compile(rf"{_WORDS.pattern}(/{_WORDS.pattern})*")
_PART = rf"[A-Za-z]{{1,16}}={_WORDS.pattern}"
_DN = re.compile(rf"{_PART}(,{_PART}){{0,15}}")
#: Control characters would end a line of what the container reads.
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclasses.dataclass(frozen=True, slots=True)
class SecurityService:
    """A tenant's directory. Nothing in it is secret.

    :param kind: ``active_directory`` or ``ldap``.
    :param domain: its DNS name, such as ``corp.example``; for LDAP that of its base, or the base
        itself: ``dc=corp,dc=example``.
    :param dns: addresses of the name servers that know it.
    :param server: a controller to ask before others, or the LDAP server: a host's name or its
        address.
    :param site: the site whose controllers to ask before others.
    :param unit: where a server's account is made, from the top, ``Servers/Storage``; or where
        the user is who reads an LDAP directory.
    :raises NotSupported: there is no such kind here.
    :raises InvalidRequest: a value is none.
    """

    kind: str
    domain: str
    dns: tuple[str, ...]
    server: str | None = None
    site: str | None = None
    unit: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise exceptions.NotSupported(
                f"Security services of type {self.kind} are not served; use {' or '.join(KINDS)}."
            )
        if self.kind == LDAP:
            self._check_ldap()
        else:
            _check(_HOST, self.domain, "a domain; say its DNS name")
        if not self.dns and not (self.kind == LDAP and _is_address(self.server or "")):
            raise exceptions.InvalidRequest(
                "A domain is found by its name servers only; give the security service a dns_ip."
            )
        for each in self.dns:
            _address(each)
        if self.server is not None and not _is_address(self.server):
            _check(_HOST, self.server, "a controller; give one host's name or address")
        if self.site is not None:
            _check(_WORDS, self.site, "a site")
        if self.unit is not None:
            _check(_UNITS, self.unit, "an organizational unit; say it from the top, with '/'")

    def _check_ldap(self) -> None:
        if not is_dn(self.domain):
            _check(_HOST, self.domain, "a directory's base; say 'dc=corp,dc=example'")
        if self.server is None:
            raise exceptions.InvalidRequest(
                "An LDAP directory is found by its server only; give the security service one."
            )
        if self.site is not None:
            raise exceptions.InvalidRequest("An LDAP directory has no sites; name none.")

    def to_json(self) -> str:
        """Return the text that a service keeps."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "SecurityService":
        """Return what these values, as of JSON, make."""
        return cls(**{**values, "dns": tuple(values["dns"])})

    @classmethod
    def from_json(cls, text: str) -> "SecurityService":
        """Return what :meth:`to_json` was made from."""
        return cls.of(json.loads(text))


@dataclasses.dataclass(frozen=True, slots=True)
class Login:
    """Who may make accounts in a directory, and remove them. It is used and not kept.

    :raises InvalidRequest: the name or the password can't be one.
    """

    user: str
    password: str = dataclasses.field(repr=False)

    def __post_init__(self) -> None:
        if _CONTROL.search(self.user) or "%" in self.user or not self.user.strip(" -"):
            raise exceptions.InvalidRequest(f"{self.user!r} can't be a directory's user.")
        if self.user.startswith(("-", " ")):
            raise exceptions.InvalidRequest("A directory's user begins with a letter or a digit.")
        if _CONTROL.search(self.password) or not self.password:
            raise exceptions.InvalidRequest(
                "The password of the directory's user is empty, or has a control character."
            )


@dataclasses.dataclass(frozen=True, slots=True)
class Trust:
    """How an LDAP directory must prove that it is the one that was named.

    :param ca_file: a file on the host: the certificates of who may have signed its own.
    :param tls: False: it needs no proof, and whoever is on the way reads and changes everything.
    """

    ca_file: str = CA_FILE
    tls: bool = True


class Directory(abc.ABC):
    """A directory, seen from one running share server. Every method is idempotent."""

    kind: ClassVar[str]

    def __init__(
        self,
        engine: containers.Engine,
        container_id: str,
        service: SecurityService,
        account: str,
        trust: Trust,
    ) -> None:
        self._engine = engine
        self._container_id = container_id
        self._service = service
        self._account = account
        self._trust = trust

    @abc.abstractmethod
    def join(self, login: Login | None) -> None:
        """Have the directory's users log in at this server from now on.

        :param login: not needed where the server's state volume is that of a member.
        :raises AccessDenied: the directory refuses this user.
        :raises ServiceUnavailable: the directory doesn't answer.
        :raises InvalidRequest: it hasn't got what the security service names.
        """

    @abc.abstractmethod
    def leave(self, login: Login | None) -> None:
        """Take out of the directory what joining it made there.

        :raises ContainerStackError: it wasn't; the text says why.
        """

    @staticmethod
    @abc.abstractmethod
    def remains(service: SecurityService, account: str) -> str | None:
        """Return what is left in the directory by a server that didn't leave; None: nothing."""


def is_dn(text: str) -> bool:
    """Tell whether this names an entry of an LDAP directory, in signs that mean nothing else."""
    return _DN.fullmatch(text) is not None


def account(server_id: str) -> str:
    """Return a share server's own name in a directory: always the same, and 15 characters."""
    return "CS" + hashlib.sha256(server_id.encode()).hexdigest()[:13].upper()


def _check(pattern: re.Pattern[str], text: str, what: str) -> None:
    if not pattern.fullmatch(text):
        raise exceptions.InvalidRequest(f"{text!r} can't be {what}.")


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError as exc:
        raise exceptions.InvalidRequest(f"{text!r} is not a name server's IP address.") from exc


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
