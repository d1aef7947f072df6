# SPDX-License-Identifier: Apache-2.0
"""The tables' versions, and the way from one to another.

A migration must leave tables with which daemons of the version before can work, because a cluster
is upgraded node by node.
"""

import contextlib
import io
import typing
from collections.abc import Iterator

import sqlalchemy as sa

from container_stack import exceptions
from container_stack.volumes.sql import database

#: The newest version: a revision in migrations/versions.
HEAD = "0001"
_VERSION = sa.text("SELECT version_num FROM alembic_version")
#: Any number, the same for all who migrate.
_LOCK = 0x6F7364


def bring_up_to_date(opened: database.Database) -> None:
    """Make the tables, or bring them up to date; many processes may do so at once.

    :raises HostNotReady: they are of a version that this code doesn't know.
    """
    database.make_private(opened.url)
    found = version(opened)
    if found == HEAD:
        return
    if found and found not in revisions():
        raise exceptions.HostNotReady(
            f"The registry is of version {found}, which this release doesn't know: upgrade it."
        )
    patient = database.Database(opened.url, patience=600)
    try:
        upgrade(patient)
    finally:
        patient.close()


def version(opened: database.Database) -> str:
    """Return the version that a database has; "" when it is empty."""

    with opened.transaction() as connection:
        if not sa.inspect(connection).has_table("alembic_version"):
            return ""
        return str(connection.execute(_VERSION).scalar() or "")


def revisions() -> list[str]:
    """Return all versions, the oldest first."""
    from alembic import script  # a third of a second, and seldom needed

    found = script.ScriptDirectory.from_config(_config())
    return [each.revision for each in found.walk_revisions()][::-1]


def upgrade(opened: database.Database, revision: str = "head") -> None:
    """Bring the tables to a newer version."""
    from alembic import command

    with _locked(opened) as connection:
        command.upgrade(_config(connection), revision)


def downgrade(opened: database.Database, revision: str) -> None:
    """Bring the tables back to an older version; "base" removes them with all they hold."""
    from alembic import command

    with _locked(opened) as connection:
        command.downgrade(_config(connection), revision)


def statements(kind: str, revisions: str = "head") -> str:
    """Return the SQL that upgrades, for databases where only their administrator may.

    :param kind: sqlite, mysql or postgresql.
    :param revisions: as alembic has them: "head", or "from:to".
    """
    from alembic import command

    output = io.StringIO()
    config = _config(output=output)
    config.attributes["kind"] = kind
    command.upgrade(config, revisions, sql=True)
    return output.getvalue()


@contextlib.contextmanager
def _locked(opened: database.Database) -> Iterator[sa.Connection]:
    # SQLite's transactions lock by themselves. MySQL's don't undo what was made in them, so that
    # a migration that was killed there is finished by hand.
    with opened.transaction() as connection:
        if opened.engine.name == "postgresql":
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        elif opened.engine.name in ("mysql", "mariadb"):
            connection.execute(sa.text("SELECT GET_LOCK('container-stack-osd', 60)"))
        try:
            yield connection
        finally:
            if opened.engine.name in ("mysql", "mariadb"):
                connection.execute(sa.text("SELECT RELEASE_LOCK('container-stack-osd')"))


def _config(connection: sa.Connection | None = None, output: typing.TextIO | None = None):  # type: ignore[no-untyped-def]
    from alembic import config

    made = config.Config(output_buffer=output)
    made.set_main_option("script_location", "container_stack.volumes.sql:migrations")
    made.attributes["connection"] = connection
    return made
