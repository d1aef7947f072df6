# SPDX-License-Identifier: Apache-2.0
"""What a person looks at, of all drivers at once: the cluster's socket has it, for the web page.

Nothing here changes anything. The original has none of it.
"""

import contextlib
import datetime
import time
from collections.abc import Mapping

import falcon

from container_stack import exceptions
from container_stack.drivers.osd import answers, body, cluster, forms, later, volumes
from container_stack.volumes import backend, model, service

#: Volumes of one answer, and moments of one volume's usage.
PAGE, MOMENTS = 1000, 300
#: Hours of usage: unless told, and at most.
DAY, LONGEST = 24, 24 * 366
_SAMPLES = 100_000

Services = Mapping[str, service.VolumeService]


class Nodes:
    """/v1/nodes; a host that isn't in a cluster is one, too."""

    def __init__(self, nodes: cluster.Cluster) -> None:
        self._nodes = nodes

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Return all nodes, and which of them answers."""
        answers.put(
            response,
            {
                "id": self._nodes.cluster_id,
                "node_id": self._nodes.ownership.node_id,
                "nodes": self._nodes.nodes(),
            },
        )


class Volumes:
    """/v1/drivers/{driver}/volumes"""

    def __init__(self, services: Services) -> None:
        self._services = services

    def on_get(self, request: falcon.Request, response: falcon.Response, driver: str) -> None:
        """Return volumes by name, those after the name After, at most Limit."""
        after = request.get_param("After") or ""
        query = model.Query(
            after=after and _name(after),
            limit=min(volumes.whole(request, "Limit", PAGE) or PAGE, PAGE),
        )
        form = later.Later()
        found = _service(self._services, driver).list(query)
        answers.put(response, [form.volume(each) for each in found])


class Samples:
    """/v1/drivers/{driver}/volumes/{id}/samples"""

    def __init__(self, services: Services) -> None:
        self._services = services

    def on_get(
        self, request: falcon.Request, response: falcon.Response, driver: str, volume_id: str
    ) -> None:
        """Return what a volume took in the last Hours, the oldest first, the newest always."""
        hours = min(volumes.whole(request, "Hours", DAY), LONGEST)
        since = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=hours)
        found = _service(self._services, driver).samples(
            model.check_id(volume_id), since=since, limit=_SAMPLES
        )
        step = -(-len(found) // MOMENTS) or 1
        shown = found[::-1][::step][::-1]
        answers.put(response, [[forms.moment(each.at)["seconds"], each.used] for each in shown])


class Alerts:
    """/v1/alerts"""

    def __init__(self, nodes: cluster.Cluster) -> None:
        self._registry = nodes.registry

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Return the alerts that stand, the newest first."""
        answers.put(response, forms.alerts(self._registry.alerts(limit=PAGE)))


class Activity:
    """/v1/activity"""

    def __init__(self, services: Services, nodes: cluster.Cluster) -> None:
        self._services = services
        self._node_id = nodes.ownership.node_id

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Return the volumes that this node has, with what their devices have done so far.

        Of two answers, ``seconds`` has the time between them, whatever is done to the clock.
        """
        query = model.Query(attached_on=self._node_id)
        found = [
            self._volume(name, each, volume)
            for name, each in sorted(self._services.items())
            for volume in each.list(query)
        ]
        answers.put(
            response, {"node_id": self._node_id, "seconds": time.monotonic(), "volumes": found}
        )

    def _volume(self, driver: str, of: service.VolumeService, volume: model.Volume) -> forms.Json:
        stats = None
        if isinstance(of.backend, backend.Counting):
            # Not by the service: it would ask the registry once more for each.
            with contextlib.suppress(exceptions.ContainerStackError):
                stats = of.backend.stats(volume.id)
        return {
            "driver": driver,
            "id": volume.id,
            "name": volume.name,
            "state": later.state(volume.state),
            "mounted": bool(volume.mount_paths),
            "size": volume.spec.size,
            "used": volume.usage,
            "stats": later.Later().stats(stats) if stats else None,
        }


def routes(services: Services, nodes: cluster.Cluster) -> dict[str, object]:
    """Return resources by path.

    :param services: by the drivers' names; there may come to be more.
    """
    return {
        "/v1/nodes": Nodes(nodes),
        "/v1/drivers/{driver}/volumes": Volumes(services),
        "/v1/drivers/{driver}/volumes/{volume_id}/samples": Samples(services),
        "/v1/alerts": Alerts(nodes),
        "/v1/activity": Activity(services, nodes),
    }


def _service(services: Services, driver: str) -> service.VolumeService:
    try:
        return services[driver]
    except KeyError:
        raise exceptions.NotFound("There is no such driver.") from None


def _name(text: str) -> str:
    try:
        return model.check_name(text)
    except exceptions.InvalidRequest as exc:
        raise body.BadBody(str(exc)) from exc
