# SPDX-License-Identifier: Apache-2.0
"""open-iscsi's records: how it logs in to a target.

They are written as files: iscsiadm takes a CHAP secret as an argument only, where every user of
the host could read it.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from container_stack import exceptions
from container_stack.rootwrap import brick_wire

#: Debian's, Red Hat's and SUSE's places.
RECORDS = ("/etc/iscsi/nodes", "/var/lib/iscsi/nodes", "/var/lib/open-iscsi/nodes")
#: Where there are others, a path whose connection broke is given up after so many seconds.
FAIL_OVER = 5


def write(request: brick_wire.Request, portal: str) -> None:
    """Complete the record by which open-iscsi logs in through one portal; iscsiadm has made it.

    :raises HostNotReady: open-iscsi keeps its records elsewhere.
    """
    whole = max(1, int(request.timeout))
    values = {
        # Once: the other portals have their turn, too.
        "node.session.initial_login_retry_max": "1",
        "node.conn[0].timeo.login_timeout": str(request.login),
        "node.session.timeo.replacement_timeout": str(
            min(FAIL_OVER, whole) if request.several else whole
        ),
        "node.session.scan": "manual",
    }
    if request.secret:
        values["node.session.auth.authmethod"] = "CHAP"
        values["node.session.auth.username"] = request.user
        values["node.session.auth.password"] = request.secret
    if request.mutual_secret:
        values["node.session.auth.username_in"] = request.mutual_user
        values["node.session.auth.password_in"] = request.mutual_secret
    records = [path for path in files(request.iqn) if _is_of(path, portal)]
    if not records:
        raise exceptions.HostNotReady(f"open-iscsi keeps its records in none of {RECORDS}.")
    for path in records:
        _amend(path, values)


def _amend(path: Path, values: Mapping[str, str]) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if line.partition(" = ")[0] not in values]
    # The last line is a comment that ends the record.
    kept[-1:-1] = [f"{name} = {value}" for name, value in values.items()]
    path.write_text("\n".join(kept) + "\n", encoding="utf-8")


def files(iqn: str) -> Iterator[Path]:
    """Yield open-iscsi's records of a target."""
    for root in RECORDS:
        yield from (path for path in Path(root, iqn).rglob("*") if path.is_file())


def _is_of(path: Path, portal: str) -> bool:
    # ADDRESS,PORT or, with the portal's group known, ADDRESS,PORT,GROUP/INTERFACE.
    return any(part.split(",")[:2] == brick_wire.halves(portal) for part in path.parts[-2:])
