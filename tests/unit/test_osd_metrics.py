# SPDX-License-Identifier: Apache-2.0
"""What Prometheus is told."""

import dataclasses
import pathlib
from collections.abc import Iterator, Mapping

import falcon
import falcon.testing
import pytest
from prometheus_client import parser

from container_stack import exceptions
from container_stack.drivers.osd import metrics
from container_stack.testing import memory_volumes
from container_stack.volumes import backend, model, ownership, registry, service, sql

Labels = frozenset[tuple[str, str]]


class Counted(memory_volumes.MemoryBlocks, backend.Counting):
    """Volumes whose devices count."""

    def stats(self, volume_id: str) -> model.Stats:
        if not self.counts:
            raise exceptions.NotSupported("No figures now.")
        return model.Stats(reads=3, read_bytes=4096, writes=5, write_bytes=8192, io_ms=1500)

    counts = True


class Deaf(ownership.Alone):
    """A node that may not serve."""

    def check(self) -> None:
        raise exceptions.ServiceUnavailable("Out of quorum.")


class Gone(registry.Registry):
    """A registry whose database is gone."""

    def list(self, driver: str, query: model.Query = model.EVERYTHING) -> list[model.Volume]:
        raise exceptions.ServiceUnavailable("Gone.")


Gone.__abstractmethods__ = frozenset()


@dataclasses.dataclass
class World:
    """Two drivers of one node."""

    registry: registry.Registry
    services: dict[str, service.VolumeService]
    counted: Counted
    owner: ownership.Ownership

    def scrape(self, of: registry.Registry | None = None) -> Mapping[str, Mapping[Labels, float]]:
        """Return all samples by their names and labels."""
        app = falcon.App()
        app.add_route("/metrics", metrics.Metrics(self.services, of or self.registry, self.owner))
        answer = falcon.testing.TestClient(app).simulate_get("/metrics")
        assert answer.status == falcon.HTTP_200
        assert answer.headers["content-type"].startswith("text/plain; version=")
        found: dict[str, dict[Labels, float]] = {}
        for family in parser.text_string_to_metric_families(answer.text):
            assert family.documentation
            for sample in family.samples:
                labels = frozenset(sample.labels.items())
                assert labels not in found.setdefault(sample.name, {}), sample
                found[sample.name][labels] = sample.value
        return found


@pytest.fixture
def world(tmp_path: pathlib.Path) -> Iterator[World]:
    opened = sql.open(f"sqlite:///{tmp_path}/osd.sqlite")
    owner = ownership.Alone(opened, "n1")
    state_dir = str(tmp_path / "state")
    services = {}
    for name, kind in (("files", memory_volumes.MemoryVolumes), ("blocks", Counted)):
        made = kind(backend.Options(name, None, f"{state_dir}/backends/{name}"))  # type: ignore[arg-type]
        services[name] = service.VolumeService(name, made, opened, owner, state_dir=state_dir)
        services[name].start()
    counted = services["blocks"].backend
    assert isinstance(counted, Counted)
    yield World(opened, services, counted, owner)
    opened.close()


def _of(**labels: str) -> Labels:
    return frozenset(labels.items())


def test_volumes_are_told_of_with_size_usage_and_trouble(world: World) -> None:
    files = world.services["files"]
    made = files.create("data", model.Spec(size=5000))
    files.snapshot(made.id, "then")
    now = made.created_at
    world.registry.add_samples([model.Sample(made.id, now, 1234)])
    world.registry.update(made.id, state=model.State.ERROR)
    world.registry.raise_alert(made.id, model.Severity.ALARM, "full")
    found = world.scrape()
    data = _of(driver="files", volume="data")
    assert found["osd_volume_size_bytes"][data] == 5000
    assert found["osd_volume_used_bytes"][data] == 1234
    assert found["osd_volume_measured_timestamp_seconds"][data] == pytest.approx(now.timestamp())
    assert found["osd_volume_failed"][data] == 1
    assert found["osd_volume_failed"][_of(driver="files", volume="then")] == 0
    assert found["osd_volumes"][_of(driver="files", **{"is": "volume"})] == 1
    assert found["osd_volumes"][_of(driver="files", **{"is": "snapshot"})] == 1
    assert found["osd_volumes"][_of(driver="blocks", **{"is": "volume"})] == 0
    assert found["osd_alerts"][_of(driver="files", severity="alarm")] == 1
    assert found["osd_alerts"][_of(driver="files", severity="notice")] == 0
    assert found["osd_serving"] == found["osd_registry_up"] == {_of(): 1}
    assert found["process_open_fds"][_of()] > 0


def test_mounts_and_devices_are_counted_where_they_are(world: World) -> None:
    blocks = world.services["blocks"]
    made = blocks.create("data", model.Spec(size=2**20))
    other = blocks.create("idle", model.Spec(size=2**20))
    for holder in ("a", "a", "b"):
        blocks.mount(made.id, holder=holder)
    found = world.scrape()
    data = _of(driver="blocks", volume="data")
    assert found["osd_mounts"] == {_of(driver="blocks"): 3, _of(driver="files"): 0}
    assert found["osd_volume_reads_total"] == {data: 3}
    assert found["osd_volume_read_bytes_total"] == {data: 4096}
    assert found["osd_volume_written_bytes_total"] == {data: 8192}
    assert found["osd_volume_io_seconds_total"] == {data: 1.5}
    world.counted.counts = False
    assert "osd_volume_reads_total" not in world.scrape()
    assert other.name in str(world.scrape()["osd_volume_size_bytes"])


def test_each_volume_is_told_of_by_one_node(world: World) -> None:
    volumes = {
        name: world.services["files"].create(name, model.Spec(size=1)) for name in ("a", "b", "c")
    }
    for name, node in (("a", "n2"), ("b", "n1")):
        world.registry.update(volumes[name].id, node_id="n2")
        world.registry.claim(volumes[name].id, node)
    told = {}
    for node in ("n1", "n2"):
        world.owner = ownership.Alone(world.registry, node)
        told[node] = set(world.scrape()["osd_volume_size_bytes"])
    assert told["n2"] == {_of(driver="files", volume="a")}
    assert told["n1"] == {_of(driver="files", volume=name) for name in "bc"}


def test_nodes_are_told_of(world: World) -> None:
    seen = world.registry.put_node(
        model.Node('n"2\\', cpu=12.5, memory_total=2**34, memory_used=2**33, load=0.5)
    )
    world.registry.put_node(model.Node("n1", status=model.Status.DOWN))
    found = world.scrape()
    assert found["osd_node_up"] == {_of(node="n1"): 0, _of(node='n"2\\'): 1}
    assert found["osd_node_cpu_percent"][_of(node='n"2\\')] == 12.5
    assert found["osd_node_memory_used_bytes"][_of(node='n"2\\')] == 2**33
    assert seen.timestamp is not None
    when = found["osd_node_seen_timestamp_seconds"][_of(node='n"2\\')]
    assert when == pytest.approx(seen.timestamp.timestamp())


def test_node_that_may_not_serve_and_registry_that_is_gone_are_told_of(world: World) -> None:
    world.owner = Deaf(world.registry, "n1")
    found = world.scrape(Gone())
    assert found["osd_serving"] == found["osd_registry_up"] == {_of(): 0}
    assert "osd_volumes" not in found
