# SPDX-License-Identifier: Apache-2.0
"""The array as a whole: logins, the system, tenants, initiators and groups of them."""

from typing import Any

from falcon import Request, Response

from container_stack.testing.edf import array, calls, errors

#: Those that arrays come with.
POLICIES = ("default", "hybrid", "single-flash", "all-flash")


class Versions:
    """The versions of the interface; without key or envelope."""

    def on_get(self, req: Request, resp: Response) -> None:
        resp.media = {"api_versions": list(calls.VERSIONS)}


class Login(calls.Resource):
    """Keys."""

    bare = True

    def on_put(self, req: Request, resp: Response, version: str) -> None:
        resp.media = {"key": self.keys.make(calls.call(req).body), "version": version}


class Logout(calls.Resource):
    """The end of a key."""

    bare = True

    def on_put(self, req: Request, resp: Response, version: str) -> None:
        self.keys.forget(req.get_header("Auth-Token"))
        resp.media = {"version": version}


class Description:
    """What this interface consists of."""

    def __init__(self, described: dict[str, Any]) -> None:
        self._described = described

    def on_get(self, req: Request, resp: Response, version: str) -> None:
        resp.media = self._described


class System(calls.Resource):
    """What the array says of itself."""

    def on_get(self, req: Request, resp: Response, version: str) -> None:
        resp.media = self.shapes.system()


class Policies(calls.Resource):
    """Placement policies, which software has from 3.3 on."""

    def on_get(self, req: Request, resp: Response, version: str) -> None:
        self.page(req, resp, map(_policy, _known_policies(self.array, req)), dict)


class Policy(calls.Resource):
    """One of them."""

    def on_get(self, req: Request, resp: Response, version: str, name: str) -> None:
        if name not in _known_policies(self.array, req):
            raise errors.not_found(req.path)
        resp.media = _policy(name)


def _known_policies(made: array.Array, req: Request) -> tuple[str, ...]:
    if not made.settings.policies:
        raise errors.not_found(req.path)
    return POLICIES


def _policy(name: str) -> dict[str, Any]:
    return {"path": f"/placement_policies/{name}", "name": name}


class Tenants(calls.Resource):
    """The tenants right below the request's."""

    def on_get(self, req: Request, resp: Response, version: str) -> None:
        below = self.access.tenants(calls.call(req).tenant)
        self.page(req, resp, below, self.shapes.tenant)

    def on_post(self, req: Request, resp: Response, version: str) -> None:
        asked = calls.call(req)
        resp.media = self.shapes.tenant(self.access.make_tenant(asked.tenant, asked.body))


class Tenant(calls.Resource):
    """One tenant, by its path or by its name below the request's tenant."""

    def on_get(self, req: Request, resp: Response, version: str, path: str) -> None:
        resp.media = self._shape(req, path)

    def on_delete(self, req: Request, resp: Response, version: str, path: str) -> None:
        resp.media = self._shape(req, path)
        self.access.delete_tenant(resp.media["path"].removeprefix("/tenants"))

    def _shape(self, req: Request, path: str) -> dict[str, Any]:
        full = f"/{path}"
        if path.split("/")[0] != "root":
            full = f"{calls.call(req).tenant}{full}"
        return self.shapes.tenant(self.access.find_tenant(full))


class Initiators(calls.Resource):
    """The tenant's initiators."""

    def on_get(self, req: Request, resp: Response, version: str) -> None:
        mine = self.access.initiators(calls.call(req).tenant)
        self.page(req, resp, mine, self.shapes.initiator)

    def on_post(self, req: Request, resp: Response, version: str) -> None:
        asked = calls.call(req)
        made = self.access.make_initiator(asked.tenant, asked.body, version)
        resp.media = self.shapes.initiator(made)


class Initiator(calls.Resource):
    """One initiator."""

    def on_get(self, req: Request, resp: Response, version: str, iqn: str) -> None:
        resp.media = self.shapes.initiator(self.access.initiator(calls.call(req).tenant, iqn))

    def on_delete(self, req: Request, resp: Response, version: str, iqn: str) -> None:
        resp.media = self.shapes.initiator(self.access.initiator(calls.call(req).tenant, iqn))
        self.access.delete_initiator(calls.call(req).tenant, iqn)


class Groups(calls.Resource):
    """The tenant's groups of initiators."""

    def on_get(self, req: Request, resp: Response, version: str) -> None:
        mine = self.access.groups(calls.call(req).tenant)
        self.page(req, resp, mine, self.shapes.group)

    def on_post(self, req: Request, resp: Response, version: str) -> None:
        asked = calls.call(req)
        resp.media = self.shapes.group(self.access.make_group(asked.tenant, asked.body))


class Group(calls.Resource):
    """One group."""

    def on_get(self, req: Request, resp: Response, version: str, name: str) -> None:
        resp.media = self.shapes.group(self.access.group(calls.call(req).tenant, name))

    def on_put(self, req: Request, resp: Response, version: str, name: str) -> None:
        asked = calls.call(req)
        resp.media = self.shapes.group(self.access.change_group(asked.tenant, name, asked.body))

    def on_delete(self, req: Request, resp: Response, version: str, name: str) -> None:
        tenant = calls.call(req).tenant
        resp.media = self.shapes.group(self.access.group(tenant, name))
        self.access.delete_group(tenant, name)


class Control:
    """Faults, for whoever asks: {"fault": "http_error", "status": 503}; DELETE ends all."""

    def __init__(self, parts: calls.Parts) -> None:
        self._faults = parts.faults

    def on_post(self, req: Request, resp: Response) -> None:
        asked = calls.body(req)
        if not isinstance(asked, dict):
            raise errors.invalid("the body must be an object")
        kind = str(asked.pop("fault", ""))
        try:
            self._faults.arm(kind, asked)
        except ValueError as exc:
            raise errors.invalid(str(exc)) from exc
        resp.media = {}

    def on_delete(self, req: Request, resp: Response) -> None:
        self._faults.clear()
        resp.media = {}
