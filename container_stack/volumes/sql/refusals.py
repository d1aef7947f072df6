# SPDX-License-Identifier: Apache-2.0
"""Which errors of a database's server are answers that asking again doesn't change."""

from container_stack import exceptions

#: Of MariaDB's and MySQL's lists of server errors: the user may not have the database, is unknown
#: or has another password, there is no such database, the user comes by a socket only.
_MYSQL = frozenset({1044, 1045, 1049, 1698})
# libpq has no code for what ends a connection that is being made: only the server's words, which
# are English unless its lc_messages says otherwise.
_POSTGRESQL = (
    "password authentication failed",
    "no password supplied",
    "no pg_hba.conf entry",
    "does not exist",
)


class Refused(exceptions.ServiceUnavailable):
    """The server answers, and doesn't let us in: its words, or ours, must be changed."""


def is_refusal(error: object) -> bool:
    """Tell whether an error of a driver's says that we aren't let in.

    :param error: of PyMySQL's, psycopg's or sqlite3's.
    """
    said = getattr(error, "args", ())
    if said and said[0] in _MYSQL:
        return True
    text = str(error)
    return text.startswith("connection ") and any(words in text for words in _POSTGRESQL)
