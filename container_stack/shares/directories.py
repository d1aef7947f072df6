# SPDX-License-Identifier: Apache-2.0
"""The kinds of directories that share servers can have their users from, by name."""

import logging

from container_stack import exceptions
from container_stack.host import containers
from container_stack.shares import active_directory, model, security

LOG = logging.getLogger(__name__)

DIRECTORIES: dict[str, type[security.Directory]] = {
    each.kind: each for each in (active_directory.Domain,)
}


def join(engine: containers.Engine, server: model.Server, login: security.Login | None) -> None:
    """Have a running server join its directory, if it has one; idempotent.

    :raises ContainerStackError: as of :meth:`security.Directory.join`.
    """
    if found := _of(engine, server):
        found.join(login)


def leave(engine: containers.Engine, server: model.Server, login: security.Login | None) -> None:
    """Have a running server leave its directory, or say in the log what stays there."""
    try:
        if found := _of(engine, server):
            found.leave(login)
    except exceptions.ContainerStackError as exc:
        report(server.spec, str(exc))


def report(spec: model.ServerSpec, why: str) -> None:
    """Say in the log which account may be left in a directory by a server that is removed."""
    if spec.users:
        LOG.warning(
            "Computer account %(account)s may be left in %(domain)s, remove it there: share server "
            "%(id)s is gone: %(why)s",
            {
                "account": security.account(spec.id),
                "domain": spec.users.domain,
                "id": spec.id,
                "why": why,
            },
        )


def _of(engine: containers.Engine, server: model.Server) -> security.Directory | None:
    wanted = server.spec.users
    if wanted is None:
        return None
    account = security.account(server.id)
    return DIRECTORIES[wanted.kind](engine, server.container_id, wanted, account)
