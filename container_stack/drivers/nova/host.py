# SPDX-License-Identifier: Apache-2.0
"""The host's part of the driver: its start, its servers as a whole, and what it has for them."""

import contextlib
from collections.abc import Iterator
from typing import Any, ClassVar

import nova.conf
from nova.compute import power_state
from nova.virt import driver, hardware
from oslo_log import log

from container_stack.conf import nova as conf
from container_stack.conf import nova_options
from container_stack.drivers.nova import errors, lifecycle, parts, resources
from container_stack.servers import changes, model, service

CONF = nova.conf.CONF
LOG = log.getLogger(__name__)

POWER_STATES = {
    model.State.RUNNING: power_state.RUNNING,
    model.State.PAUSED: power_state.PAUSED,
    model.State.STOPPED: power_state.SHUTDOWN,
}


class HostDriver(driver.ComputeDriver):  # type: ignore[misc]
    """Everything of the contract that isn't about one server."""

    capabilities: ClassVar[dict[str, bool]] = {
        **driver.ComputeDriver.capabilities,
        "has_imagecache": True,
        "supports_attach_interface": True,
        "supports_evacuate": True,
        "supports_extend_volume": True,
        "supports_image_type_raw": True,
        "supports_multiattach": True,
        "supports_pcpus": True,
    }

    def __init__(self, virtapi: Any) -> None:
        super().__init__(virtapi)
        conf.register(CONF)
        self._host: str = CONF.host
        self._parts: parts.Parts
        self._lifecycle: lifecycle.Lifecycle
        self._watch: changes.Watch

    # Start and end ------------------------------------------------------------------------

    def init_host(self, host: str) -> None:
        """Refuse to start on a host that can't serve, and finish what a crash left."""
        self._host = host
        with errors.translated():
            self._parts = parts.open_parts(CONF, host)
            self._lifecycle = lifecycle.Lifecycle(self.emit_event, self._servers.plug_again)
            for words in self._parts.docker.start():
                LOG.info("Since the last end of this service: %(what)s", {"what": words})
            self._parts.glance.begun.start()
            if CONF.serial_console.enabled:
                self._parts.consoles.start()
            self._watch = changes.Watch(self._parts.engine, self._parts.owner, self._changed)
            self._watch.start()

    def cleanup_host(self, host: str) -> None:
        """Let go of everything; servers run on."""
        self._watch.stop()
        self._lifecycle.close()
        self._parts.close()

    @property
    def _servers(self) -> service.Servers:
        return self._parts.servers

    def _changed(self, change: model.Change) -> None:
        self._parts.standing.forget(change.server_id)
        self._lifecycle.changed(change)

    @contextlib.contextmanager
    def _changing(self, instance: Any) -> Iterator[None]:
        """Change a server: errors become Nova's, and nobody goes by what was before."""
        with errors.translated(instance), self._lifecycle.ours(instance.uuid):
            try:
                yield
            finally:
                self._parts.standing.forget(instance.uuid)

    # Servers as a whole -------------------------------------------------------------------

    def list_instances(self) -> list[str]:
        """Return the names of this host's servers, by one call to the engine."""
        with errors.translated():
            return [each.name for each in self._parts.standing.servers()]

    def list_instance_uuids(self) -> list[str]:
        """Return the ids of this host's servers, by one call to the engine.

        Also those that stand aside, or are on their way here: Nova destroys what is left of such a
        server that it has deleted, as it does with any other (``running_deleted_instance_action``).
        """
        with errors.translated():
            return sorted({*self._servers.ids(), *self._parts.glance.begun.servers()})

    def get_info(self, instance: Any, use_cache: bool = True) -> hardware.InstanceInfo:
        """Return a server's state, which Nova's sync of a thousand may take from one list."""
        with errors.translated(instance):
            if use_cache:
                state = self._parts.standing.state(instance.uuid)
            else:
                state = self._servers.get(instance.uuid).state
        return hardware.InstanceInfo(state=POWER_STATES[state])

    # What there is ------------------------------------------------------------------------

    def get_available_nodes(self, refresh: bool = False) -> list[str]:
        """Return the one node that this host is."""
        return [self._host]

    def get_available_resource(self, nodename: str) -> dict[str, Any]:
        """Return what this host has, by one call to the engine."""
        with errors.translated():
            info = self._parts.engine.info()
            return resources.node(nodename, info, _directory(info))

    def update_provider_tree(
        self, provider_tree: Any, nodename: str, allocations: Any = None
    ) -> None:
        """Tell placement what this host has, and what of it isn't for servers."""
        known = provider_tree.data(nodename).inventory
        with errors.translated():
            info = self._parts.engine.info()
            found = resources.inventory(
                info,
                _directory(info),
                self._get_allocation_ratios(known),
                self._get_reserved_host_disk_gb_from_config(),
                CONF.docker.gpus,
            )
        provider_tree.update_inventory(nodename, found)
        quota = self._servers.life.defaults.quota
        provider_tree.add_traits(nodename, *resources.traits(disk_quota=quota))
        if not quota:
            provider_tree.remove_traits(nodename, resources.DISK_QUOTA)

    def manage_image_cache(self, context: Any, all_instances: Any) -> None:
        """Remove images that no server needs any more, as ``[image_cache]`` has it."""
        with errors.translated():
            self._parts.glance.manage_cache(all_instances)

    def cache_image(self, context: Any, image_id: str) -> bool:
        """Download an image before any server wants it; tell whether that was needed."""
        with errors.translated():
            return self._parts.glance.cache(context, image_id)

    def get_host_ip_addr(self) -> str:
        """Return the address by which other hosts reach this one."""
        return str(CONF.my_ip)

    def get_host_uptime(self) -> str:
        """Return since when the host runs, and its load."""
        return resources.uptime()

    def get_host_cpu_stats(self) -> dict[str, int]:
        """Return what the host's CPUs have spent their time on."""
        return resources.cpu_times()


def _directory(info: Any) -> str:
    """Return the directory whose file system servers write to."""
    named: str = CONF.docker.root_directory
    return named if named != nova_options.ROOT_DIRECTORY else str(info["DockerRootDir"])
