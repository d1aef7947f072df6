# SPDX-License-Identifier: Apache-2.0
"""What Manila asks of snapshots.

Manila's id of a snapshot is its id here, unless an administrator has managed it: then its provider
location says what it is called.
"""

from collections.abc import Sequence
from typing import Any

from manila import exception
from manila.common import constants
from oslo_log import log

from container_stack import exceptions
from container_stack.drivers.manila import answers, copying, errors, qos
from container_stack.shares import model, protocol, service

LOG = log.getLogger(__name__)


class SnapshotCalls(qos.Qos):
    """The part of the driver that Manila calls about snapshots."""

    _shares: service.ShareService
    _copies: copying.Copies
    _site: dict[str, Any] | None

    def create_snapshot(
        self, context: Any, snapshot: Any, share_server: Any = None
    ) -> dict[str, Any]:
        """Keep a share's content as it is now."""
        with errors.translated(snapshot["share_instance_id"]):
            made = self._shares.snapshots.create(snapshot["share_instance_id"], snapshot["id"])
        return {
            "provider_location": made.id,
            "export_locations": answers.snapshot_locations(made),
        }

    def delete_snapshot(self, context: Any, snapshot: Any, share_server: Any = None) -> None:
        """Remove a snapshot, if there is one."""
        try:
            with errors.translated():
                self._shares.snapshots.delete(_name(snapshot))
        except exception.SnapshotResourceNotFound:
            LOG.warning("Snapshot %(id)s is gone already", {"id": snapshot["id"]})

    def create_share_from_snapshot(
        self,
        context: Any,
        share: Any,
        snapshot: Any,
        share_server: Any = None,
        parent_share: Any = None,
    ) -> dict[str, Any]:
        """Make a share with a snapshot's content; a long copy goes on after this has returned."""
        with errors.translated(share["id"]):
            limited = self._wanted(share)
        wanted = copying.Wanted(
            share["id"],
            answers.server_id(share_server or self._site),
            share["size"] * answers.GIB,
            share["share_proto"].upper(),
            _name(snapshot),
            limited.to_label() if limited else "",
        )
        return self._answer(self._copies.begin(wanted))

    def get_share_status(self, share: Any, share_server: Any = None) -> dict[str, Any]:
        """Tell how far a share that is made from a snapshot has come."""
        with errors.translated(share["id"]):
            return self._answer(self._copies.look(share["id"]))

    def _answer(self, job: copying.Job) -> dict[str, Any]:
        if not job.done():
            return {"status": constants.STATUS_CREATING_FROM_SNAPSHOT}
        with errors.translated():
            made = job.result()
        return {
            "status": constants.STATUS_AVAILABLE,
            "export_locations": answers.locations(made),
        }

    def revert_to_snapshot(
        self,
        context: Any,
        snapshot: Any,
        share_access_rules: Sequence[Any],
        snapshot_access_rules: Sequence[Any],
        share_server: Any = None,
    ) -> None:
        """Put a share back to its latest snapshot; its rules stay as they are."""
        share_id = snapshot["share_instance_id"]
        with errors.translated(share_id):
            self._shares.snapshots.revert(share_id, _name(snapshot))

    def snapshot_update_access(
        self,
        context: Any,
        snapshot: Any,
        access_rules: Sequence[Any],
        add_rules: Sequence[Any],
        delete_rules: Sequence[Any],
        share_server: Any = None,
    ) -> None:
        """Make the rules of a mounted snapshot exactly ``access_rules``.

        Manila has no answer for each rule: when one can't be obeyed those that are new go to error,
        and all others stay as they are.
        """
        rules = [protocol.Rule(each["access_type"], each["access_to"]) for each in access_rules]
        if rules and self._site:
            raise exception.InvalidSnapshotAccess(reason="all projects share this server")
        try:
            with errors.translated(snapshot["share_instance_id"]):
                self._shares.snapshots.set_rules(_name(snapshot), rules)
        except exception.SnapshotResourceNotFound:
            if rules:
                raise
        except (exception.InvalidInput, exception.ShareBackendException) as exc:
            raise exception.InvalidSnapshotAccess(reason=str(exc)) from exc

    def manage_existing_snapshot(self, snapshot: Any, driver_options: Any) -> dict[str, Any]:
        """Take up a snapshot where Manila has no share servers."""
        return self.manage_existing_snapshot_with_server(snapshot, driver_options)

    def unmanage_snapshot(self, snapshot: Any) -> None:
        """Forget a snapshot where Manila has no share servers."""
        self.unmanage_snapshot_with_server(snapshot)

    def manage_existing_snapshot_with_server(
        self, snapshot: Any, driver_options: Any, share_server: Any = None
    ) -> dict[str, Any]:
        """Take up a snapshot that Manila has forgotten, by its provider location."""
        location = snapshot["provider_location"]
        try:
            found = self._shares.snapshots.find(snapshot["share_instance_id"], location)
        except exceptions.ContainerStackError as exc:
            raise exception.ManageInvalidShareSnapshot(reason=str(exc)) from exc
        return {
            "size": answers.size_gb(found.size),
            "provider_location": found.id,
            "export_locations": answers.snapshot_locations(found),
        }

    def unmanage_snapshot_with_server(self, snapshot: Any, share_server: Any = None) -> None:
        """Leave a snapshot alone, in which nobody may look any more."""
        try:
            self._shares.snapshots.set_rules(_name(snapshot), [])
        except model.SnapshotNotFound:
            LOG.warning("Snapshot %(id)s is gone already", {"id": snapshot["id"]})
        except exceptions.ContainerStackError as exc:
            raise exception.UnmanageInvalidShareSnapshot(reason=str(exc)) from exc


def _name(snapshot: Any) -> str:
    """Return what a snapshot is called here."""
    return str(snapshot["provider_location"] or snapshot["id"])
