# SPDX-License-Identifier: Apache-2.0
"""What Manila asks of the back end that a whole share server is to move to.

Manila has a server made there first, with addresses of its own; then each share of the old one
moves to it, under the id and the name that it has. So the volume at the new place is called
otherwise: both may be in one pool.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from oslo_log import log

from container_stack import exceptions
from container_stack.drivers.manila import answers, errors, migrating, security
from container_stack.shares import moving

LOG = log.getLogger(__name__)


class ServerMigrating(migrating.Migrating):
    """The part of the driver that Manila calls to migrate share servers."""

    configuration: Any

    def share_server_migration_check_compatibility(
        self,
        context: Any,
        share_server: Any,
        dest_host: str,
        old_share_network: Any,
        new_share_network: Any,
        shares_request_spec: Any,
    ) -> dict[str, bool]:
        """Tell whether a server can move to here, and what its shares keep."""
        shares = [
            {**each["share_properties"], **each["share_instance_properties"]}
            for each in shares_request_spec["shares_req_spec"]
        ]
        try:
            here, there = self._neighbours.at(dest_host), self._from(share_server)
            if here.shares is not self._shares or there is here:
                raise exceptions.NotSupported("A server moves from one back end to another.")
            if security.users(share_server):
                raise exceptions.NotSupported(
                    "A member of a domain doesn't move; move its shares, one by one."
                )
            self._check(shares, here)
        except exceptions.ContainerStackError as exc:
            LOG.warning(
                "Share server %(id)s can't move to %(host)s: %(why)s",
                {"id": share_server["id"], "host": dest_host, "why": exc},
            )
            return migrating.answer(able=False)
        return migrating.answer(able=True)

    def share_server_migration_start(
        self,
        context: Any,
        src_share_server: Any,
        dest_share_server: Any,
        shares: Sequence[Any],
        snapshots: Sequence[Any],
    ) -> None:
        """Begin to move a server's shares, whose clients go on."""
        server_id = answers.server_id(dest_share_server)
        with errors.translated():
            moves = self._moves_from(src_share_server)
            try:
                for share_id, volume_id in _moved(shares, dest_share_server):
                    moves.start(share_id, moving.Place(volume_id, server_id, share_id))
            except exceptions.ContainerStackError:
                self._give_up(src_share_server, dest_share_server, shares)
                raise

    def share_server_migration_continue(
        self,
        context: Any,
        src_share_server: Any,
        dest_share_server: Any,
        shares: Sequence[Any],
        snapshots: Sequence[Any],
    ) -> bool:
        """Tell whether most of all shares has been copied; if that failed nothing of it is left."""
        wanted = list(_moved(shares, dest_share_server))
        with errors.translated():
            moves = self._moves_from(src_share_server)

            def copy() -> None:
                for share_id, volume_id in wanted:
                    moves.copy(share_id, volume_id)

            try:
                return self._copying.go_on(dest_share_server["id"], copy)
            except exceptions.ContainerStackError:
                self._give_up(src_share_server, dest_share_server, shares)
                raise

    def share_server_migration_get_progress(
        self,
        context: Any,
        src_share_server: Any,
        dest_share_server: Any,
        shares: Sequence[Any],
        snapshots: Sequence[Any],
    ) -> dict[str, int]:
        """Return how much of all shares has been copied, in per cent of the mean."""
        with errors.translated():
            moves = self._moves_from(src_share_server)
            each = [moves.progress(*one) for one in _moved(shares, dest_share_server)]
        return {"total_progress": sum(each) // max(len(each), 1)}

    def share_server_migration_cancel(
        self,
        context: Any,
        src_share_server: Any,
        dest_share_server: Any,
        shares: Sequence[Any],
        snapshots: Sequence[Any],
    ) -> None:
        """Leave all shares where they are; Manila deletes the new server."""
        with errors.translated():
            self._give_up(src_share_server, dest_share_server, shares)

    def share_server_migration_complete(
        self,
        context: Any,
        src_share_server: Any,
        dest_share_server: Any,
        shares: Sequence[Any],
        snapshots: Sequence[Any],
        new_network_info: Any,
    ) -> dict[str, Any]:
        """Bring the rest over, one share after another, and return where clients find them."""
        pool = self.configuration.safe_get("share_backend_name") or self.configuration.config_group
        with errors.translated():
            moves = self._moves_from(src_share_server)
            moved = {
                share_id: moves.complete(share_id, volume_id)
                for share_id, volume_id in _moved(shares, dest_share_server)
            }
        return {
            "share_updates": {
                share_id: {"export_locations": answers.locations(share), "pool_name": pool}
                for share_id, share in moved.items()
            }
        }

    def _give_up(self, old: Any, new: Any, shares: Iterable[Any]) -> None:
        moves = self._moves_from(old)
        for share_id, volume_id in _moved(shares, new):
            moves.cancel(share_id, volume_id)
        self._copying.forget(new["id"])

    def _from(self, share_server: Any) -> Any:
        return self._neighbours.at(share_server["host"])

    def _moves_from(self, share_server: Any) -> moving.Moves:
        moves: moving.Moves = self._from(share_server).shares.moves_to(self._shares)
        return moves


def _moved(shares: Iterable[Any], share_server: Any) -> Iterator[tuple[str, str]]:
    """Yield each share's id, and that of its volume below a new server: always the same."""
    for share in shares:
        digest = hashlib.sha256(f"{share['id']} {share_server['id']}".encode()).hexdigest()
        yield share["id"], f"moved-{digest[:32]}"
