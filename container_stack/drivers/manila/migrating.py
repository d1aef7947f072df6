# SPDX-License-Identifier: Apache-2.0
"""What Manila asks when an administrator moves a share, or a share server, to another back end.

Of a share it asks the back end where it is; of a server the one where it is to be. Each finds the
other in manila.conf: both are on this host.
"""

import threading
from collections.abc import Callable, Iterable
from concurrent import futures
from typing import Any

from oslo_log import log

from container_stack import exceptions
from container_stack.conf import manila as conf
from container_stack.drivers.manila import answers, ensuring, errors, neighbours, qos
from container_stack.shares import moving, service

LOG = log.getLogger(__name__)


def answer(*, able: bool) -> dict[str, bool]:
    """Return what Manila wants to know first: clients write on, and come again in the end."""
    return {
        "compatible": able,
        "writable": able,
        "preserve_metadata": able,
        "nondisruptive": False,
        "preserve_snapshots": False,
        "migration_cancel": able,
        "migration_get_progress": able,
    }


class Copying:
    """Copies in threads; a service that was killed begins again when it is asked."""

    def __init__(self) -> None:
        self._jobs: dict[str, futures.Future[None]] = {}

    def go_on(self, name: str, work: Callable[[], None]) -> bool:
        """Have this work done, and tell whether it is; raise what it raised.

        Busy means that another process is at it.
        """
        job = self._jobs.get(name)
        if job is None:
            job = self._jobs[name] = futures.Future()
            # Daemons: who stops the service doesn't wait for them.
            threading.Thread(target=_run, args=(work, job), name=name, daemon=True).start()
        if not job.done():
            return False
        del self._jobs[name]
        try:
            job.result()
        except exceptions.Busy as exc:
            LOG.warning("Copying %(name)s has to wait: %(why)s", {"name": name, "why": exc})
            return False
        return True

    def forget(self, name: str) -> None:
        """Leave a job that was given up to itself."""
        self._jobs.pop(name, None)


class Migrating(qos.Qos):
    """The part of the driver that Manila calls to migrate."""

    _shares: service.ShareService
    _site: dict[str, Any] | None
    _neighbours: neighbours.Neighbours
    _copying: Copying

    def _settle_moves(self) -> None:
        """Finish or give up what a crash left of shares that were on their way to here."""
        for owner in self._shares.origins():
            try:
                other = self._neighbours.of(conf.group(owner))
                other.shares.moves_to(self._shares).settle()
            except exceptions.ContainerStackError as exc:
                LOG.warning("Moves from %(owner)s wait: %(why)s", {"owner": owner, "why": exc})

    # Shares, asked where they are -------------------------------------------------------------

    def migration_check_compatibility(
        self,
        context: Any,
        source_share: Any,
        destination_share: Any,
        share_server: Any = None,
        destination_share_server: Any = None,
    ) -> dict[str, bool]:
        """Tell whether a share can move there, and what it keeps."""
        try:
            there = self._neighbours.at(destination_share["host"])
            self._check([source_share], there)
        except exceptions.ContainerStackError as exc:
            LOG.warning(
                "Share %(id)s can't move to %(host)s: %(why)s",
                {"id": source_share["id"], "host": destination_share["host"], "why": exc},
            )
            return answer(able=False)
        return answer(able=True)

    def migration_start(
        self,
        context: Any,
        source_share: Any,
        destination_share: Any,
        source_snapshots: Any,
        snapshot_mappings: Any,
        share_server: Any = None,
        destination_share_server: Any = None,
    ) -> None:
        """Begin to move a share, whose clients go on."""
        share_id, volume_id = source_share["id"], destination_share["id"]
        with errors.translated(share_id):
            there = self._neighbours.at(destination_share["host"])
            moves = self._shares.moves_to(there.shares)
            limited = self._wanted(destination_share)
            server_id = _server(there.shares, destination_share_server)
            moves.start(share_id, moving.Place(volume_id, server_id, limited=limited))
            self._copying.go_on(volume_id, lambda: moves.copy(share_id, volume_id))

    def migration_continue(
        self,
        context: Any,
        source_share: Any,
        destination_share: Any,
        source_snapshots: Any,
        snapshot_mappings: Any,
        share_server: Any = None,
        destination_share_server: Any = None,
    ) -> bool:
        """Tell whether most of a share has been copied; if that failed nothing of it is left."""
        share_id, volume_id = source_share["id"], destination_share["id"]
        with errors.translated(share_id):
            moves = self._moves_to(destination_share)
            try:
                return self._copying.go_on(volume_id, lambda: moves.copy(share_id, volume_id))
            except exceptions.ContainerStackError:
                moves.cancel(share_id, volume_id)
                raise

    def migration_get_progress(
        self,
        context: Any,
        source_share: Any,
        destination_share: Any,
        source_snapshots: Any,
        snapshot_mappings: Any,
        share_server: Any = None,
        destination_share_server: Any = None,
    ) -> dict[str, int]:
        """Return how much of a share has been copied, in per cent."""
        with errors.translated(source_share["id"]):
            moves = self._moves_to(destination_share)
            return {"total_progress": moves.progress(source_share["id"], destination_share["id"])}

    def migration_cancel(
        self,
        context: Any,
        source_share: Any,
        destination_share: Any,
        source_snapshots: Any,
        snapshot_mappings: Any,
        share_server: Any = None,
        destination_share_server: Any = None,
    ) -> None:
        """Leave a share where it is."""
        with errors.translated(source_share["id"]):
            self._moves_to(destination_share).cancel(source_share["id"], destination_share["id"])
        self._copying.forget(destination_share["id"])

    def migration_complete(
        self,
        context: Any,
        source_share: Any,
        destination_share: Any,
        source_snapshots: Any,
        snapshot_mappings: Any,
        share_server: Any = None,
        destination_share_server: Any = None,
    ) -> dict[str, Any]:
        """Bring the rest of a share over, remove it here, and return where clients find it."""
        with errors.translated(source_share["id"]):
            moves = self._moves_to(destination_share)
            moved = moves.complete(source_share["id"], destination_share["id"])
        return {"export_locations": answers.locations(moved)}

    def _moves_to(self, destination_share: Any) -> moving.Moves:
        return self._shares.moves_to(self._neighbours.at(destination_share["host"]).shares)

    def _check(self, shares: Iterable[Any], there: neighbours.Neighbour) -> None:
        """Refuse what can't be.

        :raises NotSupported: a back end has no share servers, or doesn't serve a protocol.
        :raises NoSpace: there is too little room.
        """
        if self._site or there.settings.site_addresses:
            raise exceptions.NotSupported("Shares on the host's own addresses don't move.")
        size = 0
        for share in shares:
            size += share["size"] * answers.GIB
            if share["share_proto"].upper() not in there.settings.protocols:
                raise exceptions.NotSupported(
                    f"Back end {there.group} doesn't serve {share['share_proto']}."
                )
        if (free := there.shares.capacity().free) < size:
            raise exceptions.NoSpace(f"Back end {there.group} has {free} bytes, not {size}.")


def _server(there: service.ShareService, share_server: Any) -> str:
    """Return the id of a server that runs, made again if it was removed by hand."""
    server_id = answers.server_id(share_server)
    ensuring.bring_back(there, server_id, share_server["backend_details"])
    return server_id


def _run(work: Callable[[], None], job: "futures.Future[None]") -> None:
    try:
        work()
        job.set_result(None)
    except BaseException as exc:
        job.set_exception(exc)
