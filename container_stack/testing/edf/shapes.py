# SPDX-License-Identifier: Apache-2.0
"""What the array answers: its things as JSON."""

from typing import Any

from container_stack.testing.edf import array, records

Record = records.Record
Json = dict[str, Any]


class Shapes:
    """Gives each thing its shape."""

    def __init__(self, made: array.Array) -> None:
        self._array = made

    def app_instance(self, instance: Record) -> Json:
        online = instance["admin_state"] == "online"
        return {
            "path": _instance_path(instance),
            "name": instance["name"],
            "id": instance["uuid"],
            "uuid": instance["uuid"],
            "tenant": instance["tenant"],
            "descr": instance["descr"],
            "health": "ok",
            "app_template": {},
            "create_mode": instance["create_mode"],
            "admin_state": instance["admin_state"],
            "op_state": self._state(instance["uuid"], online),
            "storage_instances": [self.storage_instance(instance)],
            "snapshots": [],
            **instance["source"],
        }

    def storage_instance(self, instance: Record) -> Json:
        storage = instance["storage"]
        path = _storage_path(instance)
        online = instance["admin_state"] == "online"
        return {
            "name": storage["name"],
            "path": path,
            "uuid": storage["uuid"],
            "admin_state": instance["admin_state"],
            "op_state": self._state(instance["uuid"], online),
            "volumes": [self.volume(instance)],
            "access_control_mode": storage["access_control_mode"],
            "acl_policy": {"path": f"{path}/acl_policy"},
            "auth": {"path": f"{path}/auth", "type": storage["auth"]["type"]},
            "ip_pool": {"path": "/access_network_ip_pools/default"},
            "access": {
                "path": f"{path}/access",
                "ips": list(self._array.targets.portals) if online else [],
                "iqn": storage["iqn"],
            },
            "active_initiators": [
                {"path": f"/initiators/{each}"}
                for each in sorted(set(self._array.targets.sessions(storage["iqn"])))
            ],
        }

    def volume(self, instance: Record) -> Json:
        volume = instance["storage"]["volume"]
        path = _volume_path(instance)
        placement = "placement_policy" if self._array.settings.policies else "placement_mode"
        return {
            "name": volume["name"],
            "path": path,
            "uuid": volume["uuid"],
            "size": volume["size"],
            "replica_count": volume["replica_count"],
            placement: volume.get(placement),
            "capacity_in_use": self._array.files.occupied(volume["uuid"]),
            "op_state": "available",
            "op_status": "resizing" if self._array.in_transit(volume["uuid"]) else "",
            "snapshots": [{"path": f"{path}/snapshots/{each}"} for each in volume["snapshots"]],
        }

    def snapshot(self, instance: Record, timestamp: str) -> Json:
        return {
            "path": f"{_volume_path(instance)}/snapshots/{timestamp}",
            "timestamp": timestamp,
            "utc_ts": timestamp,
            "uuid": instance["storage"]["volume"]["snapshots"][timestamp]["uuid"],
            "op_state": "pending" if self._array.in_transit(timestamp) else "available",
        }

    def acl(self, instance: Record) -> Json:
        return {
            "path": f"{_storage_path(instance)}/acl_policy",
            "initiators": [{"path": path} for path in instance["storage"]["initiators"]],
            "initiator_groups": [
                {"path": path} for path in instance["storage"]["initiator_groups"]
            ],
        }

    def auth(self, instance: Record) -> Json:
        empty = dict.fromkeys(
            ("initiator_user_name", "initiator_pswd", "target_user_name", "target_pswd"), ""
        )
        return {
            "path": f"{_storage_path(instance)}/auth",
            **empty,
            **instance["storage"]["auth"],
        }

    def initiator(self, initiator: Record) -> Json:
        return {"path": f"/initiators/{initiator['id']}", **initiator}

    def tenant(self, tenant: Record) -> Json:
        return {
            "path": f"/tenants{tenant['path']}",
            "name": tenant["name"],
            "descr": tenant.get("descr", ""),
            "parent_path": tenant["path"].rpartition("/")[0],
        }

    def group(self, group: Record) -> Json:
        return {
            "path": f"/initiator_groups/{group['name']}",
            "name": group["name"],
            "tenant": group["tenant"],
            "members": [{"path": path} for path in group["members"]],
        }

    def system(self) -> Json:
        settings = self._array.settings
        with self._array.lock:
            instances = self._array.records.instances.values()
            used = sum(
                self._array.files.occupied(each["storage"]["volume"]["uuid"]) for each in instances
            )
        return {
            "path": "/system",
            "name": "simulator",
            "sw_version": settings.sw_version,
            "total_capacity": settings.capacity,
            "available_capacity": 0 if self._array.full() else max(settings.capacity - used, 0),
            "op_state": "available",
            "health": "ok",
        }

    def _state(self, what: str, online: bool) -> str:
        if self._array.in_transit(what):
            return "pending"
        return "available" if online else "unavailable"


def _instance_path(instance: Record) -> str:
    return f"/app_instances/{instance['uuid']}"


def _storage_path(instance: Record) -> str:
    return f"{_instance_path(instance)}/storage_instances/{instance['storage']['name']}"


def _volume_path(instance: Record) -> str:
    return f"{_storage_path(instance)}/volumes/{instance['storage']['volume']['name']}"
