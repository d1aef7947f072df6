# SPDX-License-Identifier: Apache-2.0
"""Active Directory: share servers as members of a tenant's domain, and rules for its users.

In the container ``domain-member`` joins and leaves, with Samba's ``net``, and keeps ``winbindd``
running. The join's password goes there by a pipe, and is forgotten; the password of the server's
own account, which Samba makes and changes, is in its state volume.
"""

import dataclasses
import re

from container_stack import exceptions
from container_stack.shares import cifs, members, security

DOMAIN_MEMBER = "/usr/libexec/domain-member"
#: Seconds in which a join ends; each of its steps has its own limit in the container.
PATIENCE = 200.0
#: The text of Samba's that tells what went wrong, and what that means to who asked for it.
FAILURES: tuple[tuple[str, type[exceptions.ContainerStackError], str], ...] = (
    (
        r"logon failure|logon is invalid|preauthentication|unknown principal|no_such_user"
        r"|password.*(wrong|expired)",
        exceptions.AccessDenied,
        "refuses the user or the password; correct the security service.",
    ),
    (
        r"clock skew|time difference",
        exceptions.ServiceUnavailable,
        "has another time than this host; set both clocks by NTP.",
    ),
    (
        r"no such (object|entry)|pre-create|organizational unit",
        exceptions.InvalidRequest,
        "has no such organizational unit, or the user may not make accounts in it.",
    ),
    (
        r"access.denied|insufficient access|insufficient rights|quota",
        exceptions.AccessDenied,
        "doesn't let this user make accounts; name one who may join computers to the domain.",
    ),
    (
        r"no controller of the domain|failed to find dc|controller|no logon servers|unreachable"
        r"|timed? ?out|host|connect",
        exceptions.ServiceUnavailable,
        "doesn't answer; are dns_ip and server right, and is there a route to them?",
    ),
)

# What a user's or a group's name may hold in Active Directory, without what means something to
# Samba or to a shell, and without leading signs that mean a group.
_NAME = re.compile(r"\w(?:[\w .$()'-]{0,254}[\w$)'-])?")


@dataclasses.dataclass(frozen=True, slots=True)
class Rule(cifs.Rule):
    """Who of the domain may use a share, or from where.

    :param kind: ``user`` or ``ip``.
    :param to: the name of a user or a group of the domain, without the domain; or an IP address
        or network.
    """

    def _check_user(self) -> None:
        if not _NAME.fullmatch(self.to):
            raise exceptions.InvalidRequest(
                f"{self.to!r} can't be a user or a group of the domain; name it without the domain."
            )


class Samba(members.Samba):
    """The Samba of a member. A rule's name means who has it when the rule is set."""

    rule = Rule
    program = DOMAIN_MEMBER

    def wait_ready(self, timeout: float) -> None:
        cifs.Samba.wait_ready(self, timeout)
        self._run(DOMAIN_MEMBER, "ready", str(int(timeout) + 1), timeout=timeout + 10.0)


class Domain(security.Directory):
    """A domain, seen from one share server."""

    kind = security.ACTIVE_DIRECTORY

    def join(self, login: security.Login | None) -> None:
        service = self._service
        said = {
            "domain": service.domain,
            "account": self._account,
            "server": service.server,
            "site": service.site,
            "ou": service.unit,
        }
        lines = [f"{key} = {value}\n" for key, value in said.items() if value]
        self._tell("join", lines, login)

    def leave(self, login: security.Login | None) -> None:
        if login is None:
            raise exceptions.InvalidRequest("nobody was named who may remove it.")
        self._tell("leave", [], login)

    @staticmethod
    def remains(service: security.SecurityService, account: str) -> str:
        return f"Computer account {account}"

    def _tell(self, action: str, lines: list[str], login: security.Login | None) -> None:
        if login:
            lines += [f"user = {login.user}\n", f"password = {login.password}\n"]
        document = "".join([*lines, "end\n"]).encode()
        result = self._engine.exec(
            self._container_id, [DOMAIN_MEMBER, action], stdin=document, timeout=PATIENCE
        )
        if result.exit_code:
            failed = exceptions.CommandFailed(
                f"domain-member {action}", result.exit_code, result.stderr.decode(errors="replace")
            )
            raise _meaning(self._service.domain, failed) from failed


def _meaning(domain: str, failed: exceptions.CommandFailed) -> exceptions.ContainerStackError:
    """Return what went wrong in the words of who made the security service."""
    for pattern, error, what in FAILURES:
        if re.search(pattern, failed.stderr, re.IGNORECASE):
            return error(f"Domain {domain} {what} ({failed.stderr})")
    return failed
