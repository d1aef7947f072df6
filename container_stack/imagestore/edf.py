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

import contextlib
import logging
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from container_stack import exceptions
from container_stack.host import attach
from container_stack.imagestore import (
    edf_access,
    edf_bodies,
    edf_calls,
    edf_json,
    edf_metadata,
    edf_paths,
    edf_snapshots,
)
from container_stack.imagestore import edf_model as model

LOG = logging.getLogger(__name__)

Endpoint = model.Endpoint
AppInstance = model.AppInstance
Volume = model.Volume
Snapshot = model.Snapshot
System = model.System

#: What the array calls a volume at which no work is left.
_SETTLED = ("", model.AVAILABLE, "ok", "none", "success", "completed")


class Client:
    """One array and one tenant of it; threads and forked children may share it.

    Nothing is sent before the first method is called. Every method is idempotent unless it says
    otherwise.

    :raises InvalidRequest: the endpoint's tenant is malformed.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._calls = edf_calls.Calls(endpoint)

    def login(self) -> None:
        """Get a new key. Not needed: every method does so when there is none or it expired.

        :raises AccessDenied: the array doesn't know this login and password.
        """
        self._calls.connection.login()

    def close(self) -> None:
        """Close the idle connections; the next method opens new ones."""
        self._calls.connection.close()

    # The array -----------------------------------------------------------------------------

    def api_version(self) -> str:
        """Return the REST version that is spoken: the highest that both know, as "v2.2".

        :raises NotSupported: there is none.
        """
        return self._calls.connection.key().version

    def system(self) -> System:
        """Return what the array says of itself."""
        return edf_json.system(self._calls.get("/system"))

    def ensure_tenant(self) -> None:
        """Make the endpoint's tenant, and those above it, where they don't exist."""
        edf_access.ensure_tenant(self._calls)

    # App instances -------------------------------------------------------------------------

    def create_app_instance(
        self,
        name: str,
        *,
        size_gib: int = 0,
        replica_count: int = 3,
        placement_mode: str = "hybrid",
        clone_of: str | None = None,
        identifier: str = "",
    ) -> AppInstance:
        """Make an app instance with one volume, which nobody may attach yet. Not idempotent.

        When the array's answer is lost, what it made is recognised by an identifier of ours.

        :param size_gib: 1 to 32768; of a clone, 0 means its source's size.
        :param replica_count: 1 to 5; a clone has its source's.
        :param placement_mode: hybrid, single_flash or all_flash; from software 3.3 on also any
            policy's name or path. A clone has its source's.
        :param clone_of: path of a snapshot, a volume or an app instance to take the data from.
        :param identifier: UUID that it is to have; empty: a new one.
        :raises AlreadyExists: the name is taken; nothing was changed.
        :raises NotFound: there is nothing at ``clone_of``.
        :raises NoSpace: the array is full.
        :raises InvalidRequest: the array refuses the name, size, replicas or placement.
        """
        path, ours = edf_paths.instance(name), identifier or str(uuid.uuid4())
        if clone_of:
            body = edf_bodies.new_clone(name, ours, clone_of)
        else:
            placement = edf_bodies.placement(placement_mode, self._calls.software())
            body = edf_bodies.new_app_instance(name, ours, size_gib, replica_count, placement)
        data = self._calls.post("/app_instances", body, lambda: self._ours(path, ours))
        made = edf_json.app_instance(data)
        LOG.info("Made app instance %(name)s", {"name": name})
        if clone_of and size_gib > self.volume(name).size_gib:
            with contextlib.ExitStack() as undo:
                undo.callback(self.delete_app_instance, made.uuid)
                self.resize(name, size_gib)
                undo.pop_all()
            return self.app_instance(name)
        return made

    def _ours(self, path: str, ours: str) -> Any:
        try:
            data = self._calls.get(path)
        except exceptions.NotFound:
            return None
        return data if edf_json.app_instance(data).uuid.lower() == ours.lower() else None

    def app_instance(self, name: str) -> AppInstance:
        """Return the app instance of that name.

        :raises NotFound: there is none.
        """
        return edf_json.app_instance(self._calls.get(edf_paths.instance(name)))

    def app_instances(self, prefix: str = "") -> Iterator[AppInstance]:
        """Yield the tenant's app instances whose names begin so, page by page, by name.

        What is made or deleted meanwhile may or may not be among them.
        """
        params = {"sort": "name"}
        if prefix:
            params["filter"] = f"match(name,{prefix}.*)"
        with contextlib.suppress(exceptions.NotFound):
            for each in self._calls.pages("/app_instances", params):
                if edf_json.Fields(each, "an app instance").text("name").startswith(prefix):
                    yield edf_json.app_instance(each)

    def set_online(self, name: str, online: bool, *, force: bool = False) -> None:
        """Bring an app instance online or take it offline.

        :param force: take it offline even though initiators are logged in.
        :raises NotFound: there is none of that name.
        """
        state = "online" if online else "offline"
        body = {"admin_state": state, **({"force": True} if force and not online else {})}
        self._calls.put(edf_paths.instance(name), body)
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
        self._calls.delete(edf_paths.instance(name))
        LOG.info("Deleted app instance %(name)s", {"name": name})
        return True

    # Volumes -------------------------------------------------------------------------------

    def volume(self, name: str) -> Volume:
        """Return the volume of an app instance.

        :raises NotFound: there is none.
        """
        return edf_json.volume(self._calls.get(edf_paths.volume(name)))

    def resize(self, name: str, size_gib: int) -> Volume:
        """Set the size of an app instance's volume, online, and wait until it has it.

        :raises NotFound: there is no such volume.
        :raises NoSpace: the array is full.
        :raises InvalidRequest: the array refuses the size, such as a smaller one.
        """
        self._calls.put(edf_paths.volume(name), {"size": size_gib})
        volume = self._calls.wait(
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
        self._calls.wait(
            f"The target of {name} to be available",
            lambda: edf_json.Fields(self._calls.get(edf_paths.storage(name)), "a storage instance"),
            lambda fields: fields.text("op_state", "") == model.AVAILABLE,
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
        return edf_access.Access(self._calls, edf_paths.storage(name))

    # Metadata ------------------------------------------------------------------------------

    def metadata(self, name: str) -> dict[str, str]:
        """Return what is noted at an app instance.

        :raises NotFound: there is no such app instance.
        """
        return edf_metadata.read(self._calls, edf_paths.instance(name))

    def set_metadata(self, name: str, values: Mapping[str, str]) -> None:
        """Note these at an app instance; other keys stay.

        :raises NotFound: there is no such app instance.
        """
        edf_metadata.write(self._calls, edf_paths.instance(name), values)

    # Snapshots -----------------------------------------------------------------------------

    def snapshot(self, name: str) -> Snapshot:
        """Make a snapshot of an app instance's volume and wait until it can be cloned.

        Not idempotent, but one whose answer is lost isn't made twice.

        :raises NotFound: there is no such volume.
        """
        return edf_snapshots.make(self._calls, edf_paths.volume(name))

    def snapshots(self, name: str) -> list[Snapshot]:
        """Return the snapshots of an app instance's volume, oldest first.

        :raises NotFound: there is no such volume.
        """
        return edf_snapshots.every(self._calls, edf_paths.volume(name))

    def delete_snapshot(self, path: str) -> bool:
        """Delete a snapshot.

        :returns: whether there was one.
        :raises Busy: the array refuses, for instance because clones depend on it.
        """
        return edf_snapshots.delete(self._calls, path)
