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

from collections.abc import Iterator, Mapping

from container_stack.host import attach
from container_stack.imagestore import edf_model as model

Endpoint = model.Endpoint
AppInstance = model.AppInstance
Volume = model.Volume
Snapshot = model.Snapshot
System = model.System


class Client:
    """One array and one tenant of it; threads and forked children may share it.

    Nothing is sent before the first method is called. Every method is idempotent unless it says
    otherwise.

    :raises InvalidRequest: the endpoint's tenant is malformed.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint

    def login(self) -> None:
        """Get a new key. Not needed: every method does so when there is none or it expired.

        :raises AccessDenied: the array doesn't know this login and password.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Close the idle connections; the next method opens new ones."""
        raise NotImplementedError

    def api_versions(self) -> tuple[str, ...]:
        """Return the REST versions that the array speaks, as ("v2.1", "v2.2")."""
        raise NotImplementedError

    def api_version(self) -> str:
        """Return the one that is spoken: the highest that both know.

        :raises NotSupported: there is none.
        """
        raise NotImplementedError

    def system(self) -> System:
        """Return what the array says of itself."""
        raise NotImplementedError

    def ensure_tenant(self) -> None:
        """Make the endpoint's tenant, and those above it, where they don't exist."""
        raise NotImplementedError

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
        raise NotImplementedError

    def app_instance(self, name: str) -> AppInstance:
        """Return the app instance of that name.

        :raises NotFound: there is none.
        """
        raise NotImplementedError

    def app_instances(self, prefix: str = "") -> Iterator[AppInstance]:
        """Yield the tenant's app instances whose names begin so, page by page, by name.

        What is made or deleted meanwhile may or may not be among them.
        """
        raise NotImplementedError

    def set_online(self, name: str, online: bool, *, force: bool = False) -> None:
        """Bring an app instance online or take it offline.

        :param force: take it offline even though initiators are logged in.
        :raises NotFound: there is none of that name.
        """
        raise NotImplementedError

    def delete_app_instance(self, name: str) -> bool:
        """Delete an app instance with its data and snapshots, whoever is logged in.

        :returns: whether there was one.
        :raises Busy: the array refuses, for instance because clones depend on it.
        """
        raise NotImplementedError

    def volume(self, name: str) -> Volume:
        """Return the volume of an app instance.

        :raises NotFound: there is none.
        """
        raise NotImplementedError

    def resize(self, name: str, size_gib: int) -> Volume:
        """Set the size of an app instance's volume, online, and wait until it has it.

        :raises NotFound: there is no such volume.
        :raises NoSpace: the array is full.
        :raises InvalidRequest: the array refuses the size, such as a smaller one.
        """
        raise NotImplementedError

    def target(self, name: str) -> attach.Target:
        """Return where an app instance's volume is exported, with the CHAP secret if it has one.

        :raises NotFound: there is none.
        :raises Busy: it has no target yet; bring it online.
        """
        raise NotImplementedError

    def wait_available(self, name: str) -> None:
        """Return when an app instance's target can be logged in to.

        :raises NotFound: there is none.
        :raises ArrayUnavailable: it isn't so within the operation's timeout.
        """
        raise NotImplementedError

    def set_chap(self, name: str, chap: attach.Chap | None) -> None:
        """Let the target of an app instance ask for this CHAP secret, or for none.

        :raises NotFound: there is none.
        """
        raise NotImplementedError

    def allow(self, name: str, iqn: str) -> None:
        """Let an initiator log in to an app instance's target, besides all that may already.

        :raises NotFound: there is no such app instance.
        """
        raise NotImplementedError

    def disallow(self, name: str, iqn: str) -> None:
        """Take the right from an initiator; the others keep it. NotFound is fine.

        Two calls for one app instance at the same time, from different processes, may undo each
        other: the array can only replace the whole list.
        """
        raise NotImplementedError

    def metadata(self, name: str) -> dict[str, str]:
        """Return what is noted at an app instance.

        :raises NotFound: there is no such app instance.
        """
        raise NotImplementedError

    def set_metadata(self, name: str, values: Mapping[str, str]) -> None:
        """Note these at an app instance; other keys stay.

        :raises NotFound: there is no such app instance.
        """
        raise NotImplementedError

    def snapshot(self, name: str) -> Snapshot:
        """Make a snapshot of an app instance's volume and wait until it can be cloned.

        Not idempotent, but one whose answer is lost isn't made twice.

        :raises NotFound: there is no such volume.
        """
        raise NotImplementedError

    def snapshots(self, name: str) -> list[Snapshot]:
        """Return the snapshots of an app instance's volume, oldest first.

        :raises NotFound: there is no such volume.
        """
        raise NotImplementedError

    def delete_snapshot(self, path: str) -> bool:
        """Delete a snapshot.

        :returns: whether there was one.
        :raises Busy: the array refuses, for instance because clones depend on it.
        """
        raise NotImplementedError
