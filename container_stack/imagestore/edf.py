# SPDX-License-Identifier: Apache-2.0
"""A client of Datera EDF arrays, for the app instances that hold images.

::

    endpoint = edf.Endpoint("192.0.2.7", "admin", "secret", ca_file="/etc/ssl/edf.pem")
    client = edf.Client(endpoint)
    client.create_app_instance("OS-IMAGE-1", size_gib=1, replica_count=3, placement_mode="hybrid")

Speaks REST v2.1 and v2.2, and what changed with software 3.3. Every method may raise
:class:`~container_stack.exceptions.ArrayUnavailable` (no answer, or one that makes no sense),
:class:`~container_stack.exceptions.AccessDenied` (login or tenant) and
:class:`~container_stack.exceptions.HostNotReady` (the array's certificate isn't trusted).
"""

import logging
import re
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from container_stack import exceptions
from container_stack.host import attach
from container_stack.imagestore import edf_access, edf_http, edf_json
from container_stack.imagestore import edf_model as model

LOG = logging.getLogger(__name__)
T = TypeVar("T")

Endpoint = model.Endpoint
AppInstance = model.AppInstance
Volume = model.Volume
Snapshot = model.Snapshot
System = model.System

#: Entries asked for at a time; the array gives 1000 at most.
PAGE = 500
#: Seconds between looks at something that the array works at: the first, and the longest.
FIRST_LOOK, LAST_LOOK = 0.05, 2.0

_AVAILABLE = "available"
#: What an array answers for an empty list (dfs_sdk, base.py).
_NOTHING = "No data at "
#: What the array calls a volume at which no work is left.
_SETTLED = ("", _AVAILABLE, "ok", "none", "success", "completed")
_NAME = re.compile(
    r"[a-zA-Z_][\w\-.]{2,63}|[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", re.ASCII
)
_SNAPSHOT = re.compile(r"/app_instances(/[\w\-.]+)+/snapshots/[\w\-.]+", re.ASCII)


class Client:
    """One array and one tenant of it; threads and forked children may share it.

    Nothing is sent before the first method is called. Every method is idempotent unless it says
    otherwise.

    :raises InvalidRequest: the endpoint's tenant is malformed.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._connection = edf_http.Connection(endpoint)
        self._software: tuple[edf_http.Key, tuple[int, ...]] | None = None

    def login(self) -> None:
        """Get a new key. Not needed: every method does so when there is none or it expired.

        :raises AccessDenied: the array doesn't know this login and password.
        """
        self._connection.login()

    def close(self) -> None:
        """Close the idle connections; the next method opens new ones."""
        self._connection.close()

    # The array -----------------------------------------------------------------------------

    def api_versions(self) -> tuple[str, ...]:
        """Return the REST versions that the array speaks, as ("v2.1", "v2.2")."""
        return self._connection.versions()

    def api_version(self) -> str:
        """Return the one that is spoken: the highest that both know.

        :raises NotSupported: there is none.
        """
        return self._connection.key().version

    def system(self) -> System:
        """Return what the array says of itself."""
        return edf_json.system(self._get("/system"))

    def ensure_tenant(self) -> None:
        """Make the endpoint's tenant, and those above it, where they don't exist."""
        above = ""
        for name in self.endpoint.tenant_path.split("/")[1:]:
            if above:
                self._ensure_tenant(name, above)
            above = f"{above}/{name}"

    def _ensure_tenant(self, name: str, above: str) -> None:
        request = edf_http.Request("POST", "/tenants", {"name": name}, tenant=above)
        try:
            self._connection.request(request)
        except exceptions.AlreadyExists:
            return
        LOG.info("Made tenant %(above)s/%(name)s", {"above": above, "name": name})

    # App instances -------------------------------------------------------------------------

    def create_app_instance(
        self,
        name: str,
        *,
        size_gib: int = 0,
        replica_count: int = 3,
        placement_mode: str = "hybrid",
        clone_of: str | None = None,
    ) -> AppInstance:
        """Make an app instance with one volume, which nobody may attach yet. Not idempotent.

        When the array's answer is lost, what it made is recognised by an identifier of ours.

        :param size_gib: 1 to 32768; of a clone, 0 means its source's size.
        :param replica_count: 1 to 5; a clone has its source's.
        :param placement_mode: hybrid, single_flash or all_flash; from software 3.3 on also any
            policy's name or path. A clone has its source's.
        :param clone_of: path of a snapshot, a volume or an app instance to take the data from.
        :raises AlreadyExists: the name is taken; nothing was changed.
        :raises NotFound: there is nothing at ``clone_of``.
        :raises NoSpace: the array is full.
        :raises InvalidRequest: the array refuses the name, size, replicas or placement.
        """
        path, ours = _path(name), str(uuid.uuid4())
        if clone_of:
            body = edf_json.new_clone(name, ours, clone_of)
        else:
            placement = edf_json.placement(placement_mode, self._sw_version())
            body = edf_json.new_app_instance(name, ours, size_gib, replica_count, placement)
        request = edf_http.Request("POST", "/app_instances", body)
        answer = self._connection.request(request, lambda: self._ours(path, ours))
        made = edf_json.app_instance(answer.data)
        LOG.info("Made app instance %(name)s", {"name": name})
        if clone_of and size_gib > self.volume(name).size_gib:
            self.resize(name, size_gib)
            return self.app_instance(name)
        return made

    def _ours(self, path: str, ours: str) -> edf_http.Answer | None:
        try:
            answer = self._connection.request(edf_http.Request("GET", path))
        except exceptions.NotFound:
            return None
        return answer if edf_json.app_instance(answer.data).uuid == ours else None

    def app_instance(self, name: str) -> AppInstance:
        """Return the app instance of that name.

        :raises NotFound: there is none.
        """
        return edf_json.app_instance(self._get(_path(name)))

    def app_instances(self, prefix: str = "") -> Iterator[AppInstance]:
        """Yield the tenant's app instances whose names begin so, page by page, by name.

        What is made or deleted meanwhile may or may not be among them.
        """
        params = {"sort": "name"}
        if prefix:
            params["filter"] = f"match(name,{prefix}.*)"
        for each in self._pages("/app_instances", params):
            if edf_json.Fields(each, "an app instance").text("name").startswith(prefix):
                yield edf_json.app_instance(each)

    def set_online(self, name: str, online: bool, *, force: bool = False) -> None:
        """Bring an app instance online or take it offline.

        :param force: take it offline even though initiators are logged in.
        :raises NotFound: there is none of that name.
        """
        state = "online" if online else "offline"
        body = {"admin_state": state, **({"force": True} if force and not online else {})}
        self._put(_path(name), body)
        LOG.info("Set app instance %(name)s %(state)s", {"name": name, "state": state})

    def delete_app_instance(self, name: str) -> bool:
        """Delete an app instance with its data and snapshots, whoever is logged in.

        :returns: whether there was one.
        :raises Busy: the array refuses, for instance because clones depend on it.
        """
        try:
            self.set_online(name, False, force=True)
        except exceptions.NotFound:
            return False
        self._delete(_path(name))
        LOG.info("Deleted app instance %(name)s", {"name": name})
        return True

    # Volumes -------------------------------------------------------------------------------

    def volume(self, name: str) -> Volume:
        """Return the volume of an app instance.

        :raises NotFound: there is none.
        """
        return edf_json.volume(self._get(_volume(name)))

    def resize(self, name: str, size_gib: int) -> Volume:
        """Set the size of an app instance's volume, online, and wait until it has it.

        :raises NotFound: there is no such volume.
        :raises NoSpace: the array is full.
        :raises InvalidRequest: the array refuses the size, such as a smaller one.
        """
        self._put(_volume(name), {"size": size_gib})
        volume = self._wait(
            f"The volume of {name} to have {size_gib} GiB",
            lambda: self.volume(name),
            lambda each: each.size_gib == size_gib and each.op_status in _SETTLED,
        )
        LOG.info("Set size of %(name)s to %(size)s GiB", {"name": name, "size": size_gib})
        return volume

    def wait_available(self, name: str) -> None:
        """Return when an app instance's target can be logged in to.

        :raises NotFound: there is none.
        :raises ArrayUnavailable: it isn't so within the operation's timeout.
        """
        self._wait(
            f"The target of {name} to be available",
            lambda: edf_json.Fields(self._get(_storage(name)), "a storage instance"),
            lambda fields: fields.text("op_state", "") == _AVAILABLE,
        )

    # Access --------------------------------------------------------------------------------

    def target(self, name: str) -> attach.Target:
        """Return where an app instance's volume is exported, with the CHAP secret if it has one.

        :raises NotFound: there is none.
        :raises Busy: it has no target yet; bring it online.
        """
        return self._access(name).target()

    def set_chap(self, name: str, chap: attach.Chap | None) -> None:
        """Let the target of an app instance ask for this CHAP secret, or for none.

        :raises NotFound: there is none.
        """
        self._access(name).set_chap(chap)

    def allow(self, name: str, iqn: str) -> None:
        """Let an initiator log in to an app instance's target, besides all that may already.

        The array can only replace the whole list, so that two processes that do so at the same
        time for one app instance may undo what the other did: log in again after a refusal.

        :raises NotFound: there is no such app instance.
        """
        self._access(name).allow(iqn)

    def disallow(self, name: str, iqn: str) -> None:
        """Take the right from an initiator; the others keep it. NotFound is fine."""
        try:
            self._access(name).disallow(iqn)
        except exceptions.NotFound:
            LOG.debug("%(name)s is gone already", {"name": name})

    def _access(self, name: str) -> edf_access.Access:
        return edf_access.Access(self._connection, _storage(name), self.endpoint.tenant_path)

    # Metadata ------------------------------------------------------------------------------

    def metadata(self, name: str) -> dict[str, str]:
        """Return what is noted at an app instance.

        :raises NotFound: there is no such app instance.
        """
        try:
            return edf_json.metadata(self._get(self._metadata_path(name)))
        except exceptions.NotFound:
            # An array may say so, too, where nothing is noted yet.
            self.app_instance(name)
            return {}

    def set_metadata(self, name: str, values: Mapping[str, str]) -> None:
        """Note these at an app instance; other keys stay.

        :raises NotFound: there is no such app instance.
        """
        noted = {**self.metadata(name), **values}
        self._put(self._metadata_path(name), {"data": noted} if self._has_policies() else noted)
        LOG.info("Noted %(keys)s at %(name)s", {"keys": ", ".join(values), "name": name})

    def _metadata_path(self, name: str) -> str:
        return f"{_path(name)}/{'int_ecosystem_data' if self._has_policies() else 'metadata'}"

    # Snapshots -----------------------------------------------------------------------------

    def snapshot(self, name: str) -> Snapshot:
        """Make a snapshot of an app instance's volume and wait until it can be cloned.

        Not idempotent, but one whose answer is lost isn't made twice.

        :raises NotFound: there is no such volume.
        """
        ours = str(uuid.uuid4())
        path = f"{_volume(name)}/snapshots"

        def find() -> edf_http.Answer | None:
            found = [each for each in self._pages(path, {}) if edf_json.snapshot(each).uuid == ours]
            return edf_http.Answer(found[0]) if found else None

        answer = self._connection.request(edf_http.Request("POST", path, {"uuid": ours}), find)
        made = f"{path}/{edf_json.snapshot(answer.data).timestamp}"
        snapshot = self._wait(
            f"The snapshot of {name} to be available",
            lambda: edf_json.snapshot(self._get(made)),
            lambda each: each.op_state == _AVAILABLE,
        )
        LOG.info("Made snapshot %(path)s", {"path": snapshot.path})
        return snapshot

    def snapshots(self, name: str) -> list[Snapshot]:
        """Return the snapshots of an app instance's volume, oldest first.

        :raises NotFound: there is no such volume.
        """
        found = map(edf_json.snapshot, self._pages(f"{_volume(name)}/snapshots", {}))
        return sorted(found, key=lambda each: float(each.timestamp))

    def delete_snapshot(self, path: str) -> bool:
        """Delete a snapshot.

        :returns: whether there was one.
        :raises Busy: the array refuses, for instance because clones depend on it.
        """
        if not _SNAPSHOT.fullmatch(path):
            raise exceptions.InvalidRequest(f"{path!r} is no snapshot's path.")
        there = self._delete(path)
        if there:
            LOG.info("Deleted snapshot %(path)s", {"path": path})
        return there

    # Requests ------------------------------------------------------------------------------

    def _get(self, path: str) -> Any:
        return self._connection.request(edf_http.Request("GET", path)).data

    def _put(self, path: str, body: Mapping[str, Any]) -> None:
        self._connection.request(edf_http.Request("PUT", path, body))

    def _delete(self, path: str) -> bool:
        try:
            self._connection.request(edf_http.Request("DELETE", path))
        except exceptions.NotFound:
            return False
        return True

    def _pages(self, path: str, params: Mapping[str, str]) -> Iterator[Any]:
        """Yield the entries of a list, each once.

        A page that holds less than its limit is the last: what arrays before 3.3 call the total
        counts also what a filter left out (dfs_sdk, connection.py).
        """
        seen: set[str] = set()
        while True:
            request = edf_http.Request(
                "GET", path, params={**params, "limit": PAGE, "offset": len(seen)}
            )
            try:
                answer = self._connection.request(request)
            except exceptions.NotFound as exc:
                if _NOTHING in str(exc):
                    return
                raise
            entries, limit = edf_json.page(answer.data, answer.metadata, PAGE)
            fresh = {key: entry for key, entry in entries.items() if key not in seen}
            yield from fresh.values()
            seen.update(fresh)
            if not fresh or len(entries) < limit:
                return

    def _wait(self, what: str, look: Callable[[], T], good: Callable[[T], bool]) -> T:
        pause = FIRST_LOOK
        deadline = time.monotonic() + self.endpoint.operation_timeout
        while not good(found := look()):
            if time.monotonic() + pause > deadline:
                raise exceptions.ArrayUnavailable(
                    f"{what} takes more than {self.endpoint.operation_timeout:g} s."
                )
            time.sleep(pause)
            pause = min(pause * 2, LAST_LOOK)
        return found

    def _has_policies(self) -> bool:
        return self._sw_version() >= edf_json.POLICIES_SINCE

    def _sw_version(self) -> tuple[int, ...]:
        key = self._connection.key()
        known = self._software
        if known is None or known[0] is not key:
            known = (key, edf_json.version_numbers(self.system().sw_version))
            self._software = known
        return known[1]


def _path(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise exceptions.InvalidRequest(
            f"{name!r} can't name an app instance: 3 to 64 letters, digits, _, - and ., the first "
            f"of them a letter or _."
        )
    return f"/app_instances/{name}"


def _storage(name: str) -> str:
    return f"{_path(name)}/storage_instances/{model.STORAGE_INSTANCE}"


def _volume(name: str) -> str:
    return f"{_storage(name)}/volumes/{model.VOLUME}"
