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

_HOST = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9-]{1,63})*", re.I)
_WORDS = re.compile(r"[A-Za-z0-9_][A-Za-z0-9 ._-]{0,62}")
_UNITS = re.compile(rf"{_WORDS.pattern}(/{_WORDS.pattern})*")
#: Control characters would end a line of what the container reads.
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclasses.dataclass(frozen=True, slots=True)
class SecurityService:
    """A tenant's directory. Nothing in it is secret.

    :param kind: ``active_directory``.
    :param domain: its DNS name, such as ``corp.example``.
    :param dns: addresses of the name servers that know the domain; at least one.
    :param server: a controller to ask before others: a host's name or its address.
    :param site: the site whose controllers to ask before others.
    :param unit: where a server's account is made, from the top: ``Servers/Storage``.
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
        if self.kind != ACTIVE_DIRECTORY:
            raise exceptions.NotSupported(
                f"Security services of type {self.kind} are not served; use active_directory."
            )
        _check(_HOST, self.domain, "a domain; say its DNS name")
        if not self.dns:
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


class Directory(abc.ABC):
    """A directory, seen from one running share server. Every method is idempotent."""

    kind: ClassVar[str]

    def __init__(
        self, engine: containers.Engine, container_id: str, service: SecurityService, account: str
    ) -> None:
        self._engine = engine
        self._container_id = container_id
        self._service = service
        self._account = account

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
