# SPDX-License-Identifier: Apache-2.0
"""What Manila asks when an administrator has it forget shares and servers, or take them up."""

from typing import Any

from manila import exception
from oslo_log import log

from container_stack import exceptions
from container_stack.drivers.manila import answers, errors, qos
from container_stack.shares import model, service

LOG = log.getLogger(__name__)


class ManagingCalls(qos.Qos):
    """The part of the driver that Manila calls to manage and unmanage."""

    _shares: service.ShareService
    _site: dict[str, Any] | None

    def manage_existing(self, share: Any, driver_options: Any) -> dict[str, Any]:
        """Take up a share where Manila has no share servers."""
        return self.manage_existing_with_server(share, driver_options, self._site)

    def unmanage(self, share: Any) -> None:
        """Forget a share where Manila has no share servers."""
        self.unmanage_with_server(share)

    def manage_existing_with_server(
        self, share: Any, driver_options: Any, share_server: Any = None
    ) -> dict[str, Any]:
        """Take up a share by its export location, and tell its size."""
        locations = [each["path"] for each in share["export_locations"]]
        try:
            found = self._shares.adoption.manage(
                share["id"], answers.server_id(share_server), locations[0]
            )
        except exceptions.ContainerStackError as exc:
            raise exception.ManageInvalidShare(reason=str(exc)) from exc
        if found.protocol != share["share_proto"].upper():
            self._shares.adoption.unmanage(share["id"])
            raise exception.ManageInvalidShare(
                reason=f"it is a {found.protocol} share, not one of {share['share_proto']}"
            )
        self._limit(share)
        return {
            "size": answers.size_gb(found.size),
            "export_locations": answers.locations(found),
        }

    def unmanage_with_server(self, share: Any, share_server: Any = None) -> None:
        """Forget a share, which stays as it is for those whom its rules name."""
        try:
            self._shares.adoption.unmanage(share["id"])
        except model.ShareNotFound:
            # It was never taken up: that was refused.
            LOG.warning("Share %(id)s is none of this back end's", {"id": share["id"]})
        except exceptions.ContainerStackError as exc:
            raise exception.UnmanageInvalidShare(reason=str(exc)) from exc

    def get_share_server_network_info(
        self, context: Any, share_server: Any, identifier: str, driver_options: Any
    ) -> list[str]:
        """Return the addresses of a server that is to be managed."""
        found = self._server(identifier)
        return [each.address for each in found.spec.interfaces]

    def manage_server(
        self, context: Any, share_server: Any, identifier: str, driver_options: Any
    ) -> tuple[str, dict[str, str]]:
        """Take up a server by its identifier, with the shares that are on it left unmanaged."""
        details = answers.server_details(self._server(identifier))
        return details["identifier"], details

    def unmanage_server(self, server_details: Any, security_services: Any = None) -> None:
        """Forget a server, which serves on."""

    def _server(self, identifier: str) -> model.Server:
        try:
            with errors.translated():
                return answers.by_identifier(self._shares.servers.list(), identifier)
        except exception.ManilaException as exc:
            raise exception.ManageShareServerError(reason=str(exc)) from exc
