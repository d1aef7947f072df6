# SPDX-License-Identifier: Apache-2.0
"""LDAP: share servers whose users are those of a tenant's directory with Samba's schema.

In the container ``ldap-reader`` finds Samba's domain in the directory, and Samba reads from there
whoever logs in, with the hash of his password. It needs the password of who may read that for as
long as the server lives: that is in Samba's secrets, in the server's state volume, and nowhere
else.
"""

import dataclasses
import ipaddress
import math
import re

from container_stack import exceptions
from container_stack.shares import cifs, members, security

LDAP_READER = "/usr/libexec/ldap-reader"
#: Seconds in which a directory has been found or not.
PATIENCE = 90.0
#: What the program in the container says, and what that means to who asked for it.
FAILURES: tuple[tuple[str, type[exceptions.ContainerStackError], str], ...] = (
    (
        r"invalid credentials|inappropriate auth|invalid dn",
        exceptions.AccessDenied,
        "refuses the user or the password; correct the security service.",
    ),
    (
        r"start_tls: (connect|protocol|operations) error|start_tls: .*unsupported",
        exceptions.ServiceUnavailable,
        "speaks no TLS, or has no certificate for its name that this back end's operator trusts.",
    ),
    (
        r"confidentiality required",
        exceptions.NotSupported,
        "wants TLS, which this back end is set not to speak.",
    ),
    (
        r"no such object|no domain of samba",
        exceptions.InvalidRequest,
        "has no entry of Samba's domain (sambaDomain) below its base that this user may read.",
    ),
    (
        r"several domains",
        exceptions.InvalidRequest,
        "has several entries of Samba's domains below its base; name the base of one.",
    ),
    (
        r"can't contact|timed? ?out|it said: ?$|server is (down|busy)|unavailable",
        exceptions.ServiceUnavailable,
        "doesn't answer; are dns_ip and server right, and is there a route to them?",
    ),
)

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}")
_CERTIFICATE = re.compile(
    r"-----BEGIN CERTIFICATE-----\n[A-Za-z0-9+/=\n]+-----END CERTIFICATE-----\n"
)


@dataclasses.dataclass(frozen=True, slots=True)
class Rule(cifs.Rule):
    """Which user of the directory may use a share, or from where.

    :param kind: ``user`` or ``ip``.
    :param to: a user's ``uid``; or an IP address or network.
    """

    def _check_user(self) -> None:
        if not _NAME.fullmatch(self.to):
            raise exceptions.InvalidRequest(
                f"{self.to!r} can't be a user of the directory: use 1 to 63 of letters, digits and "
                "'_.-', and no '.' or '-' first."
            )
        if self.to.lower() in cifs.RESERVED_USERS:
            raise exceptions.InvalidRequest(
                f"{self.to} is the server's own; use another user name."
            )


class Samba(members.Samba):
    """The Samba that reads a directory. A rule's name means who has it when the rule is set."""

    rule = Rule
    program = LDAP_READER

    def wait_ready(self, timeout: float) -> None:
        """Wait until it serves clients, or waits for its directory as they must.

        :raises CommandFailed: neither, in this time.
        """
        seconds = math.ceil(timeout)
        self._run(LDAP_READER, "ready", str(seconds), timeout=seconds + 10.0)


class Directory(security.Directory):
    """A directory, seen from one share server. Nothing is ever written there."""

    kind = security.LDAP

    def join(self, login: security.Login | None) -> None:
        lines = self._description(login) if login else []
        document = "".join([*lines, "end\n"]).encode()
        result = self._engine.exec(
            self._container_id, [LDAP_READER, "join"], stdin=document, timeout=PATIENCE
        )
        if result.exit_code:
            failed = exceptions.CommandFailed(
                "ldap-reader join", result.exit_code, result.stderr.decode(errors="replace")
            )
            raise _meaning(self._service.domain, failed) from failed

    def _description(self, login: security.Login) -> list[str]:
        said = {
            "base": base(self._service),
            "server": url(self._service.server or ""),
            "user": reader(self._service, login),
            "password": login.password,
        }
        lines = [f"{key} = {value}\n" for key, value in said.items()]
        if self._trust.tls:
            lines += [f"ca = {line}\n" for line in certificates(self._trust.ca_file)]
        return lines

    def leave(self, login: security.Login | None) -> None:
        """Nothing: what joining made is in the server's volume."""

    @staticmethod
    def remains(service: security.SecurityService, account: str) -> None:
        return None


def base(service: security.SecurityService) -> str:
    """Return the entry below which everything is: of corp.example, dc=corp,dc=example."""
    if security.is_dn(service.domain):
        return service.domain
    return ",".join(f"dc={each}" for each in service.domain.split("."))


def reader(service: security.SecurityService, login: security.Login) -> str:
    """Return the entry of who reads the directory.

    :raises InvalidRequest: there can't be one of this name.
    """
    if security.is_dn(login.user):
        return login.user
    units = [f"ou={each}" for each in reversed((service.unit or "").split("/")) if each]
    found = ",".join([f"uid={login.user}", *units, base(service)])
    if "," in login.user or not security.is_dn(found):
        raise exceptions.InvalidRequest(
            f"{login.user!r} can't be a user; say his uid, or his entry as "
            "'cn=reader,dc=corp,dc=example'."
        )
    return found


def url(server: str) -> str:
    """Return where a server is, as LDAP's clients want it."""
    try:
        address = ipaddress.ip_address(server)
    except ValueError:
        return f"ldap://{server}"
    return f"ldap://[{address}]" if address.version == 6 else f"ldap://{address}"


def certificates(path: str) -> list[str]:
    """Return the lines of the certificates in a file.

    :raises HostNotReady: there is none.
    """
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            found = _CERTIFICATE.findall(file.read())
    except OSError as exc:
        raise exceptions.HostNotReady(
            f"The certificates to check LDAP directories against can't be read from {path}: {exc}"
        ) from exc
    if not found:
        raise exceptions.HostNotReady(f"{path} has no certificate to check LDAP directories with.")
    return "".join(found).splitlines()


def _meaning(domain: str, failed: exceptions.CommandFailed) -> exceptions.ContainerStackError:
    """Return what went wrong in the words of who made the security service."""
    for pattern, error, what in FAILURES:
        if re.search(pattern, failed.stderr, re.IGNORECASE):
            return error(f"Directory {domain} {what} ({failed.stderr})")
    return failed
