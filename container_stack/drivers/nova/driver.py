# SPDX-License-Identifier: Apache-2.0
"""Nova: containers as servers.

In nova.conf::

    compute_driver = container_stack.DockerDriver

This module turns Nova's words into those of :mod:`container_stack.servers` and back. The contract
is that of ``nova.virt.driver.ComputeDriver`` in Nova 34; what isn't here, Nova does without.
"""

import dataclasses
from typing import Any

import nova.conf
from nova import exception
from nova.compute import task_states
from nova.console import type as console_type
from oslo_log import log

from container_stack import exceptions
from container_stack.drivers.nova import (
    diagnostics,
    disks,
    errors,
    gpus,
    limits,
    moves,
    plans,
    ports,
    waiting,
)
from container_stack.servers import model, passwords

CONF = nova.conf.CONF
LOG = log.getLogger(__name__)

#: Bytes of a console that Nova gets at most, the last ones, as they go through its message queue.
CONSOLE = 1024**2


class DockerDriver(moves.MovesDriver):
    """Everything of the contract that is the life of one server."""

    def prepare_for_spawn(self, instance: Any) -> None:
        """Refuse what no container can have, before Nova makes volumes for it."""
        try:
            disks.refuse_imageless(instance)
            limits.refuse_pci(instance)
        except exceptions.InvalidRequest as exc:
            raise exception.InstanceUnacceptable(
                instance_id=instance.uuid, reason=str(exc)
            ) from exc

    def spawn(
        self,
        context: Any,
        instance: Any,
        image_meta: Any,
        injected_files: Any,
        admin_password: str | None,
        allocations: Any,
        network_info: Any = None,
        block_device_info: Any = None,
        power_on: bool = True,
        accel_info: Any = None,
    ) -> None:
        """Make a server; if that fails, nothing remains."""
        with self._changing(instance):
            secrets = plans.Secrets(tuple(injected_files or ()), admin_password)
            plan = self._plan(instance, image_meta, network_info, block_device_info, secrets)
            self._servers.spawn(
                plan,
                self._parts.glance.ensure(context, image_meta.id, instance.trusted_certs),
                power_on=power_on,
                plugging=waiting.until_active(self.virtapi, instance, network_info),
            )

    def _plan(
        self,
        instance: Any,
        image_meta: Any,
        network_info: Any,
        block_device_info: Any,
        secrets: plans.Secrets | None = None,
    ) -> model.Plan:
        plan = self._parts.plans.plan(
            instance, image_meta, network_info, block_device_info, secrets
        )
        chosen = self._parts.devices.choose(instance.uuid, limits.gpus_wanted(instance))
        if not chosen:
            return plan
        return dataclasses.replace(plan, gpus=chosen, labels={gpus.LABEL: ",".join(chosen)})

    def destroy(
        self,
        context: Any,
        instance: Any,
        network_info: Any,
        block_device_info: Any = None,
        destroy_disks: bool = True,
        destroy_secrets: bool = True,
    ) -> None:
        """Remove a server, if there is one, with its ports and disks on this host."""
        with self._changing(instance):
            self._servers.destroy(
                instance.uuid,
                ports=ports.ports(network_info),
                disks=disks.disks(block_device_info),
            )
            self._destroyed(context, instance)
            self._parts.consoles.remove(instance.uuid)
            self._parts.devices.give_back(instance.uuid)

    def cleanup(
        self,
        context: Any,
        instance: Any,
        network_info: Any,
        block_device_info: Any = None,
        destroy_disks: bool = True,
        migrate_data: Any = None,
        destroy_vifs: bool = True,
        destroy_secrets: bool = True,
    ) -> None:
        """Remove what is left of a server that isn't here any more."""
        self.destroy(context, instance, network_info, block_device_info)

    # Power --------------------------------------------------------------------------------

    def power_off(self, instance: Any, timeout: int = 0, retry_interval: int = 0) -> None:
        """Stop a server, which has ``timeout`` seconds to end by itself."""
        with self._changing(instance):
            self._servers.power_off(instance.uuid, timeout)

    def power_on(
        self,
        context: Any,
        instance: Any,
        network_info: Any,
        block_device_info: Any = None,
        accel_info: Any = None,
        share_info: Any = None,
    ) -> None:
        """Start a server with its ports, volumes and shares."""
        with self._changing(instance):
            self._servers.power_on(self._standing(instance, network_info, block_device_info))

    def reboot(
        self,
        context: Any,
        instance: Any,
        network_info: Any,
        reboot_type: str,
        block_device_info: Any = None,
        bad_volumes_callback: Any = None,
        accel_info: Any = None,
        share_info: Any = None,
    ) -> None:
        """Stop and start a server; a soft reboot lets it end by itself first."""
        hard = reboot_type == "HARD"
        with self._changing(instance):
            if hard and self._finished(context, instance, network_info, block_device_info):
                return
            self._servers.reboot(
                self._standing(instance, network_info, block_device_info),
                hard=hard,
                timeout=CONF.shutdown_timeout,
            )

    def _standing(
        self, instance: Any, network_info: Any, block_device_info: Any = None
    ) -> model.Plan:
        return self._parts.plans.standing(instance, network_info, block_device_info)

    def pause(self, instance: Any) -> None:
        """Let nothing of a server run on."""
        with self._changing(instance):
            self._servers.pause(instance.uuid)

    def unpause(self, instance: Any) -> None:
        """Let a server run on."""
        with self._changing(instance):
            self._servers.unpause(instance.uuid)

    def suspend(self, context: Any, instance: Any) -> None:
        """Refuse it in words; the server goes on as it was."""
        raise exception.InstanceFaultRollback(
            inner_exception=exception.NovaException(
                "Containers can't be suspended, as no checkpoints are taken of them: pause the "
                "server, or stop it."
            )
        )

    def resume_state_on_host_boot(
        self,
        context: Any,
        instance: Any,
        network_info: Any,
        share_info: Any,
        block_device_info: Any = None,
    ) -> None:
        """Start a server that ran when the host went down."""
        self.power_on(context, instance, network_info, block_device_info, share_info=share_info)

    # Snapshots ----------------------------------------------------------------------------

    def snapshot(self, context: Any, instance: Any, image_id: str, update_task_state: Any) -> None:
        """Put what a server has written into an image of Glance's, in one stream."""
        update_task_state(task_state=task_states.IMAGE_PENDING_UPLOAD)
        try:
            with (
                self._parts.glance.begun.snapshot(image_id, instance.uuid),
                errors.translated(instance),
                self._parts.docker.snapshots.taking(instance.uuid) as taken,
            ):
                update_task_state(
                    task_state=task_states.IMAGE_UPLOADING,
                    expected_state=task_states.IMAGE_PENDING_UPLOAD,
                )
                self._parts.glance.upload(context, image_id, taken)
        except exception.InstanceNotFound as exc:
            raise exception.InstanceNotRunning(instance_id=instance.uuid) from exc

    # Looking in ---------------------------------------------------------------------------

    def get_console_output(self, context: Any, instance: Any) -> str:
        """Return what a server wrote to its console, its end where that is very much."""
        with errors.translated(instance):
            written = self._servers.console(instance.uuid)
        # Nova splits it at line ends, and takes what is behind the last one for a line.
        return written[-CONSOLE:].removesuffix(b"\n").decode(errors="replace")

    def get_serial_console(self, context: Any, instance: Any) -> console_type.ConsoleSerial:
        """Return where nova-serialproxy finds a shell in a server."""
        if not CONF.serial_console.enabled:
            raise exception.ConsoleTypeUnavailable(console_type="serial")
        with errors.translated(instance):
            port = self._parts.consoles.port(instance.uuid)
        return console_type.ConsoleSerial(CONF.serial_console.proxyclient_address, port)

    def get_instance_diagnostics(self, instance: Any) -> Any:
        """Return what a server takes, in the words of Nova's API since 2.48."""
        with errors.translated(instance):
            measured = diagnostics.measure(self._parts, instance)
        return diagnostics.described(measured, instance)

    def get_diagnostics(self, instance: Any) -> dict[str, int]:
        """Return what a server takes, in the words of Nova's API before 2.48."""
        with errors.translated(instance):
            return diagnostics.flat(diagnostics.measure(self._parts, instance))

    def set_admin_password(self, instance: Any, new_pass: str) -> None:
        """Give the server's root another password."""
        try:
            with errors.translated(instance):
                container = self._servers.get(instance.uuid).container_id
                passwords.set_password(self._parts.engine, container, new_pass)
        except exception.NovaException as exc:
            if isinstance(exc.__cause__, exceptions.NotSupported):
                raise exception.SetAdminPasswdNotSupported() from exc
            raise
