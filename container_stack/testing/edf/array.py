# SPDX-License-Identifier: Apache-2.0
"""The simulated array: app instances with one storage instance and one volume each.

Every method raises :class:`~container_stack.testing.edf.errors.ApiError` where a real array
refuses. Sizes are GiB, as in the REST interface.
"""

import dataclasses
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from container_stack.host import attach
from container_stack.testing.edf import bodies, errors, exports, files, records

GIB = 1024**3
#: Where names of targets begin.
PREFIX = "iqn.2013-05.com.daterainc:tc:01:sn:"

Record = records.Record


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """What kind of array it is.

    :param capacity: bytes that volumes may have in all.
    :param latency: seconds for which what was changed is in transit.
    """

    sw_version: str = "2.2.0"
    capacity: int = 1024**4
    latency: float = 0.02

    @property
    def policies(self) -> bool:
        """Whether it is of software 3.3 or later, which has placement policies."""
        return tuple(map(int, self.sw_version.split(".")[:2])) >= (3, 3)


class Array:
    """State and behaviour; threads may share it."""

    def __init__(self, directory: Path, settings: Settings, targets: exports.Exports) -> None:
        self.settings = settings
        self.lock = threading.RLock()
        self.records = records.Records(directory)
        self.files = files.Files(directory)
        self.targets = targets
        #: Tells whether it has no room, whatever its capacity.
        self.full: Callable[[], bool] = lambda: False
        self._transit: dict[str, float] = {}
        self._offline: set[str] = set()

    def start(self) -> None:
        """Export what was online when it ended."""
        self.targets.start()
        for instance in self.records.instances.values():
            self.show(instance)

    # App instances ------------------------------------------------------------------------

    def find(self, tenant: str, name: str) -> Record:
        """Return the app instance of a name or UUID in a tenant."""
        with self.lock:
            for each in self.records.instances.values():
                if each["tenant"] == tenant and name in (each["name"], each["uuid"]):
                    return each
        raise errors.not_found(f"/app_instances/{name}")

    def create(self, tenant: str, body: dict[str, Any]) -> Record:
        """Make an app instance, empty or a clone."""
        bodies.check(body, bodies.app_instance(self.settings.policies), "name")
        with self.lock:
            self._refuse_taken(tenant, body)
            source = self._source(tenant, body)
            new = self._new_volume(body, source)
            self.require_room(new["size"])
            made = {
                "name": body["name"],
                "uuid": body.get("uuid") or str(uuid.uuid4()),
                "tenant": tenant,
                "descr": body.get("descr", ""),
                "create_mode": body.get("create_mode", "normal"),
                "admin_state": "offline",
                "metadata": {},
                "source": {key: body[key] for key in body if key.startswith("clone_")},
                "storage": {
                    "name": self._storage_name(body, source),
                    "uuid": str(uuid.uuid4()),
                    "iqn": PREFIX + uuid.uuid4().hex[:16],
                    "access_control_mode": body.get("access_control_mode", "deny_all"),
                    "initiators": [],
                    "initiator_groups": [],
                    "auth": {"type": "none"},
                    "volume": new,
                },
            }
            if source is None:
                self.files.create(new["uuid"], new["size"] * GIB)
            else:
                self.files.copy(source[1], new["uuid"], new["size"] * GIB)
            self.records.save(made)
            return made

    def change(self, instance: Record, body: dict[str, Any]) -> None:
        """Bring an app instance online or offline, or describe it."""
        bodies.check(body, bodies.INSTANCE_CHANGE)
        with self.lock:
            changed: Record = {k: body[k] for k in ("admin_state", "descr") if k in body}
            if changed.get("admin_state", instance["admin_state"]) != instance["admin_state"]:
                self.begin(instance["uuid"])
            instance.update(changed)
            self.records.save(instance)
            self.show(instance)

    def delete(self, instance: Record) -> None:
        """Delete an app instance that is offline, with its snapshots."""
        with self.lock:
            if instance["admin_state"] != "offline":
                raise errors.invalid(f"{instance['name']} must be offline to be deleted")
            self.files.unlink(instance["storage"]["iqn"])
            self.files.remove(instance["storage"]["volume"]["uuid"])
            self.records.remove(instance)

    def show(self, instance: Record) -> None:
        """Let initiators see an app instance, or not, as its state is."""
        storage = instance["storage"]
        if instance["admin_state"] != "online" or instance["name"] in self._offline:
            self.targets.withdraw(storage["iqn"])
            self.files.unlink(storage["iqn"])
            return
        self.files.link(storage["iqn"], storage["volume"]["uuid"])
        self.targets.export(
            storage["iqn"],
            self.files.volume(storage["volume"]["uuid"]),
            initiators=[path.removeprefix("/initiators/") for path in storage["initiators"]],
            chap=_chap(storage["auth"]),
        )

    def interrupt(self, name: str | None) -> None:
        """Take an app instance's volume away from its initiators; None gives all back."""
        with self.lock:
            changed = {name} if name is not None else set(self._offline)
            self._offline = self._offline | changed if name is not None else set()
            for instance in self.records.instances.values():
                if instance["name"] in changed:
                    self.show(instance)

    # Volumes ------------------------------------------------------------------------------

    def change_volume(self, instance: Record, body: dict[str, Any]) -> None:
        """Grow a volume, move it, or put back a snapshot."""
        bodies.check(body, bodies.volume(self.settings.policies))
        volume = instance["storage"]["volume"]
        with self.lock:
            if "size" in body:
                self._resize(instance, body["size"])
            if "restore_point" in body:
                self._restore(instance, body["restore_point"])
            for key in ("replica_count", "placement_mode", "placement_policy"):
                volume[key] = body.get(key, volume.get(key))
            self.records.save(instance)

    def _resize(self, instance: Record, size: int) -> None:
        volume = instance["storage"]["volume"]
        if size < volume["size"]:
            raise errors.unprocessable(f"size: {size} is less than {volume['size']}")
        self.require_room(size - volume["size"])
        self.files.grow(volume["uuid"], size * GIB)
        volume["size"] = size
        self.begin(volume["uuid"])
        if instance["admin_state"] == "online":
            self.targets.grew(instance["storage"]["iqn"])

    def _restore(self, instance: Record, timestamp: str) -> None:
        if instance["admin_state"] != "offline":
            raise errors.invalid("The app instance must be offline to be restored")
        volume = instance["storage"]["volume"]
        self._snapshot_file(instance, timestamp)
        self.files.restore(volume["uuid"], timestamp)

    def require_room(self, gib: int) -> None:
        """Raise unless volumes may have so much more."""
        used = sum(each["storage"]["volume"]["size"] for each in self.records.instances.values())
        if gib and (self.full() or (used + gib) * GIB > self.settings.capacity):
            raise errors.full()

    # Snapshots ----------------------------------------------------------------------------

    def take_snapshot(self, instance: Record, body: dict[str, Any]) -> str:
        """Snapshot a volume; return the timestamp."""
        bodies.check(body, bodies.SNAPSHOT)
        volume = instance["storage"]["volume"]
        with self.lock:
            known = {each["uuid"] for each in volume["snapshots"].values()}
            if body.get("uuid") in known:
                raise errors.conflict(f"A snapshot {body['uuid']} exists")
            timestamp = f"{time.time():.9f}"
            self.files.take(volume["uuid"], timestamp)
            volume["snapshots"][timestamp] = {"uuid": body.get("uuid") or str(uuid.uuid4())}
            self.begin(timestamp)
            self.records.save(instance)
            return timestamp

    def drop_snapshot(self, instance: Record, timestamp: str) -> None:
        """Delete a snapshot."""
        volume = instance["storage"]["volume"]
        with self.lock:
            self._snapshot_file(instance, timestamp)
            del volume["snapshots"][timestamp]
            self.files.drop(volume["uuid"], timestamp)
            self.records.save(instance)

    def _snapshot_file(self, instance: Record, timestamp: str) -> Path:
        volume = instance["storage"]["volume"]
        if timestamp not in volume["snapshots"]:
            raise errors.not_found(f"snapshots/{timestamp}")
        return self.files.snapshot(volume["uuid"], timestamp)

    # Time ---------------------------------------------------------------------------------

    def begin(self, what: str) -> None:
        """Put something in transit."""
        self._transit[what] = time.monotonic() + self.settings.latency

    def in_transit(self, what: str) -> bool:
        """Tell whether something still is."""
        return self._transit.get(what, 0) > time.monotonic()

    # New ones -----------------------------------------------------------------------------

    def _refuse_taken(self, tenant: str, body: dict[str, Any]) -> None:
        for each in self.records.instances.values():
            if each["uuid"] == body.get("uuid") or (
                each["tenant"] == tenant and each["name"] == body["name"]
            ):
                raise errors.conflict(f"App instance {body['name']} exists")

    def _source(self, tenant: str, body: dict[str, Any]) -> tuple[Record, Path] | None:
        """Return what is cloned, and the file with its data."""
        keys = [key for key in body if key.startswith("clone_")]
        if not keys:
            return None
        if len(keys) > 1 or body.get("storage_instances"):
            raise errors.unprocessable("clone one source, and name no storage instances")
        path = body[keys[0]]["path"]
        words = path.strip("/").split("/")
        instance = self.find(tenant, words[1] if len(words) > 1 else path)
        volume = instance["storage"]["volume"]
        if keys[0] == "clone_snapshot_src":
            return instance, self._snapshot_file(instance, words[-1])
        return instance, self.files.volume(volume["uuid"])

    def _new_volume(self, body: dict[str, Any], source: tuple[Record, Path] | None) -> Record:
        if source is not None:
            old = source[0]["storage"]["volume"]
            return {**old, "uuid": str(uuid.uuid4()), "snapshots": {}}
        storages = body.get("storage_instances", [])
        if len(storages) != 1 or len(storages[0].get("volumes", [])) != 1:
            raise errors.unprocessable("this simulator has one volume in one storage instance")
        volume = storages[0]["volumes"][0]
        schema = {"name": bodies.name, "snapshot_policies": list}
        bodies.check(volume, {**bodies.volume(self.settings.policies), **schema}, "name", "size")
        placement = (
            {"placement_policy": {"path": "/placement_policies/default"}}
            if self.settings.policies
            else {"placement_mode": "hybrid"}
        )
        return {
            **placement,
            "replica_count": 3,
            **{key: value for key, value in volume.items() if key != "snapshot_policies"},
            "uuid": str(uuid.uuid4()),
            "snapshots": {},
        }

    def _storage_name(self, body: dict[str, Any], source: tuple[Record, Path] | None) -> str:
        if source is not None:
            return str(source[0]["storage"]["name"])
        return str(body["storage_instances"][0].get("name", "storage-1"))


def _chap(auth: Record) -> attach.Chap | None:
    if auth["type"] == "none":
        return None
    mutual = auth["type"] == "mchap"
    return attach.Chap(
        auth["target_user_name"],
        auth["target_pswd"],
        auth["initiator_user_name"] if mutual else "",
        auth["initiator_pswd"] if mutual else "",
    )
