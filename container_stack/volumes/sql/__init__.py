# SPDX-License-Identifier: Apache-2.0
"""The registry in a database: SQLite for one node, MySQL, MariaDB or PostgreSQL for many.

::

    database    transactions, and what happens when nobody answers
    engines     how each kind of database is talked to
    bounded     PostgreSQL's connections; quick, SQLite's
    schema      migrations, which alembic runs
    tables      what the newest of them leaves behind
    rows        volumes as rows, and back
    journal     what is written a moment later
    volumes     nodes     happenings    the three parts of the registry
"""

from container_stack.volumes.sql import database, happenings, nodes, schema, volumes


class SQLRegistry(happenings.Happenings, volumes.Volumes, nodes.Nodes):
    """A registry in a database, whose tables are there and as new as this code."""


def open(url: str) -> SQLRegistry:  # noqa: A001 - sql.open is what callers read
    """Open the registry at a URL of SQLAlchemy's, bringing its tables up to date.

    :raises InvalidRequest: the URL means no database that can be used.
    :raises HostNotReady: the database is of a newer version, or its file can't be made.
    :raises ServiceUnavailable: it doesn't answer, or refuses us.
    """
    opened = database.Database(url)
    try:
        schema.bring_up_to_date(opened)
    except BaseException:
        opened.close()
        raise
    return SQLRegistry(opened)
