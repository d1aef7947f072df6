# SPDX-License-Identifier: Apache-2.0
"""A user's password in a running server, by the server's own ``chpasswd``."""

import re

from container_stack import exceptions
from container_stack.host import containers

#: Seconds that the server may take.
PATIENCE = 30.0
#: Longest password, as crypt(3) takes them.
LONGEST = 511
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}\Z")
_NOT_THERE = (126, 127)


def set_password(
    engine: containers.Engine, container: str, password: str, *, user: str = "root"
) -> None:
    """Give a user of a running container another password.

    It goes by stdin: no process list and no log shows it, and what ``chpasswd`` says is not
    repeated either.

    :raises InvalidRequest: a password or name that can't be one; nothing was changed.
    :raises NotSupported: the image has no ``chpasswd``.
    :raises Busy: the container doesn't run.
    :raises CommandFailed: ``chpasswd`` refuses, as for a user that the image doesn't know.
    """
    if not _USER.match(user):
        raise exceptions.InvalidRequest(f"{user!r} can't be a user's name.")
    if not password or len(password) > LONGEST or not password.isprintable():
        raise exceptions.InvalidRequest(
            f"A password is 1 to {LONGEST} printable characters; give another."
        )
    try:
        result = engine.exec(
            container,
            ["chpasswd"],
            stdin=f"{user}:{password}\n".encode(),
            timeout=PATIENCE,
            user="0",
        )
    except exceptions.InvalidRequest as exc:
        raise _absent() from exc
    if result.exit_code in _NOT_THERE:
        raise _absent()
    if result.exit_code != 0:
        raise exceptions.CommandFailed("chpasswd", result.exit_code)


def _absent() -> exceptions.NotSupported:
    return exceptions.NotSupported("The server's image has no chpasswd, so it takes no password.")
