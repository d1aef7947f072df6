# SPDX-License-Identifier: Apache-2.0
"""The registry in a database: SQLite for one node, MySQL, MariaDB or PostgreSQL for many.

::

    database    transactions, and what happens when nobody answers
    late        a server that may come later than we do; refusals, one that doesn't let us in
    engines     how each kind of database is talked to
    bounded     PostgreSQL's connections; quick, SQLite's
    schema      migrations, which alembic runs
    tables      what the newest of them leaves behind
    rows        volumes as rows, and back
    journal     what is written a moment later
    volumes     nodes     happenings    the three parts of the registry
"""

import logging

from container_stack import exceptions
from container_stack.volumes.sql import happenings, late, nodes, volumes

LOG = logging.getLogger(__name__)


class SQLRegistry(happenings.Happenings, volumes.Volumes, nodes.Nodes):
    """A registry in a database, whose tables are there and as new as this code."""


def open(url: str, *, wait: bool = True) -> SQLRegistry:  # noqa: A001 - sql.open is what callers read
    """Open the registry at a URL of SQLAlchemy's, bringing its tables up to date.

    :param wait: False lets a server be away: until it answers, each method says that it doesn't.
    :raises InvalidRequest: the URL means no database that can be used, or its server refuses us.
    :raises HostNotReady: the database is of a newer version, or its file can't be made.
    :raises ServiceUnavailable: it doesn't answer.
    """
    opened = late.Late(url)
    try:
        opened.prepare()
    except exceptions.ServiceUnavailable as exc:
        if wait or opened.engine.name == "sqlite":
            opened.close()
            raise
        LOG.error("Volumes that aren't mounted can't be used yet: %(why)s", {"why": exc})
    except BaseException:
        opened.close()
        raise
    return SQLRegistry(opened)
