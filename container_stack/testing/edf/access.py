# SPDX-License-Identifier: Apache-2.0
"""Who may do what with a simulated array: keys, tenants, initiators, access lists, CHAP."""

import secrets
import time
from typing import Any

from container_stack.testing.edf import array, bodies, errors, records

Record = records.Record

EXPIRED = "The key provided with the request does not correspond to a valid session."


class Keys:
    """Keys of those who logged in.

    :param lifetime: seconds.
    """

    def __init__(self, login: str, password: str, lifetime: float) -> None:
        self._login = login
        self._password = password
        self._lifetime = lifetime
        self._keys: dict[str, float] = {}

    def make(self, body: Any) -> str:
        """Return a new key for a login."""
        bodies.check(body, bodies.LOGIN, "name", "password")
        good = secrets.compare_digest(
            f"{body['name']}\0{body['password']}".encode(),
            f"{self._login}\0{self._password}".encode(),
        )
        if not good:
            raise errors.auth_failed("Login failed: unknown user or wrong password")
        key = secrets.token_hex(16)
        self._keys[key] = time.monotonic() + self._lifetime
        return key

    def check(self, key: str | None) -> None:
        """Raise unless the key is one of ours."""
        if self._keys.get(key or "", 0.0) < time.monotonic():
            raise errors.auth_failed(EXPIRED)

    def expire(self) -> None:
        """Forget all keys."""
        self._keys = {}


class Access:
    """Tenants and initiators of an array, and the access lists of its volumes."""

    def __init__(self, made: array.Array) -> None:
        self._array = made
        self._records = made.records

    # Tenants ------------------------------------------------------------------------------

    def tenant(self, header: str | None) -> str:
        """Return the tenant that a request speaks of."""
        path = header or "/root"
        if path not in self._records.tenants:
            raise errors.not_found(path)
        return path

    def make_tenant(self, above: str, body: Any) -> Record:
        """Make a tenant below another."""
        bodies.check(body, bodies.TENANT, "name")
        path = f"{above}/{body['name']}"
        with self._array.lock:
            if path in self._records.tenants or (above == "/root" and body["name"] == "root"):
                raise errors.conflict(f"Tenant {path} exists")
            self._records.tenants[path] = {**body, "path": path}
            self._records.save_common()
            return self._records.tenants[path]

    def delete_tenant(self, path: str) -> None:
        """Delete a tenant that has nothing."""
        with self._array.lock:
            self.tenant(path)
            used = {each["tenant"] for each in self._records.instances.values()}
            if path == "/root" or any(each == path or each.startswith(f"{path}/") for each in used):
                raise errors.conflict(f"Tenant {path} is in use")
            del self._records.tenants[path]
            self._records.save_common()

    # Initiators ---------------------------------------------------------------------------

    def initiator(self, iqn: str) -> Record:
        """Return an initiator."""
        found = self._records.initiators.get(iqn)
        if found is None:
            raise errors.not_found(f"/initiators/{iqn}")
        return found

    def make_initiator(self, tenant: str, body: Any, version: str) -> Record:
        """Make an initiator; with ``force`` also one that another tenant has."""
        bodies.check(body, bodies.initiator(version), "id", "name")
        with self._array.lock:
            known = self._records.initiators.get(body["id"])
            if known and not (body.get("force") and known["tenant"] != tenant):
                raise errors.conflict(f"Initiator {body['id']} exists")
            made = {"id": body["id"], "name": body["name"], "tenant": tenant}
            self._records.initiators[body["id"]] = made
            self._records.save_common()
            return made

    def delete_initiator(self, iqn: str) -> None:
        """Delete an initiator that no access list names."""
        with self._array.lock:
            self.initiator(iqn)
            lists = (each["storage"]["initiators"] for each in self._records.instances.values())
            if any(f"/initiators/{iqn}" in each for each in lists):
                raise errors.conflict(f"Initiator {iqn} is in use")
            del self._records.initiators[iqn]
            self._records.save_common()

    # Of one storage instance --------------------------------------------------------------

    def set_acl(self, instance: Record, body: Any) -> None:
        """Replace an access list."""
        bodies.check(body, bodies.ACL)
        with self._array.lock:
            storage = instance["storage"]
            initiators = [each["path"] for each in body.get("initiators", [])]
            for path in initiators:
                self.initiator(path.removeprefix("/initiators/"))
            if body.get("initiator_groups"):
                raise errors.not_found(body["initiator_groups"][0]["path"])
            storage["initiators"] = list(dict.fromkeys(initiators))
            self._records.save(instance)
            self._array.show(instance)

    def set_auth(self, instance: Record, body: Any) -> None:
        """Ask initiators for a secret, or for none."""
        bodies.check(body, bodies.AUTH)
        with self._array.lock:
            auth = {**instance["storage"]["auth"], **body}
            needed = {"none": 0, "chap": 1, "mchap": 2}[auth["type"]]
            pairs = (("target_user_name", "target_pswd"), ("initiator_user_name", "initiator_pswd"))
            for pair in pairs[:needed]:
                if not all(auth.get(key) for key in pair):
                    raise errors.unprocessable(f"{auth['type']} needs {' and '.join(pair)}")
            instance["storage"]["auth"] = auth if needed else {"type": "none"}
            self._records.save(instance)
            self._array.show(instance)
