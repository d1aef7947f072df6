# SPDX-License-Identifier: Apache-2.0
"""/metrics: what Prometheus is told of volumes, nodes and this daemon.

Each node tells of the volumes that it owns, and of those that nobody owns and it has made, so that
all nodes together tell of each volume once. Nothing here waits for devices or servers of data:
usage is what the daemon measured last.
"""

import collections
import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import falcon
import prometheus_client
from prometheus_client import core
from prometheus_client import registry as collecting

from container_stack import exceptions
from container_stack.volumes import backend, model, ownership, registry, service

Metric = core.Metric
T = TypeVar("T")
_VOLUME: Mapping[str, tuple[str, Callable[[model.Volume], float]]] = {
    "osd_volume_size_bytes": ("Size that the volume was given.", lambda each: each.spec.size),
    "osd_volume_used_bytes": (
        "What its data took when they were last measured.",
        lambda each: each.usage,
    ),
    "osd_volume_measured_timestamp_seconds": (
        "When that was; 0: never.",
        lambda each: each.last_scan.timestamp() if each.last_scan else 0,
    ),
    "osd_volume_failed": (
        "1 while the volume is in error.",
        lambda each: bool(each.state & model.State.ERROR),
    ),
}
_DEVICE: Mapping[str, tuple[str, Callable[[model.Stats], float]]] = {
    "osd_volume_reads": ("Reads from its device.", lambda stats: stats.reads),
    "osd_volume_read_bytes": ("Bytes read from it.", lambda stats: stats.read_bytes),
    "osd_volume_writes": ("Writes to its device.", lambda stats: stats.writes),
    "osd_volume_written_bytes": ("Bytes written to it.", lambda stats: stats.write_bytes),
    "osd_volume_io_seconds": ("Time it was busy.", lambda stats: stats.io_ms / 1000),
}
_NODE: Mapping[str, tuple[str, Callable[[model.Node], float]]] = {
    "osd_node_up": (
        "1 while the node says that it is well.",
        lambda n: n.status == model.Status.UP,
    ),
    "osd_node_cpu_percent": ("CPU that was busy.", lambda node: node.cpu),
    "osd_node_memory_bytes": ("Memory that the node has.", lambda node: node.memory_total),
    "osd_node_memory_used_bytes": ("Memory in use.", lambda node: node.memory_used),
    "osd_node_load": ("Processes that run or wait to, on average.", lambda node: node.load),
    "osd_node_seen_timestamp_seconds": (
        "When the node last told the registry how it is, by the registry's clock.",
        lambda node: node.timestamp.timestamp() if node.timestamp else 0,
    ),
}


class Metrics:
    """The resource.

    :param services: by the drivers' names; there may come to be more.
    """

    def __init__(
        self,
        services: Mapping[str, service.VolumeService],
        remembered: registry.Registry,
        owner: ownership.Ownership,
    ) -> None:
        self._collectors = collecting.CollectorRegistry(auto_describe=False)
        prometheus_client.ProcessCollector(registry=self._collectors)
        self._collectors.register(_Figures(services, remembered, owner))

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Return all figures, in the text format."""
        response.content_type = prometheus_client.CONTENT_TYPE_LATEST
        response.data = prometheus_client.generate_latest(self._collectors)


class _Figures(collecting.Collector):
    def __init__(
        self,
        services: Mapping[str, service.VolumeService],
        remembered: registry.Registry,
        owner: ownership.Ownership,
    ) -> None:
        self._services = services
        self._registry = remembered
        self._owner = owner

    def collect(self) -> Iterator[Metric]:
        yield _gauge("osd_serving", "1 while this node may serve mounts.", self._serving())
        try:
            volumes = {name: self._owned(name) for name in sorted(self._services)}
            nodes, alerts = self._registry.nodes(), self._registry.alerts(limit=10_000)
        except exceptions.ServiceUnavailable:
            # Mounts go on without it, and whoever watches must see just that.
            yield _gauge("osd_registry_up", "1 while the registry answers.", False)
            return
        yield _gauge("osd_registry_up", "1 while the registry answers.", True)
        found = [([node.id], node) for node in nodes]
        yield from _families(_NODE, core.GaugeMetricFamily, ["node"], found)
        yield from _of_volumes(volumes)
        yield _alerts(volumes, alerts)
        yield self._uses()
        yield from self._of_devices(volumes)

    def _serving(self) -> bool:
        try:
            self._owner.check()
        except exceptions.ServiceUnavailable:
            return False
        return True

    def _owned(self, driver: str) -> Sequence[model.Volume]:
        here = self._owner.node_id
        listed = self._registry.list(driver)
        return [each for each in listed if (each.attached_on or each.node_id or here) == here]

    def _uses(self) -> Metric:
        uses = core.GaugeMetricFamily(
            "osd_mounts", "Mounts on this node that have yet to be ended.", labels=["driver"]
        )
        for name, each in sorted(self._services.items()):
            uses.add_metric([name], sum(use.count for use in each.uses()))
        return uses

    def _of_devices(self, volumes: Mapping[str, Sequence[model.Volume]]) -> Iterator[Metric]:
        found = [([driver, name], stats) for driver, name, stats in self._counted(volumes)]
        return _families(_DEVICE, core.CounterMetricFamily, ["driver", "volume"], found)

    def _counted(
        self, volumes: Mapping[str, Sequence[model.Volume]]
    ) -> Iterator[tuple[str, str, model.Stats]]:
        for driver, owned in volumes.items():
            counting = self._services[driver].backend
            if not isinstance(counting, backend.Counting):
                continue
            for volume in (each for each in owned if each.attached_on == self._owner.node_id):
                # Those that have no device now are left out.
                with contextlib.suppress(exceptions.ContainerStackError):
                    yield driver, volume.name, counting.stats(volume.id)


def _gauge(name: str, text: str, value: float) -> Metric:
    return core.GaugeMetricFamily(name, text, value=value)


def _families(
    figures: Mapping[str, tuple[str, Callable[[T], float]]],
    kind: Callable[..., Any],
    labels: Sequence[str],
    of: Sequence[tuple[Sequence[str], T]],
) -> Iterator[Metric]:
    """Yield each figure of all things, which come with the values of their labels."""
    for name, (text, figure) in figures.items():
        family = kind(name, text, labels=labels)
        for values, thing in of:
            family.add_metric(values, figure(thing))
        yield family


def _of_volumes(volumes: Mapping[str, Sequence[model.Volume]]) -> Iterator[Metric]:
    count = core.GaugeMetricFamily("osd_volumes", "Volumes and snapshots.", labels=["driver", "is"])
    for driver, owned in volumes.items():
        snapshots = sum(each.is_snapshot for each in owned)
        count.add_metric([driver, "volume"], len(owned) - snapshots)
        count.add_metric([driver, "snapshot"], snapshots)
    yield count
    found = [([driver, each.name], each) for driver, owned in volumes.items() for each in owned]
    yield from _families(_VOLUME, core.GaugeMetricFamily, ["driver", "volume"], found)


def _alerts(volumes: Mapping[str, Sequence[model.Volume]], alerts: Sequence[model.Alert]) -> Metric:
    driver_of = {each.id: driver for driver, owned in volumes.items() for each in owned}
    standing = collections.Counter(
        (driver_of[each.volume_id], each.severity) for each in alerts if each.volume_id in driver_of
    )
    family = core.GaugeMetricFamily("osd_alerts", "Standing alerts.", labels=["driver", "severity"])
    for driver in volumes:
        for severity in model.Severity:
            family.add_metric([driver, severity.name.lower()], standing[driver, severity])
    return family
