# SPDX-License-Identifier: Apache-2.0
"""The kinds of directories that share servers can have their users from, by name."""

import logging

from container_stack import exceptions
from container_stack.host import containers
from container_stack.shares import active_directory, ldap, model, security

LOG = logging.getLogger(__name__)

DIRECTORIES: dict[str, type[security.Directory]] = {
    each.kind: each for each in (active_directory.Domain, ldap.Directory)
}


def join(
    engine: containers.Engine,
    server: model.Server,
    login: security.Login | None,
    trust: security.Trust,
) -> None:
    """Have a running server join its directory, if it has one; idempotent.

    :raises ContainerStackError: as of :meth:`security.Directory.join`.
    """
    if found := _of(engine, server, trust):
        found.join(login)


def leave(
    engine: containers.Engine,
    server: model.Server,
    login: security.Login | None,
    trust: security.Trust,
) -> None:
    """Have a running server leave its directory, or say in the log what stays there."""
    try:
        if found := _of(engine, server, trust):
            found.leave(login)
    except exceptions.ContainerStackError as exc:
        report(server.spec, str(exc))


def report(spec: model.ServerSpec, why: str) -> None:
    """Say in the log what may be left in a directory by a server that is removed."""
    if spec.users is None:
        return
    account = security.account(spec.id)
    if what := DIRECTORIES[spec.users.kind].remains(spec.users, account):
        LOG.warning(
            "%(what)s may be left in %(domain)s, remove it there: share server %(id)s is gone: "
            "%(why)s",
            {"what": what, "domain": spec.users.domain, "id": spec.id, "why": why},
        )


def _of(
    engine: containers.Engine, server: model.Server, trust: security.Trust
) -> security.Directory | None:
    wanted = server.spec.users
    if wanted is None:
        return None
    account = security.account(server.id)
    return DIRECTORIES[wanted.kind](engine, server.container_id, wanted, account, trust)
