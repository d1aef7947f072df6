# SPDX-License-Identifier: Apache-2.0
"""What servers are connected to: networks, volumes and shares."""

import platform
import sys
from typing import Any

import nova.conf
from nova import exception
from oslo_log import log

from container_stack import exceptions
from container_stack.drivers.nova import disks, errors, host, ports
from container_stack.servers import disk_usage, model
from container_stack.servers import disks as server_disks

CONF = nova.conf.CONF
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

    # Shares -------------------------------------------------------------------------------

    def mount_share(self, context: Any, instance: Any, share_mapping: Any) -> None:
        """Let a server have a share when it next starts; idempotent."""
        try:
            with self._servers.locked(instance.uuid):
                self._disks.connect(instance.uuid, [disks.share(share_mapping)])
        except exceptions.ContainerStackError as exc:
            raise exception.ShareMountError(
                share_id=share_mapping.share_id, server_id=instance.uuid, reason=str(exc)
            ) from exc

    def umount_share(self, context: Any, instance: Any, share_mapping: Any) -> bool:
        """Take a share from a server; idempotent. Tell whether another server here has it."""
        try:
            with self._servers.locked(instance.uuid):
                found = self._servers.life.find(instance.uuid)
                if found is None:
                    self._disks.disconnect(instance.uuid, [disks.share(share_mapping)])
                else:
                    self._disks.detach(instance.uuid, found, share_mapping.share_id)
            return self.is_share_mounted(share_mapping)
        except exceptions.ContainerStackError as exc:
            raise exception.ShareUmountError(
                share_id=share_mapping.share_id, server_id=instance.uuid, reason=str(exc)
            ) from exc

    def is_share_mounted(self, share_mapping: Any) -> bool:
        """Tell whether a server of this host has a share."""
        return bool(self._disks.users(share_mapping.share_id))

    # Volumes ------------------------------------------------------------------------------

    @property
    def _disks(self) -> server_disks.Disks:
        return self._parts.docker.disks

    def get_volume_connector(self, instance: Any) -> dict[str, Any]:
        """Return what a volume service must know of this host to let it in."""
        with errors.translated(instance):
            initiator = self._disks.initiator()
        return {
            "ip": CONF.my_block_storage_ip,
            "host": CONF.host,
            "multipath": CONF.docker.volume_multipath,
            "platform": platform.machine(),
            "os_type": sys.platform,
            **({"initiator": initiator} if initiator else {}),
        }

    def extend_volume(
        self, context: Any, connection_info: Any, instance: Any, requested_size: int
    ) -> None:
        """Let a server see that its volume has grown, and its file system if it is mounted."""
        with self._changing(instance):
            found = disks.disk(connection_info, "")
            self._disks.extend(instance.uuid, found.id)

    def swap_volume(
        self,
        context: Any,
        old_connection_info: Any,
        new_connection_info: Any,
        instance: Any,
        mountpoint: str,
        resize_to: int,
    ) -> None:
        """Refuse it in words; Nova gives back the new volume, and the old one stays.

        A process of the server that has the old device open would go on writing to that.
        """
        with errors.translated(instance):
            raise exceptions.NotSupported(
                f"The volume at {mountpoint} can't be swapped for another while a container has "
                "it: detach it, let the volume service move it, and attach it again."
            )

    def get_all_volume_usage(self, context: Any, compute_host_bdms: Any) -> list[dict[str, Any]]:
        """Return what the volumes of this host's servers have seen."""
        return [
            disks.used(bdm.volume_id, each["instance"], measured)
            for each in compute_host_bdms
            for bdm in each["instance_bdms"]
            if (measured := disk_usage.measure(bdm.volume_id))
        ]

    def block_stats(self, instance: Any, disk_id: str) -> list[int] | None:
        """Return what one volume of a server has seen, before it is detached.

        :param disk_id: its device, without the directory; other disks have no figures.
        """
        found = self._disks.named(instance.uuid, disk_id)
        measured = disk_usage.measure(found) if found else None
        return None if measured is None else disks.counters(measured)

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
