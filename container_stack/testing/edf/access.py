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

    def forget(self, key: str | None) -> None:
        """End one key."""
        self._keys.pop(key or "", None)

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

    def tenants(self, above: str) -> list[Record]:
        """Return the tenants right below another."""
        with self._array.lock:
            known = self._records.tenants.items()
            return [each for path, each in known if path.rpartition("/")[0] == above]

    def find_tenant(self, path: str) -> Record:
        """Return a tenant."""
        return self._records.tenants[self.tenant(path)]

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
            if path == "/root" or path in used or self.tenants(path):
                raise errors.conflict(f"Tenant {path} is in use")
            del self._records.tenants[path]
            self._records.save_common()

    # Initiators ---------------------------------------------------------------------------

    def initiators(self, tenant: str) -> list[Record]:
        """Return a tenant's initiators."""
        with self._array.lock:
            known = self._records.initiators.values()
            return [each for each in known if each["tenant"] == tenant]

    def initiator(self, tenant: str, iqn: str) -> Record:
        """Return an initiator of the tenant, or else of another."""
        with self._array.lock:
            known = [each for each in self._records.initiators.values() if each["id"] == iqn]
        if not known:
            raise errors.not_found(f"/initiators/{iqn}")
        return next((each for each in known if each["tenant"] == tenant), known[0])

    def make_initiator(self, tenant: str, body: Any, version: str) -> Record:
        """Make an initiator; with ``force`` also one that another tenant has."""
        bodies.check(body, bodies.initiator(version), "id", "name")
        with self._array.lock:
            known = self._records.initiators.values()
            owners = {each["tenant"] for each in known if each["id"] == body["id"]}
            if tenant in owners or (owners and not body.get("force")):
                raise errors.conflict(f"Initiator {body['id']} exists")
            made = {"id": body["id"], "name": body["name"], "tenant": tenant}
            self._records.initiators[f"{tenant} {body['id']}"] = made
            self._records.save_common()
            return made

    def delete_initiator(self, tenant: str, iqn: str) -> None:
        """Delete a tenant's initiator that no access list of it names."""
        path = f"/initiators/{iqn}"
        with self._array.lock:
            if self.initiator(tenant, iqn)["tenant"] != tenant:
                raise errors.not_found(path)
            lists = [each["storage"]["initiators"] for each in self._array.instances(tenant)]
            lists += [each["members"] for each in self.groups(tenant)]
            if any(path in each for each in lists):
                raise errors.conflict(f"Initiator {iqn} is in use")
            del self._records.initiators[f"{tenant} {iqn}"]
            self._records.save_common()

    # Groups of initiators -----------------------------------------------------------------

    def groups(self, tenant: str) -> list[Record]:
        """Return a tenant's groups."""
        with self._array.lock:
            return [each for each in self._records.groups.values() if each["tenant"] == tenant]

    def group(self, tenant: str, name: str) -> Record:
        """Return a group."""
        found = self._records.groups.get(f"{tenant} {name}")
        if found is None:
            raise errors.not_found(f"/initiator_groups/{name}")
        return found

    def make_group(self, tenant: str, body: Any) -> Record:
        """Make a group."""
        bodies.check(body, bodies.GROUP, "name")
        with self._array.lock:
            if f"{tenant} {body['name']}" in self._records.groups:
                raise errors.conflict(f"Initiator group {body['name']} exists")
            made = {"name": body["name"], "tenant": tenant, "members": []}
            return self._set_members(made, body.get("members", []))

    def change_group(self, tenant: str, name: str, body: Any) -> Record:
        """Give a group other members."""
        bodies.check(body, {"members": bodies.GROUP["members"]}, "members")
        with self._array.settled():
            return self._set_members(self.group(tenant, name), body["members"])

    def delete_group(self, tenant: str, name: str) -> None:
        """Delete a group that no access list names."""
        with self._array.lock:
            self.group(tenant, name)
            path = f"/initiator_groups/{name}"
            known = self._array.instances(tenant)
            if any(path in each["storage"]["initiator_groups"] for each in known):
                raise errors.conflict(f"Initiator group {name} is in use")
            del self._records.groups[f"{tenant} {name}"]
            self._records.save_common()

    def _set_members(self, group: Record, members: list[Record]) -> Record:
        group["members"] = self._known(group["tenant"], members)
        self._records.groups[f"{group['tenant']} {group['name']}"] = group
        self._records.save_common()
        path = f"/initiator_groups/{group['name']}"
        for each in self._array.instances(group["tenant"]):
            if path in each["storage"]["initiator_groups"]:
                self._array.show(each)
        return group

    def _known(self, tenant: str, references: list[Record]) -> list[str]:
        """Return the paths of initiators that exist, each once."""
        paths = list(dict.fromkeys(each["path"] for each in references))
        for path in paths:
            self.initiator(tenant, path.removeprefix("/initiators/"))
        return paths

    # Of one storage instance --------------------------------------------------------------

    def set_storage(self, instance: Record, body: Any) -> None:
        """Say whether the access list counts, and what is part of a storage instance."""
        bodies.check(body, bodies.STORAGE_CHANGE)
        if "acl_policy" in body:
            self.set_acl(instance, body["acl_policy"])
        if "auth" in body:
            self.set_auth(instance, body["auth"])
        with self._array.reaching(instance), self._array.shown(instance):
            storage = instance["storage"]
            mode = body.get("access_control_mode", storage["access_control_mode"])
            storage["access_control_mode"] = mode

    def set_acl(self, instance: Record, body: Any) -> None:
        """Replace an access list."""
        bodies.check(body, bodies.ACL)
        tenant = instance["tenant"]
        with self._array.reaching(instance), self._array.shown(instance):
            storage = instance["storage"]
            storage["initiators"] = self._known(tenant, body.get("initiators", []))
            groups = dict.fromkeys(each["path"] for each in body.get("initiator_groups", []))
            for path in groups:
                self.group(tenant, path.removeprefix("/initiator_groups/"))
            storage["initiator_groups"] = list(groups)

    def set_auth(self, instance: Record, body: Any) -> None:
        """Ask initiators for a secret, or for none."""
        bodies.check(body, bodies.AUTH)
        with self._array.reaching(instance), self._array.shown(instance):
            auth = {**instance["storage"]["auth"], **body}
            needed = {"none": 0, "chap": 1, "mchap": 2}[auth["type"]]
            pairs = (("target_user_name", "target_pswd"), ("initiator_user_name", "initiator_pswd"))
            for pair in pairs[:needed]:
                if not all(auth.get(key) for key in pair):
                    raise errors.unprocessable(f"{auth['type']} needs {' and '.join(pair)}")
            instance["storage"]["auth"] = auth if needed else {"type": "none"}
