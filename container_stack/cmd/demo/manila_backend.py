# SPDX-License-Identifier: Apache-2.0
"""Manila's driver as Manila loads it, without Manila's services, database and queues.

What Manila's share manager would pass is built here: shares and rules as mappings, and the
network information of a standalone network without hardware addresses.
"""

import ipaddress
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from manila import context
from manila.common import config as manila_config
from manila.share import configuration, driver, manager
from oslo_utils import importutils

from container_stack import plugins

CONF_FILE = """\
# What an operator writes in manila.conf; the demo's own values in place of defaults.
[DEFAULT]
enabled_share_backends = {section}
enabled_share_protocols = CIFS

[{section}]
share_driver = container_stack.drivers.manila.ContainerShareDriver
driver_handles_share_servers = True
share_backend_name = DEMO
container_image_name = {image}
container_stack_docker_url = {docker_url}
container_stack_state_dir = {state_dir}
container_stack_root_helper = {root_helper}
"""


class PrivateStorage:
    """Where a driver may keep values for each resource; Manila's own is in its database."""

    def __init__(self) -> None:
        self._values: dict[str, dict[str, Any]] = {}

    def get(self, entity_id: str, key: str | None = None, default: Any = None) -> Any:
        """Return one value of a resource, or all of them."""
        values = self._values.get(entity_id, {})
        return dict(values) if key is None else values.get(key, default)

    def update(
        self, entity_id: str, details: Mapping[str, Any], delete_existing: bool = False
    ) -> None:
        """Add values to a resource, or put them in place of what it had."""
        if delete_existing:
            self.delete(entity_id)
        self._values.setdefault(entity_id, {}).update(details)

    def delete(self, entity_id: str, key: str | None = None) -> None:
        """Forget one value of a resource, or all of them."""
        if key is None:
            self._values.pop(entity_id, None)
        else:
            self._values.get(entity_id, {}).pop(key, None)


class Backend:
    """One share, on one share server, through the driver.

    :param conf_file: as written from :data:`CONF_FILE`.
    """

    def __init__(self, conf_file: Path, section: str) -> None:
        self._context = context.get_admin_context()
        self._driver = _load(conf_file, section)
        self._server: dict[str, Any] = {"id": str(uuid.uuid4()), "backend_details": {}}
        self._share: dict[str, Any] = {
            "id": str(uuid.uuid4()),
            "share_proto": "CIFS",
            "share_server_id": self._server["id"],
            "share_server": self._server,
            "size": 1,
        }

    def start(self) -> Mapping[str, Any]:
        """Start the driver as the share manager does; return its first pool."""
        self._driver.do_setup(self._context)
        self._driver.check_for_setup_error()
        self._driver.get_backend_info(self._context)
        pool: Mapping[str, Any] = self._driver.get_share_stats(refresh=True)["pools"][0]
        return pool

    def create_server(self, subnet: ipaddress.IPv4Network) -> str:
        """Set up the share server; return its address."""
        info = _network_info(self._server["id"], subnet)
        self._server["backend_details"] = self._driver.setup_server(info)
        return str(info[0]["network_allocations"][0]["ip_address"])

    def create_share(self, size_gb: int) -> str:
        """Create the share; return its export location."""
        self._share["size"] = size_gb
        locations = self._driver.create_share(self._context, self._share, self._server)
        location: str = locations[0]["path"]
        return location

    def extend_share(self, size_gb: int) -> None:
        """Extend the share."""
        self._driver.extend_share(self._share, size_gb, self._server)

    def set_rules(self, users: Mapping[str, str]) -> dict[str, str]:
        """Let in these users at these levels and nobody else; return their passwords."""
        rules = [
            {"access_id": user, "access_type": "user", "access_to": user, "access_level": level}
            for user, level in users.items()
        ]
        answer = self._driver.update_access(
            self._context, self._share, rules, [], [], [], self._server
        )
        return {user: values.get("access_key", "") for user, values in answer.items()}

    def delete_share(self) -> None:
        """Delete the share with all that is in it."""
        self._driver.delete_share(self._context, self._share, self._server)

    def delete_server(self) -> None:
        """Tear the share server down."""
        self._driver.teardown_server(self._server["backend_details"], [])


def _load(conf_file: Path, section: str) -> driver.ShareDriver:
    files = [str(conf_file)]
    manila_config.CONF([], project="manila", default_config_files=files, default_config_dirs=[])
    values = configuration.Configuration(manager.share_manager_opts, config_group=section)
    loaded = plugins.load(plugins.DRIVERS, "manila")
    if importutils.import_class(values.share_driver) is not loaded:
        raise TypeError(f"{values.share_driver} isn't what the entry point loads.")
    made: driver.ShareDriver = loaded(private_storage=PrivateStorage(), configuration=values)
    return made


def _network_info(server_id: str, subnet: ipaddress.IPv4Network) -> list[dict[str, Any]]:
    allocation = {
        "id": str(uuid.uuid4()),
        "ip_address": str(subnet[10]),
        "cidr": str(subnet),
        "gateway": str(subnet[1]),
        "mtu": 1500,
        "ip_version": 4,
        "mac_address": None,
        "network_type": None,
        "segmentation_id": None,
    }
    return [
        {
            "server_id": server_id,
            "segmentation_id": None,
            "cidr": str(subnet),
            "neutron_net_id": None,
            "neutron_subnet_id": None,
            "security_services": [],
            "network_allocations": [allocation],
            "admin_network_allocations": [],
            "backend_details": {},
            "network_type": None,
            "subnet_metadata": {},
        }
    ]
