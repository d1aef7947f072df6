# SPDX-License-Identifier: Apache-2.0
"""The array's REST interface, versions 2.1 and 2.2, as one WSGI application."""

from collections.abc import Callable, Iterable
from typing import Any

import falcon
from cheroot import errors as cheroot_errors

from container_stack.testing.edf import (
    access,
    array,
    calls,
    faults,
    instances,
    resources,
    schema,
    shapes,
    volumes,
)

_INSTANCE = "/app_instances/{name}"
_STORAGE = _INSTANCE + "/storage_instances/{storage}"
_VOLUME = _STORAGE + "/volumes/{volume}"

#: Paths below the version.
PATHS: dict[str, type[calls.Resource]] = {
    "/login": resources.Login,
    "/logout": resources.Logout,
    "/system": resources.System,
    "/placement_policies": resources.Policies,
    "/placement_policies/{name}": resources.Policy,
    "/tenants": resources.Tenants,
    "/tenants/{path:path}": resources.Tenant,
    "/initiators": resources.Initiators,
    "/initiators/{iqn}": resources.Initiator,
    "/initiator_groups": resources.Groups,
    "/initiator_groups/{name}": resources.Group,
    "/app_instances": instances.AppInstances,
    _INSTANCE: instances.AppInstance,
    _INSTANCE + "/metadata": instances.Metadata,
    _INSTANCE + "/int_ecosystem_data": instances.EcosystemData,
    _INSTANCE + "/storage_instances": instances.StorageInstances,
    _STORAGE: instances.StorageInstance,
    _STORAGE + "/acl_policy": instances.AclPolicy,
    _STORAGE + "/auth": instances.Auth,
    _STORAGE + "/volumes": instances.Volumes,
    _VOLUME: instances.Volume,
    _VOLUME + "/snapshots": instances.Snapshots,
    _VOLUME + "/snapshots/{timestamp}": instances.Snapshot,
}


class Api:
    """The interface of one array.

    :param control: admit everybody to /control/faults.
    """

    def __init__(
        self, made: array.Array, keys: access.Keys, trouble: faults.Faults, *, control: bool
    ) -> None:
        self._faults = trouble
        parts = calls.Parts(
            made, volumes.Volumes(made), keys, access.Access(made), shapes.Shapes(made), trouble
        )
        self._app = falcon.App(middleware=[calls.Gate(parts)])
        self._app.add_error_handler(Exception, calls.refuse)
        self._app.add_route("/api_versions", resources.Versions())
        described = resources.Description(schema.schema(PATHS.items()))
        self._app.add_route("/{version}/api", described)
        for path, resource in PATHS.items():
            self._app.add_route(f"/{{version}}{path}", resource(parts))
        if control:
            self._app.add_route("/control/faults", resources.Control(parts))

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        """Answer as WSGI wants it."""
        answered: Iterable[bytes] = self._app(environ, start)
        if self._faults.drops(environ["REQUEST_METHOD"], environ["PATH_INFO"]):
            raise cheroot_errors.FatalSSLAlert  # closes the connection without a word
        return answered
