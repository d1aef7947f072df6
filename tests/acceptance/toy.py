# SPDX-License-Identifier: Apache-2.0
"""A share driver that only pretends, to prove the harness without any container."""

from typing import Any

from manila.share import driver
from oslo_config import cfg

_OPTIONS = [
    cfg.FloatOpt("toy_total_gb", default=11.0, help="What the pool claims to hold."),
    cfg.FloatOpt("toy_free_gb", default=7.0, help="What the pool claims to have left."),
]


class ToyDriver(driver.ShareDriver):  # type: ignore[misc]
    """Answers everything at once; a rule's key is the user's name backwards."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(True, *args, config_opts=[_OPTIONS], **kwargs)

    def get_network_allocations_number(self) -> int:
        return 1

    def _setup_server(self, network_info: Any, metadata: Any = None) -> dict[str, str]:
        allocation = network_info[0]["network_allocations"][0]
        server = network_info[0]["server_id"]
        return {"identifier": f"toy-{server}", "address": allocation["ip_address"]}

    def _teardown_server(self, server_details: Any, security_services: Any = None) -> None:
        pass

    def create_share(self, context: Any, share: Any, share_server: Any = None) -> Any:
        address = share_server["backend_details"]["address"]
        return [{"path": rf"\\{address}\toy-{share['id']}", "is_admin_only": False, "metadata": {}}]

    def delete_share(self, context: Any, share: Any, share_server: Any = None) -> None:
        pass

    def extend_share(self, share: Any, new_size: int, share_server: Any = None) -> None:
        pass

    def update_access(
        self,
        context: Any,
        share: Any,
        access_rules: Any,
        add_rules: Any,
        delete_rules: Any,
        update_rules: Any,
        share_server: Any = None,
    ) -> dict[str, dict[str, str]]:
        keys = {}
        for rule in add_rules:
            if rule["access_type"] == "user":
                keys[rule["access_id"]] = {"access_key": rule["access_to"][::-1]}
            else:
                keys[rule["access_id"]] = {"state": "error"}
        return keys

    def _update_share_stats(self, data: Any = None) -> None:
        pool = {
            "pool_name": "toys",
            "total_capacity_gb": self.configuration.toy_total_gb,
            "free_capacity_gb": self.configuration.toy_free_gb,
            "reserved_percentage": 0,
            "reserved_snapshot_percentage": 0,
            "reserved_share_extend_percentage": 0,
        }
        super()._update_share_stats(
            {"driver_name": "Toy", "storage_protocol": "CIFS", "pools": [pool]}
        )
