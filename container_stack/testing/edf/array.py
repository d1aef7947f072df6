# SPDX-License-Identifier: Apache-2.0
"""The simulated array: app instances with one storage instance and one volume each.

Every method raises :class:`~container_stack.testing.edf.errors.ApiError` where a real array
refuses. Sizes are GiB, as in the REST interface.
"""

import contextlib
import copy
import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from container_stack.host import attach
from container_stack.testing.edf import bodies, copies, drafts, errors, exports, files, records

GIB = 1024**3

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
        self.copies = copies.Copies()
        #: Tells whether it has no room, whatever its capacity.
        self.full: Callable[[], bool] = lambda: False
        self._transit: dict[str, float] = {}
        self._offline: set[str] = set()
        #: App instances whose data are being copied, which takes its time.
        self._making: dict[str, Record] = {}

    def start(self) -> None:
        """Export what was online when it ended, and remove what it had only begun."""
        self.records.load()
        self.files.sweep(each["storage"]["volume"] for each in self.records.instances.values())
        for instance in self.records.instances.values():
            self._finish_snapshots(instance)
        self.targets.start()
        for instance in self.records.instances.values():
            self.show(instance)

    def _finish_snapshots(self, instance: Record) -> None:
        """Copy what was to be copied when it ended; nobody could write since."""
        volume = instance["storage"]["volume"]
        for timestamp, taken in volume["snapshots"].items():
            if not taken["copied"]:
                self.files.take(volume["uuid"], timestamp)
                taken["copied"] = True
                self.records.save(instance)

    # App instances ------------------------------------------------------------------------

    @contextlib.contextmanager
    def changing(self, instance: Record) -> Iterator[None]:
        """Let nobody else change anything; refuse to change what was deleted meanwhile."""
        with self.lock:
            if self.records.instances.get(instance["uuid"]) is not instance:
                raise errors.not_found(f"/app_instances/{instance['name']}")
            yield

    @contextlib.contextmanager
    def reaching(self, instance: Record) -> Iterator[None]:
        """Do the same to change who can write to a volume, once its snapshots are whole."""
        uuid = instance["storage"]["volume"]["uuid"]
        while True:
            self.copies.settle(uuid)
            with self.changing(instance):
                if not self.copies.busy(uuid):
                    yield
                    return

    @contextlib.contextmanager
    def settled(self) -> Iterator[None]:
        """Let nobody else change anything, once all snapshots are whole."""
        while True:
            self.copies.settle()
            with self.lock:
                if not self.copies.busy():
                    yield
                    return

    def find(self, tenant: str, name: str) -> Record:
        """Return the app instance of a name or UUID in a tenant."""
        with self.lock:
            for each in self.records.instances.values():
                if each["tenant"] == tenant and name in (each["name"], each["uuid"]):
                    return each
        raise errors.not_found(f"/app_instances/{name}")

    def instances(self, tenant: str) -> list[Record]:
        """Return a tenant's app instances."""
        with self.lock:
            return [each for each in self.records.instances.values() if each["tenant"] == tenant]

    def create(self, tenant: str, body: dict[str, Any]) -> Record:
        """Make an app instance, empty or a clone."""
        bodies.check(body, bodies.app_instance(self.settings.policies), "name")
        policies = self.settings.policies
        with self.lock:
            self._refuse_taken(tenant, body)
            source = self._source(tenant, body)
            made = drafts.app_instance(tenant, body, source, policies=policies)
            volume = made["storage"]["volume"]
            self.require_room(volume["size"])
            self._making[made["uuid"]] = made
        try:
            if source is None:
                self.files.create(volume["uuid"], volume["size"] * GIB)
            else:
                self.copies.settle(source.instance["storage"]["volume"]["uuid"])
                self.files.copy(source.file, volume["uuid"], volume["size"] * GIB)
            with self.lock:
                self.records.save(made)
        except FileNotFoundError as exc:  # the source was deleted meanwhile
            raise errors.not_found(str(made["source"])) from exc
        finally:
            with self.lock:
                del self._making[made["uuid"]]
        return made

    def change(self, instance: Record, body: dict[str, Any]) -> None:
        """Bring an app instance online or offline, or describe it."""
        bodies.check(body, bodies.INSTANCE_CHANGE)
        with self.reaching(instance):
            changed: Record = {k: body[k] for k in ("admin_state", "descr") if k in body}
            if changed.get("admin_state", instance["admin_state"]) != instance["admin_state"]:
                if changed["admin_state"] == "offline" and not body.get("force"):
                    self._refuse_in_use(instance)
                self.begin(instance["uuid"])
            with self.shown(instance):
                instance.update(changed)

    def note(self, instance: Record, values: Any) -> dict[str, str]:
        """Keep values at an app instance, besides those of other keys; return all of them."""
        bodies.check(values, dict.fromkeys(values, str) if isinstance(values, dict) else {})
        with self.changing(instance):
            instance["metadata"] = {**instance["metadata"], **values}
            self.records.save(instance)
            return dict(instance["metadata"])

    def delete(self, instance: Record) -> None:
        """Delete an app instance that is offline, with its snapshots."""
        with self.changing(instance):
            if instance["admin_state"] != "offline":
                raise errors.invalid(f"{instance['name']} must be offline to be deleted")
            # Files without a record are removed at the next start; a record needs its files.
            self.records.remove(instance)
            self.files.unlink(instance["storage"]["iqn"])
            self.files.remove(instance["storage"]["volume"]["uuid"])

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
            initiators=self._admitted(instance),
            chap=_chap(storage["auth"]),
        )

    @contextlib.contextmanager
    def shown(self, instance: Record) -> Iterator[None]:
        """Show what is changed in here, and keep it; undo it if tgt can't express it."""
        before = copy.deepcopy(instance)
        try:
            yield
            self.show(instance)
        except BaseException:
            instance.clear()
            instance.update(before)
            raise
        self.records.save(instance)

    def _admitted(self, instance: Record) -> list[str] | None:
        """Return the names of the initiators that may log in; None: all."""
        storage = instance["storage"]
        if storage["access_control_mode"] == "allow_all":
            return None
        paths = list(storage["initiators"])
        for path in storage["initiator_groups"]:
            group = self.records.groups.get(f"{instance['tenant']} {path.rpartition('/')[2]}")
            paths += group["members"] if group else []
        return [path.removeprefix("/initiators/") for path in paths]

    def can_be_written(self, instance: Record) -> bool:
        """Tell whether anybody can write to a volume as things are."""
        if instance["admin_state"] != "online":
            return False
        return self._admitted(instance) != [] or not self.targets.guarded

    def _refuse_in_use(self, instance: Record) -> None:
        if found := self.targets.sessions(instance["storage"]["iqn"]):
            raise errors.conflict(f"{', '.join(found)} is logged in to {instance['name']}")

    def interrupt(self, name: str | None) -> None:
        """Take an app instance's volume away from its initiators; None gives all back."""
        with self.lock:
            changed = {name} if name is not None else set(self._offline)
            self._offline = self._offline | changed if name is not None else set()
            for instance in self.records.instances.values():
                if instance["name"] in changed:
                    self.show(instance)

    def require_room(self, gib: int) -> None:
        """Raise unless volumes may have so much more."""
        known = (*self.records.instances.values(), *self._making.values())
        used = sum(each["storage"]["volume"]["size"] for each in known)
        if gib and (self.full() or (used + gib) * GIB > self.settings.capacity):
            raise errors.full()

    def _refuse_taken(self, tenant: str, body: dict[str, Any]) -> None:
        for each in (*self.records.instances.values(), *self._making.values()):
            if each["uuid"] == body.get("uuid") or (
                each["tenant"] == tenant and each["name"] == body["name"]
            ):
                raise errors.conflict(f"App instance {body['name']} exists")

    def _source(self, tenant: str, body: dict[str, Any]) -> drafts.Source | None:
        """Return what is to be cloned."""
        named = drafts.source_path(body)
        if named is None:
            return None
        key, words = named
        instance = self.find(tenant, words[1])
        volume = instance["storage"]["volume"]
        if key != "clone_snapshot_src":
            return drafts.Source(instance, self.files.volume(volume["uuid"]), volume["size"])
        taken = volume["snapshots"].get(words[-1])
        if taken is None:
            raise errors.not_found("/".join(words))
        file = self.files.snapshot(volume["uuid"], words[-1])
        return drafts.Source(instance, file, taken["size"])

    # Time ---------------------------------------------------------------------------------

    def begin(self, what: str) -> None:
        """Put something in transit."""
        self._transit[what] = time.monotonic() + self.settings.latency

    def in_transit(self, what: str) -> bool:
        """Tell whether something still is."""
        return self._transit.get(what, 0) > time.monotonic()


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
