# SPDX-License-Identifier: Apache-2.0
"""Requests to a simulated array, and the envelopes of its answers."""

import dataclasses
import json
import logging
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import falcon

from container_stack import exceptions
from container_stack.testing.edf import (
    access,
    array,
    errors,
    faults,
    listing,
    records,
    shapes,
    volumes,
)

LOG = logging.getLogger(__name__)

#: Versions of the REST interface.
VERSIONS = ("v2.1", "v2.2")
#: What needs no key, below a version.
_OPEN = ("/login",)

Record = records.Record


@dataclasses.dataclass(frozen=True, slots=True)
class Parts:
    """What resources work with."""

    array: array.Array
    volumes: volumes.Volumes
    keys: access.Keys
    access: access.Access
    shapes: shapes.Shapes
    faults: faults.Faults


@dataclasses.dataclass(frozen=True, slots=True)
class Call:
    """One request.

    :param path: below the version.
    :param params: of its query.
    """

    method: str
    version: str
    path: str
    tenant: str
    params: Mapping[str, Any]
    body: Any


class Resource:
    """What can be asked for at one path; methods are falcon's ``on_get`` and so on."""

    def __init__(self, parts: Parts) -> None:
        self.array = parts.array
        self.volumes = parts.volumes
        self.access = parts.access
        self.shapes = parts.shapes
        self.keys = parts.keys

    def page(
        self,
        request: falcon.Request,
        response: falcon.Response,
        entries: Iterable[Any],
        shape: Callable[[Any], Any],
    ) -> None:
        """Answer with the part of a list that was asked for."""
        response.media, response.context.about = listing.page(
            entries,
            call(request).params,
            shape,
            counts_filtered=self.array.settings.policies,
        )

    def instance(self, request: falcon.Request, name: str) -> Record:
        """Return an app instance of the tenant, by name or UUID."""
        return self.array.find(call(request).tenant, name)

    def storage(self, request: falcon.Request, name: str, storage: str) -> Record:
        """Return an app instance that has such a storage instance."""
        found = self.instance(request, name)
        if storage not in (found["storage"]["name"], found["storage"]["uuid"]):
            raise errors.not_found(request.path)
        return found

    def volume(self, request: falcon.Request, name: str, storage: str, volume: str) -> Record:
        """Return an app instance that has such a volume."""
        found = self.storage(request, name, storage)
        known = found["storage"]["volume"]
        if volume not in (known["name"], known["uuid"]):
            raise errors.not_found(request.path)
        return found


def call(request: falcon.Request) -> Call:
    """Return what the gate understood of a request."""
    found: Call = request.context.call
    return found


class Gate:
    """What every request passes, coming and going: faults, keys, the envelope."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def process_request(self, request: falcon.Request, response: falcon.Response) -> None:
        """Let in who has a key."""
        request.context.started = time.monotonic()
        version, _, rest = request.path.strip("/").partition("/")
        if version == "control":
            return
        self._parts.faults.before(request.method, request.path)
        if request.path == "/api_versions":
            return
        if version not in VERSIONS:
            raise errors.not_found(request.path)
        if f"/{rest}" not in _OPEN:
            self._parts.keys.check(request.get_header("Auth-Token"))
        request.context.call = Call(
            method=request.method,
            version=version,
            path=f"/{rest}",
            tenant=self._parts.access.tenant(request.get_header("tenant")),
            params=request.params,
            body=body(request),
        )

    def process_response(
        self,
        request: falcon.Request,
        response: falcon.Response,
        resource: object,
        req_succeeded: bool,
    ) -> None:
        """Put what a resource answered into its envelope."""
        asked = getattr(request.context, "call", None)
        if not req_succeeded or asked is None or resource is None:
            return
        taken = {"request_time": round((time.monotonic() - request.context.started) * 1000)}
        if getattr(resource, "bare", False):
            response.media = {**response.media, **taken}
            return
        about = getattr(response.context, "about", None)
        response.media = {
            "tenant": asked.tenant,
            "path": asked.path,
            "version": asked.version,
            "data": response.media,
            **taken,
            **({"metadata": about} if about else {}),
        }


def body(request: falcon.Request) -> Any:
    """Return the JSON of a request; {} where there is none."""
    text = request.bounded_stream.read()
    if not text.strip():
        return {}
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise errors.invalid("the body is no JSON") from exc


def refuse(
    request: falcon.Request, response: falcon.Response, exc: Exception, _params: object
) -> None:
    """Answer with an error in the array's form."""
    error = _as_error(exc, request)
    response.status = falcon.code_to_http_status(error.status)
    version = request.path.strip("/").partition("/")[0]
    response.media = {
        "name": error.name,
        # Nobody recorded the numbers of real ones.
        "code": error.status,
        "http": error.status,
        "message": error.message,
        "ts": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "version": version,
        "op": request.method,
        "tenant": request.get_header("tenant") or "/root",
        "path": request.path,
        "api_req_id": uuid.uuid4().int % 2**31,
        "errors": [],
    }


def _as_error(exc: Exception, request: falcon.Request) -> errors.ApiError:
    if isinstance(exc, errors.ApiError):
        return exc
    if isinstance(exc, exceptions.NoSpace):
        return errors.full()
    if isinstance(exc, exceptions.InvalidRequest):
        return errors.unprocessable(str(exc))
    if isinstance(exc, falcon.HTTPNotFound):
        return errors.not_found(request.path)
    if isinstance(exc, falcon.HTTPError):
        return errors.ApiError(exc.status_code, "InvalidRequestError", exc.title or "")
    LOG.error("The simulator failed", exc_info=exc)
    return errors.ApiError(500, "InternalError", f"{type(exc).__name__}: {exc}")
