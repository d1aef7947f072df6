# SPDX-License-Identifier: Apache-2.0
"""What servers are connected to: networks, volumes and shares."""

from typing import Any

from nova import exception
from oslo_log import log

from container_stack import exceptions
from container_stack.drivers.nova import disks, errors, host, ports
from container_stack.servers import model

LOG = log.getLogger(__name__)


class AttachmentsDriver(host.HostDriver):
    """Everything of the contract that connects one server to something."""

    # Interfaces ---------------------------------------------------------------------------

    def attach_interface(self, context: Any, instance: Any, image_meta: Any, vif: Any) -> None:
        """Give a server one more port, at once if it runs."""
        try:
            with self._changing(instance):
                self._servers.attach_port(instance.uuid, ports.port(vif))
        except exception.InstanceNotFound:
            raise
        except exception.NovaException as exc:
            LOG.error("Could not attach a port: %(why)s", {"why": exc}, instance=instance)
            raise exception.InterfaceAttachFailed(instance_uuid=instance.uuid) from exc

    def detach_interface(self, context: Any, instance: Any, vif: Any) -> None:
        """Take a port from a server; idempotent."""
        try:
            with self._changing(instance):
                self._servers.detach_port(instance.uuid, vif["id"])
        except exception.InstanceNotFound:
            raise
        except exception.NovaException as exc:
            LOG.error("Could not detach a port: %(why)s", {"why": exc}, instance=instance)
            raise exception.InterfaceDetachFailed(instance_uuid=instance.uuid) from exc

    def plug_vifs(self, instance: Any, network_info: Any) -> None:
        """Plug what of a server's ports isn't plugged; nothing for one that doesn't run.

        nova-compute asks this of every server when it starts, and dies of errors that it doesn't
        know.
        """
        try:
            self._servers.plug(self._parts.plans.standing(instance, network_info))
        except model.ServerNotFound:
            LOG.info("There is no container to plug", instance=instance)
        except exceptions.ContainerStackError as exc:
            LOG.error("Could not plug its ports: %(why)s", {"why": exc}, instance=instance)
            raise exception.VirtualInterfacePlugException() from exc

    def unplug_vifs(self, instance: Any, network_info: Any) -> None:
        """Unplug a server's ports; idempotent."""
        with errors.translated(instance):
            self._servers.unplug(instance.uuid, ports.ports(network_info))

    # Volumes and shares -------------------------------------------------------------------

    def attach_volume(
        self,
        context: Any,
        connection_info: Any,
        instance: Any,
        mountpoint: str,
        disk_bus: str | None = None,
        device_type: str | None = None,
        encryption: Any = None,
    ) -> None:
        """Give a server one more volume, at once if it runs."""
        with self._changing(instance):
            if encryption:
                raise exceptions.NotSupported("Encrypted volumes can't be attached to containers.")
            self._servers.attach_disk(instance.uuid, disks.disk(connection_info, mountpoint))

    def detach_volume(
        self,
        context: Any,
        connection_info: Any,
        instance: Any,
        mountpoint: str,
        encryption: Any = None,
    ) -> None:
        """Take a volume from a server; idempotent."""
        with self._changing(instance):
            self._servers.detach_disk(instance.uuid, disks.disk(connection_info, mountpoint))
