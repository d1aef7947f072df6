# SPDX-License-Identifier: Apache-2.0
"""The interface as WSGI applications: one for a driver's volumes, one for the cluster."""

import threading
import time
from collections.abc import Mapping
from typing import Any

import falcon

from container_stack.drivers.osd import (
    answers,
    cluster,
    drivers,
    forms,
    later,
    openapi,
    original,
    servers,
    volumes,
)
from container_stack.volumes import registry, service

App = falcon.App[falcon.Request, falcon.Response]

#: Of this interface.
VERSION = "v1"

_VOLUMES = ("/v1/volumes", "/v1/osd-volumes")
_SNAPSHOTS = ("/v1/snapshot", "/v1/osd-snapshot")
_FIGURES: dict[str, type[volumes.Resource]] = {
    "/stats": volumes.Stats,
    "/alerts": volumes.Alerts,
    "/usage": volumes.Usage,
    "/usedsize": volumes.UsedSize,
}


class Running:
    """Falcon middleware that knows which changes are being made, such as mounts that hang."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[int, tuple[str, str, float]] = {}

    def process_request(self, request: falcon.Request, response: falcon.Response) -> None:
        """Count it in."""
        if servers.changes(request.method, request.path):
            with self._lock:
                self._running[id(request)] = (request.method, request.path, time.monotonic())

    def process_response(
        self, request: falcon.Request, response: falcon.Response, resource: object, ok: bool
    ) -> None:
        """Count it out."""
        if servers.changes(request.method, request.path):
            with self._lock:
                self._running.pop(id(request), None)

    def on_get(
        self, request: falcon.Request, response: falcon.Response, volume_id: str = ""
    ) -> None:
        """/v1/osd-volumes/requests: return them; of one volume, or of all."""
        now = time.monotonic()
        with self._lock:
            found = [each for each in self._running.values() if volume_id in each[1]]
        shown = [
            # The key's spelling is the original's (api.proto, ActiveRequest).
            {"ReqestKV": {"method": method, "path": path, "seconds": f"{now - since:.1f}"}}
            for method, path, since in sorted(found, key=lambda each: each[2])
        ]
        answers.put(response, {"RequestCount": len(shown), "ActiveRequest": shown})


class Versions:
    """Which versions of an interface are served."""

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Return the only one."""
        answers.put(response, [VERSION])


class Events:
    """/v1/events of a driver, or of all; not in the original."""

    def __init__(self, remembered: registry.Registry, driver: str = "") -> None:
        self._registry = remembered
        self._driver = driver

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Return what happened after the event After, the newest first."""
        found = self._registry.events(
            driver=self._driver,
            volume_id=volumes.volume_id(request),
            after=volumes.whole(request, "After", 0),
            limit=min(volumes.whole(request, "Limit", 100), 1000),
        )
        answers.put(response, [forms.event(each) for each in found])


def driver(of: service.VolumeService, remembered: registry.Registry, nodes: cluster.Cluster) -> App:
    """Return the application of one driver's volumes.

    Both kinds of paths lead to the same resources; they differ in the words of their answers.
    """
    running = Running()
    app = _app(openapi.DRIVER, running)
    newer = later.Later()
    forms_of: tuple[forms.Form, forms.Form] = (original.Original(), newer)
    for form, path in zip(forms_of, _VOLUMES, strict=True):
        app.add_route(path, volumes.Volumes(of, form, newer))
        app.add_route(path + "/{volume_id}", volumes.Volume(of, form, newer))
        for name, resource in _FIGURES.items():
            app.add_route(f"{path}{name}/{{volume_id}}", resource(of, form, newer))
        app.add_route(path + "/requests", running)
        app.add_route(path + "/requests/{volume_id}", running)
        app.add_route(path + "/versions", Versions())
        app.add_route(path.removeprefix("/v1") + "/versions", Versions())
    for form, path in zip(forms_of, _SNAPSHOTS, strict=True):
        app.add_route(path, volumes.Snapshots(of, form, newer))
        app.add_route(path + "/restore/{volume_id}", volumes.Restore(of, form, newer))
    app.add_route("/v1/events", Events(remembered, of.driver))
    app.add_route("/v1/cluster", cluster.Enumerate(nodes))
    return app


def nodes(of: cluster.Cluster, known: drivers.Drivers, more: Mapping[str, object]) -> App:
    """Return the application of the cluster.

    :param known: the drivers of this host.
    :param more: resources at other paths, such as /metrics.
    """
    app = _app(openapi.CLUSTER, Running())
    base = "/v1/cluster"
    app.add_route(base, cluster.Remove(of))
    app.add_route(base + "/enumerate", cluster.Enumerate(of))
    app.add_route(base + "/inspect/{node_id}", cluster.Inspect(of))
    for name in ("/status", "/gossipstate"):
        app.add_route(base + name, cluster.Gossip(of))
    app.add_route(base + "/nodestatus", cluster.NodeStatus(of))
    app.add_route(base + "/nodehealth", cluster.NodeHealth(of))
    for name in ("/enablegossip", "/disablegossip"):
        app.add_route(base + name, cluster.Switch(of))
    app.add_route(base + "/shutdown", cluster.Shutdown(of))
    app.add_route(base + "/shutdown/{node_id}", cluster.Shutdown(of))
    app.add_route("/cluster/versions", Versions())
    app.add_route("/v1/drivers", known)
    app.add_route("/v1/events", Events(of.registry))
    for path, resource in more.items():
        app.add_route(path, resource)
    return app


def is_of_one_volume(path: str) -> bool:
    """Tell of a path of a driver's whether it is a volume's own."""
    return path.rpartition("/")[0] in _VOLUMES


def _app(described: dict[str, Any], running: Running) -> App:
    app = falcon.App(media_type=answers.TEXT, middleware=[running])
    app.req_options.strip_url_path_trailing_slash = True
    for kind in (Exception, falcon.HTTPError):  # falcon has an own handler for its errors
        app.add_error_handler(kind, answers.refuse)
    app.add_route("/v1/openapi.json", openapi.Document(described))
    return app
