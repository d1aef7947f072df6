# SPDX-License-Identifier: Apache-2.0
"""Servers that get another container: by a resize, a migration, a rebuild or a rescue.

Between two hosts a server's state goes through Glance, in an image that both may see as they act
for the same user, and that is deleted as soon as it has arrived. If it doesn't arrive, a hard
reboot on the new host tries again; see :mod:`begun`.
"""

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import nova.conf
from nova import exception, objects
from nova.compute import task_states, vm_states
from nova.virt import driver
from oslo_log import log

from container_stack.drivers.nova import attachments, begun, disks, plans
from container_stack.servers import model

CONF = nova.conf.CONF
LOG = log.getLogger(__name__)


class MovesDriver(attachments.AttachmentsDriver):
    """Everything of the contract that gives one server another container."""

    def _plan(
        self,
        instance: Any,
        image_meta: Any,
        network_info: Any,
        block_device_info: Any,
        secrets: plans.Secrets | None = None,
    ) -> model.Plan:
        """Return all that makes a server."""
        raise NotImplementedError

    def _standing(
        self, instance: Any, network_info: Any, block_device_info: Any = None
    ) -> model.Plan:
        """Return what a server needs whose container there is."""
        raise NotImplementedError

    # Resize and migration -----------------------------------------------------------------

    def migrate_disk_and_power_off(
        self,
        context: Any,
        instance: Any,
        dest: str,
        flavor: Any,
        network_info: Any,
        block_device_info: Any = None,
        timeout: int = 0,
        retry_interval: int = 0,
    ) -> str:
        """Stop a server and let its container stand aside, for a new one here or on ``dest``.

        :return: JSON for :meth:`finish_migration`, with the image that holds the server's state.
        :raises InstanceFaultRollback: the server is as it was.
        """
        plan = self._standing(instance, network_info, block_device_info)
        parcel = None
        with self._rolling_back(instance):
            disks.refuse_smaller(block_device_info, flavor.ephemeral_gb)
            self._parts.docker.moves.park(plan, timeout=timeout)
            if dest != self.get_host_ip_addr():
                try:
                    parcel = self._send(context, instance)
                except BaseException:
                    self._parts.docker.moves.revert(plan)
                    raise
        return json.dumps({"parcel": parcel})

    def finish_migration(
        self,
        context: Any,
        migration: Any,
        instance: Any,
        disk_info: str,
        network_info: Any,
        image_meta: Any,
        resize_instance: bool,
        allocations: Any,
        block_device_info: Any = None,
        power_on: bool = True,
        share_info: Any = None,
    ) -> None:
        """Make a server's new container of what its old one has written."""
        parcel = json.loads(disk_info)["parcel"]
        if parcel is not None:
            self._parts.glance.begun.note(parcel, instance.uuid, begun.Kind.PARCEL)
        with self._changing(instance):
            plan = self._plan(instance, image_meta, network_info, block_device_info)
            if parcel is None:
                self._parts.docker.moves.finish(plan, power_on=power_on)
            else:
                # What stands aside here is of an older move, which was given up.
                self._parts.docker.moves.confirm(instance.uuid)
                self._receive(context, plan, parcel, power_on=power_on)

    def confirm_migration(
        self, context: Any, migration: Any, instance: Any, network_info: Any
    ) -> None:
        """Remove the container that stood aside."""
        with self._changing(instance):
            self._parts.docker.moves.confirm(instance.uuid)
            self._parts.glance.begun.discard(context, instance.uuid)

    def finish_revert_migration(
        self,
        context: Any,
        instance: Any,
        network_info: Any,
        migration: Any,
        block_device_info: Any = None,
        power_on: bool = True,
        share_info: Any = None,
    ) -> None:
        """Let the container that stood aside be the server again."""
        with self._changing(instance):
            plan = self._standing(instance, network_info, block_device_info)
            self._parts.docker.moves.revert(plan, power_on=power_on)
            self._parts.glance.begun.discard(context, instance.uuid)

    def _finished(
        self, context: Any, instance: Any, network_info: Any, block_device_info: Any
    ) -> bool:
        """Finish a move that a crash or a failure interrupted, and return whether there was one.

        Nova knows no more of it, and so it is confirmed, as far as that is this host's to do.
        """
        moves = self._parts.docker.moves
        unfinished, parcel = moves.is_unfinished(instance.uuid), None
        if not unfinished and self._servers.life.find(instance.uuid) is None:
            parcel = self._parts.glance.begun.parcel(instance.uuid)
        if not unfinished and parcel is None:
            return False
        plan = self._plan(instance, instance.image_meta, network_info, block_device_info)
        if parcel is not None:
            self._receive(context, plan, parcel)
        else:
            moves.finish(plan)
            moves.confirm(instance.uuid)
        return True

    def _destroyed(self, context: Any, instance: Any) -> None:
        """Remove what a server that was destroyed here has besides, unless it is to come back."""
        deleted = instance.vm_state == vm_states.DELETED
        if instance.task_state == task_states.RESIZE_REVERTING and not deleted:
            self._parts.docker.moves.tidy(instance.uuid)
        else:
            self._parts.docker.moves.confirm(instance.uuid)
            self._parts.docker.rescues.tidy(instance.uuid)
        self._parts.glance.begun.discard(context, instance.uuid)

    def delete_instance_files(self, instance: Any) -> bool:
        """Remove what a server that was deleted has left here, as after a failed migration."""
        with self._changing(instance):
            self._servers.destroy(instance.uuid)
            self._parts.docker.moves.confirm(instance.uuid)
            self._parts.docker.rescues.tidy(instance.uuid)
            self._parts.glance.begun.discard(None, instance.uuid)
        return True

    def _send(self, context: Any, instance: Any) -> str:
        with self._parts.docker.moves.sending(instance.uuid) as parcel:
            name = f"{instance.name} on its way to another host"
            return self._parts.glance.send_parcel(context, name, instance.uuid, parcel)

    def _receive(
        self, context: Any, plan: model.Plan, parcel: str, *, power_on: bool = True
    ) -> None:
        """Make a server of a parcel, which stays if that fails."""
        keeper = self._parts.glance
        received = keeper.parcel(keeper.begun.who_sees(context, parcel), parcel)
        self._parts.docker.moves.receive(plan, received, power_on=power_on)
        keeper.begun.discard(context, plan.id)

    @contextlib.contextmanager
    def _rolling_back(self, instance: Any) -> Iterator[None]:
        """Tell Nova of a failure that the server is what it was."""
        try:
            with self._changing(instance):
                yield
        except (exception.InstanceNotFound, exception.HypervisorUnavailable):
            raise
        except exception.NovaException as exc:
            raise exception.InstanceFaultRollback(inner_exception=exc) from exc

    # Rebuild ------------------------------------------------------------------------------

    def rebuild(
        self,
        context: Any,
        instance: Any,
        image_meta: Any,
        injected_files: Any,
        admin_password: str | None,
        allocations: Any,
        bdms: Any,
        detach_block_devices: Any,
        attach_block_devices: Any,
        network_info: Any = None,
        evacuate: bool = False,
        block_device_info: Any = None,
        preserve_ephemeral: bool = False,
        accel_uuids: Any = None,
        reimage_boot_volume: bool = False,
    ) -> None:
        """Make a server anew of an image; if that fails, its container is what it was.

        What else is called so is done by Nova: an evacuation builds the server on this host.
        """
        if evacuate or preserve_ephemeral or reimage_boot_volume:
            raise NotImplementedError
        with self._changing(instance):
            before = self._standing(instance, network_info, block_device_info)
            secrets = plans.Secrets(tuple(injected_files or ()), admin_password)
            plan = self._plan(instance, image_meta, network_info, block_device_info, secrets)
            image_id = self._parts.glance.ensure(context, image_meta.id, instance.trusted_certs)
            instance.task_state = task_states.REBUILD_SPAWNING
            instance.save(expected_task_state=[task_states.REBUILDING])
            self._parts.docker.moves.rebuild(before, plan, image_id, timeout=CONF.shutdown_timeout)

    # Rescue -------------------------------------------------------------------------------

    def rescue(
        self,
        context: Any,
        instance: Any,
        network_info: Any,
        image_meta: Any,
        rescue_password: str | None,
        block_device_info: Any,
        share_info: Any,
    ) -> None:
        """Run a rescue image in a server's stead, which has the server's root at /rescued."""
        with self._changing(instance):
            secrets = plans.Secrets((), rescue_password)
            plan = self._plan(instance, image_meta, network_info, block_device_info, secrets)
            image_id = self._parts.glance.ensure(context, image_meta.id, instance.trusted_certs)
            self._parts.docker.rescues.rescue(plan, image_id)

    def unrescue(self, context: Any, instance: Any) -> None:
        """Let a rescued server run again."""
        bdms = objects.BlockDeviceMappingList.get_by_instance_uuid(context, instance.uuid)
        block_device_info = driver.get_block_device_info(instance, bdms)
        with self._changing(instance):
            plan = self._standing(instance, instance.get_network_info(), block_device_info)
            self._parts.docker.rescues.unrescue(plan)
