# SPDX-License-Identifier: Apache-2.0
"""Who may log in to the target of an app instance: tenants, access lists, initiators, CHAP."""

import logging
import re
import urllib.parse
import uuid

from container_stack import exceptions
from container_stack.host import attach
from container_stack.imagestore import edf_bodies, edf_calls, edf_json

LOG = logging.getLogger(__name__)

#: Names of initiators (RFC 3720, 3.2.6.3).
_INITIATOR = re.compile(r"(iqn|eui|naa)\.[\w.:\-]{1,219}", re.ASCII | re.IGNORECASE)


class Access:
    """The target of one storage instance.

    :param path: of the storage instance.
    """

    def __init__(self, calls: edf_calls.Calls, path: str) -> None:
        self._calls = calls
        self._path = path

    def target(self) -> attach.Target:
        """Return the target with its CHAP secret.

        :raises Busy: there is none yet.
        """
        found = edf_json.target(self._calls.get(self._path))
        chap = edf_json.chap(self._calls.get(f"{self._path}/auth"))
        return attach.Target(found.iqn, found.portals, chap=chap)

    def set_chap(self, chap: attach.Chap | None) -> None:
        body = edf_bodies.new_auth(chap)
        self._calls.put(f"{self._path}/auth", body, secret=True)
        LOG.info("Set %(type)s for %(path)s", {"type": body["type"], "path": self._path})

    def allow(self, iqn: str) -> None:
        """Add an initiator to the access list."""
        path = self._initiator(iqn)
        with self._calls.connection.changing():
            initiators, groups = self._acl()
            if any(_names(each, iqn) for each in initiators):
                return
            self._calls.put(f"{self._path}/acl_policy", edf_bodies.acl([*initiators, path], groups))
        LOG.info("Allowed %(iqn)s to use %(path)s", {"iqn": iqn, "path": self._path})

    def disallow(self, iqn: str) -> None:
        """Take an initiator off the access list."""
        with self._calls.connection.changing():
            initiators, groups = self._acl()
            kept = [each for each in initiators if not _names(each, iqn)]
            if kept == initiators:
                return
            self._calls.put(f"{self._path}/acl_policy", edf_bodies.acl(kept, groups))
        LOG.info("Took %(path)s from %(iqn)s", {"iqn": iqn, "path": self._path})

    def _acl(self) -> tuple[list[str], list[str]]:
        policy = edf_json.Fields(self._calls.get(f"{self._path}/acl_policy"), "an access list")
        return (
            [each.text("path") for each in policy.objects("initiators")],
            [each.text("path") for each in policy.objects("initiator_groups")],
        )

    def _initiator(self, iqn: str) -> str:
        """Return the path of an initiator, which is made when the tenant has none of that name."""
        if not _INITIATOR.fullmatch(iqn):
            raise exceptions.InvalidRequest(f"{iqn!r} is no initiator's name.")
        path = f"/initiators/{iqn}"
        body: dict[str, object] = {"id": iqn, "name": f"container-stack-{uuid.uuid4().hex[:8]}"}
        try:
            found = edf_json.Fields(self._calls.get(path), "an initiator")
        except exceptions.NotFound:
            pass
        else:
            if found.text("tenant", self._calls.tenant) == self._calls.tenant:
                return found.text("path", path)
            # Another tenant's: only v2.2 lets us have one of the same name.
            if self._calls.connection.key().version == "v2.1":
                return found.text("path", path)
            body["force"] = True
        try:
            made = self._calls.post("/initiators", body)
        except exceptions.AlreadyExists:
            return path
        LOG.info("Made initiator %(iqn)s", {"iqn": iqn})
        return edf_json.Fields(made, "an initiator").text("path", path)


def _names(path: str, iqn: str) -> bool:
    """Tell whether a path is that initiator's; their names don't depend on case."""
    return urllib.parse.unquote(path).rpartition("/")[2].lower() == iqn.lower()


def ensure_tenant(calls: edf_calls.Calls) -> None:
    """Make the tenant, and those above it, where they don't exist."""
    above = ""
    for name in calls.tenant.split("/")[1:]:
        if above:
            _ensure_tenant(calls, name, above)
        above = f"{above}/{name}"


def _ensure_tenant(calls: edf_calls.Calls, name: str, above: str) -> None:
    try:
        calls.post("/tenants", {"name": name}, tenant=above)
    except exceptions.AlreadyExists:
        return
    LOG.info("Made tenant %(above)s/%(name)s", {"above": above, "name": name})
