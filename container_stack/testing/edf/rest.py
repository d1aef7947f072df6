# SPDX-License-Identifier: Apache-2.0
"""The array's REST interface, versions 2.1 and 2.2, as one WSGI application."""

import re
import time
import uuid
from collections.abc import Callable, Iterable
from typing import Any

import falcon
from cheroot import errors as cheroot_errors

from container_stack.testing.edf import (
    access,
    array,
    bodies,
    errors,
    faults,
    listing,
    records,
    shapes,
)

VERSIONS = ("v2.1", "v2.2")

Record = records.Record
Answer = tuple[Any, dict[str, int] | None]
Handler = Callable[..., Any]

#: Filled below: method and pattern of the path, and who answers.
ROUTES: list[tuple[str, re.Pattern[str], Handler]] = []


def route(methods: str, path: str) -> Callable[[Handler], Handler]:
    """Let a function answer requests to a path, whose ``<parts>`` become its arguments."""

    def keep(handler: Handler) -> Handler:
        pattern = re.compile(re.sub(r"(?<!P)<(\w+)>", r"(?P<\1>[^/]+)", path))
        ROUTES.extend((method, pattern, handler) for method in methods.split())
        return handler

    return keep


class Call:
    """One request, with what it needs to be answered."""

    def __init__(self, api: "Api", request: falcon.Request, version: str, path: str) -> None:
        self.api = api
        self.array = api.array
        self.access = api.access
        self.shapes = api.shapes
        self.version = version
        self.path = path
        self.method = request.method
        self.params = request.params
        self.tenant = api.access.tenant(request.get_header("tenant"))
        self.body = _body(request)

    def instance(self, name: str) -> Record:
        return self.array.find(self.tenant, name)

    def storage(self, name: str, storage: str) -> Record:
        found = self.instance(name)
        if found["storage"]["name"] != storage:
            raise errors.not_found(self.path)
        return found

    def volume(self, name: str, storage: str, volume: str) -> Record:
        found = self.storage(name, storage)
        if found["storage"]["volume"]["name"] != volume:
            raise errors.not_found(self.path)
        return found


class Api:
    """The interface of one array.

    :param control: admit everybody to /control/faults.
    """

    def __init__(
        self, made: array.Array, keys: access.Keys, trouble: faults.Faults, *, control: bool
    ) -> None:
        self.array = made
        self.access = access.Access(made)
        self.shapes = shapes.Shapes(made)
        self._keys = keys
        self._faults = trouble
        self._control = control
        self._app = falcon.App()
        self._app.add_sink(self._serve, "/")

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        """Answer as WSGI wants it."""
        answered: Iterable[bytes] = self._app(environ, start)
        if self._faults.drops(environ["REQUEST_METHOD"], environ["PATH_INFO"]):
            raise cheroot_errors.FatalSSLAlert  # closes the connection without a word
        return answered

    def _serve(self, req: falcon.Request, resp: falcon.Response, **kwargs: Any) -> None:
        started = time.monotonic()
        version = req.path.strip("/").partition("/")[0]
        path = "/" + req.path.strip("/").partition("/")[2]
        try:
            payload = self._answer(req, version, path)
            payload["request_time"] = round(time.monotonic() - started, 6)
        except errors.ApiError as exc:
            resp.status = exc.status
            payload = _error(exc, req, version)
        resp.media = payload

    def _answer(self, request: falcon.Request, version: str, path: str) -> dict[str, Any]:
        if self._control and version == "control":
            return self._trouble(request)
        self._faults.before(request.method, request.path)
        if version == "api_versions":
            return {"api_versions": list(VERSIONS)}
        if version not in VERSIONS:
            raise errors.not_found(request.path)
        if path == "/login":
            if request.method != "PUT":
                raise errors.ApiError(405, "InvalidRequestError", "PUT it")
            return {"key": self._keys.make(_body(request)), "version": version}
        self._keys.check(request.get_header("Auth-Token"))
        call = Call(self, request, version, path)
        data, about = _dispatch(call)
        envelope = {"tenant": call.tenant, "path": path, "version": version, "data": data}
        return {**envelope, **({"metadata": about} if about else {})}

    def _trouble(self, request: falcon.Request) -> dict[str, Any]:
        """Arm a fault: {"fault": "http_error", "status": 503, "times": 2}; DELETE clears all."""
        body = _body(request) or {}
        kind = body.pop("fault", "clear")
        if request.method == "DELETE" or kind == "clear":
            self._faults.clear()
            return {}
        try:
            self._faults.arm(kind, body)
        except ValueError as exc:
            raise errors.invalid(str(exc)) from exc
        return {}


def _dispatch(call: Call) -> Answer:
    known = False
    for method, pattern, handler in ROUTES:
        if found := pattern.fullmatch(call.path):
            known = True
            if method == call.method:
                answer = handler(call, **found.groupdict())
                return answer if isinstance(answer, tuple) else (answer, None)
    if known:
        raise errors.ApiError(405, "InvalidRequestError", f"{call.method} isn't allowed here")
    raise errors.not_found(call.path)


def _body(request: falcon.Request) -> Any:
    if not request.content_length:
        return {}
    try:
        return request.get_media()
    except falcon.HTTPError as exc:
        raise errors.invalid("the body is no JSON") from exc


def _error(exc: errors.ApiError, request: falcon.Request, version: str) -> dict[str, Any]:
    return {
        "name": exc.name,
        "code": exc.status,
        "http": exc.status,
        "message": exc.message,
        "ts": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "version": version,
        "op": request.method,
        "tenant": request.get_header("tenant") or "/root",
        "path": request.path,
        "api_req_id": uuid.uuid4().int % 2**31,
        "errors": [],
    }


def _page(
    call: Call, entries: Iterable[Any], shape: Callable[[Any], Any] = lambda each: each
) -> Answer:
    counted = call.array.settings.policies
    return listing.page(entries, call.params, shape, counts_filtered=counted)


# The array --------------------------------------------------------------------------------


@route("GET", "/api")
def _api(call: Call) -> Any:
    known: dict[str, dict[str, Any]] = {}
    for method, pattern, _handler in ROUTES:
        path = re.sub(r"\(\?P<(\w+)>\[\^/\]\+\)", r":\1", pattern.pattern)
        known.setdefault(path, {})[
            {"GET": "read", "PUT": "update"}.get(method, method.lower())
        ] = {}
    return known


@route("GET", "/system")
def _system(call: Call) -> Any:
    return call.shapes.system()


@route("GET", "/placement_policies")
def _policies(call: Call) -> Any:
    if not call.array.settings.policies:
        raise errors.not_found(call.path)
    names = ("default", "hybrid", "single-flash", "all-flash")
    return _page(call, [{"path": f"/placement_policies/{name}", "name": name} for name in names])


@route("GET", "/tenants")
def _tenants(call: Call) -> Any:
    below = [t for path, t in call.array.records.tenants.items() if path.startswith(call.tenant)]
    return _page(call, below, call.shapes.tenant)


@route("POST", "/tenants")
def _new_tenant(call: Call) -> Any:
    return call.shapes.tenant(call.access.make_tenant(call.tenant, call.body))


@route("GET DELETE", "/tenants/(?P<path>.+)")
def _tenant(call: Call, path: str) -> Any:
    full = path if path.startswith("root") else f"{call.tenant.strip('/')}/{path}"
    found = call.shapes.tenant(call.array.records.tenants[call.access.tenant(f"/{full}")])
    if call.method == "DELETE":
        call.access.delete_tenant(f"/{full}")
    return found


@route("GET", "/initiators")
def _initiators(call: Call) -> Any:
    known = call.array.records.initiators.values()
    mine = [each for each in known if each["tenant"] == call.tenant]
    return _page(call, mine, call.shapes.initiator)


@route("POST", "/initiators")
def _new_initiator(call: Call) -> Any:
    made = call.access.make_initiator(call.tenant, call.body, call.version)
    return call.shapes.initiator(made)


@route("GET DELETE", "/initiators/<iqn>")
def _initiator(call: Call, iqn: str) -> Any:
    found = call.shapes.initiator(call.access.initiator(iqn))
    if call.method == "DELETE":
        call.access.delete_initiator(iqn)
    return found


# App instances ----------------------------------------------------------------------------


@route("GET", "/app_instances")
def _instances(call: Call) -> Any:
    with call.array.lock:
        known = list(call.array.records.instances.values())
    mine = [each for each in known if each["tenant"] == call.tenant]
    return _page(call, mine, call.shapes.app_instance)


@route("POST", "/app_instances")
def _new_instance(call: Call) -> Any:
    return call.shapes.app_instance(call.array.create(call.tenant, call.body))


@route("GET PUT DELETE", "/app_instances/<name>")
def _instance(call: Call, name: str) -> Any:
    found = call.instance(name)
    if call.method == "PUT":
        call.array.change(found, call.body)
    shape = call.shapes.app_instance(found)
    if call.method == "DELETE":
        call.array.delete(found)
    return shape


@route("GET PUT", "/app_instances/<name>/metadata")
def _metadata(call: Call, name: str) -> Any:
    if call.array.settings.policies:
        raise errors.not_found(call.path)
    return _notes(call, call.instance(name), call.body)


@route("GET PUT", "/app_instances/<name>/int_ecosystem_data")
def _ecosystem(call: Call, name: str) -> Any:
    if not call.array.settings.policies:
        raise errors.not_found(call.path)
    if call.method == "PUT":
        bodies.check(call.body, {"data": dict}, "data")
    return {"data": _notes(call, call.instance(name), call.body.get("data"))}


def _notes(call: Call, instance: Record, values: Any) -> Any:
    if call.method == "PUT":
        bodies.check(values, dict.fromkeys(values, str) if isinstance(values, dict) else {})
        instance["metadata"] = values
        call.array.records.save(instance)
    return instance["metadata"]


@route("GET", "/app_instances/<name>/storage_instances")
def _storages(call: Call, name: str) -> Any:
    return _page(call, [call.shapes.storage_instance(call.instance(name))])


@route("GET", "/app_instances/<name>/storage_instances/<storage>")
def _storage(call: Call, name: str, storage: str) -> Any:
    return call.shapes.storage_instance(call.storage(name, storage))


@route("GET PUT", "/app_instances/<name>/storage_instances/<storage>/acl_policy")
def _acl(call: Call, name: str, storage: str) -> Any:
    found = call.storage(name, storage)
    if call.method == "PUT":
        call.access.set_acl(found, call.body)
    return call.shapes.acl(found)


@route("GET PUT", "/app_instances/<name>/storage_instances/<storage>/auth")
def _auth(call: Call, name: str, storage: str) -> Any:
    found = call.storage(name, storage)
    if call.method == "PUT":
        call.access.set_auth(found, call.body)
    return call.shapes.auth(found)


_VOLUMES = "/app_instances/<name>/storage_instances/<storage>/volumes"


@route("GET", _VOLUMES)
def _volumes(call: Call, name: str, storage: str) -> Any:
    return _page(call, [call.shapes.volume(call.storage(name, storage))])


@route("GET PUT", f"{_VOLUMES}/<volume>")
def _volume(call: Call, name: str, storage: str, volume: str) -> Any:
    found = call.volume(name, storage, volume)
    if call.method == "PUT":
        call.array.change_volume(found, call.body)
    return call.shapes.volume(found)


@route("GET", f"{_VOLUMES}/<volume>/snapshots")
def _snapshots(call: Call, name: str, storage: str, volume: str) -> Any:
    found = call.volume(name, storage, volume)
    taken = list(found["storage"]["volume"]["snapshots"])
    return _page(call, [call.shapes.snapshot(found, each) for each in taken])


@route("POST", f"{_VOLUMES}/<volume>/snapshots")
def _new_snapshot(call: Call, name: str, storage: str, volume: str) -> Any:
    found = call.volume(name, storage, volume)
    return call.shapes.snapshot(found, call.array.take_snapshot(found, call.body))


@route("GET DELETE", f"{_VOLUMES}/<volume>/snapshots/<timestamp>")
def _snapshot(call: Call, name: str, storage: str, volume: str, timestamp: str) -> Any:
    found = call.volume(name, storage, volume)
    if timestamp not in found["storage"]["volume"]["snapshots"]:
        raise errors.not_found(call.path)
    shape = call.shapes.snapshot(found, timestamp)
    if call.method == "DELETE":
        call.array.drop_snapshot(found, timestamp)
    return shape
