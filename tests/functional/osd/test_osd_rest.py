# SPDX-License-Identifier: Apache-2.0
"""The REST interface on its sockets: who may come, what is answered, and what holds nobody up."""

import json
import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from container_stack import exceptions
from container_stack.drivers.osd import servers
from container_stack.testing import memory_volumes
from container_stack.volumes import model

from . import osd_rest

KEEPERS = {"files": memory_volumes.MemoryVolumes, "blocks": memory_volumes.MemoryBlocks}
NOBODYS = "00000000-0000-4000-8000-000000000000"
MIB = 2**20


@pytest.fixture
def world(tmp_path: Path) -> Iterator[osd_rest.World]:
    with osd_rest.world(tmp_path / "state", KEEPERS, cluster_id="cstest") as made:
        yield made


@pytest.fixture
def files(world: osd_rest.World) -> osd_rest.Client:
    return world.driver("files")


@pytest.fixture
def blocks(world: osd_rest.World) -> osd_rest.Client:
    return world.driver("blocks")


# Volumes ----------------------------------------------------------------------------------------


def test_block_volume_is_formatted_attached_and_mounted_by_one_request(
    blocks: osd_rest.Client, world: osd_rest.World
) -> None:
    made = blocks.create("data", Format="xfs")
    path = str(world.state_dir / "mounts" / "here")
    answer = osd_rest.change(blocks, made, format=0, attach=2, mount=2, mount_path=path)
    assert answer["error"] == ""
    assert answer["mount_path"] == path
    assert os.path.isfile(answer["device_path"])
    seen = osd_rest.inspect(blocks, made)
    assert (seen["AttachPath"], seen["Format"], seen["State"]) == (path, "xfs", 4)
    assert (
        osd_rest.change(blocks, made, attach=1)["error"]
        == "Volume data is mounted: unmount it first."
    )
    assert osd_rest.change(blocks, made, mount=1, mount_path=path)["error"] == ""
    assert osd_rest.change(blocks, made, attach=1)["error"] == ""


def test_file_volumes_refuse_what_is_for_devices(files: osd_rest.Client) -> None:
    made = files.create("data")
    for what in ({"attach": 2}, {"attach": 1}, {"format": 2}):
        assert osd_rest.change(files, made, **what)["error"] == "Operation not supported"


def test_delete_of_a_mounted_volume_is_refused(files: osd_rest.Client) -> None:
    made = files.create("data")
    osd_rest.change(files, made, mount=2)
    assert "ttached" in files.ask("DELETE", f"/v1/volumes/{made}")["error"]
    osd_rest.change(files, made, mount=1)
    assert files.ask("DELETE", f"/v1/volumes/{made}") == {"error": ""}
    assert files.ask("GET", f"/v1/volumes/{made}") == []
    assert files.ask("DELETE", f"/v1/volumes/{made}") == {"error": "Key not found"}


def test_labels_fit_by_key_and_value(files: osd_rest.Client) -> None:
    labels = {"tier": "gold", "app": "db"}
    body = {"locator": {"Name": "a", "VolumeLabels": labels}, "spec": {"Size": MIB}}
    files.ask("POST", "/v1/volumes", body)

    def found(asked: str) -> int:
        return len(files.ask("GET", f"/v1/volumes?Label={asked}"))

    assert found("%7B%22tier%22:%22gold%22%7D") == 1
    assert found("%7B%22tier%22:%22gold%22,%22app%22:%22db%22%7D") == 1
    assert found("%7B%22tier%22:%22silver%22%7D") == 0


def test_labels_size_and_schedule_change(files: osd_rest.Client) -> None:
    made = files.create("data")
    answer = osd_rest.change(
        files,
        made,
        locator={"VolumeLabels": {"a": "1", "b": "2"}},
        spec={"Size": 3 * MIB, "SnapshotInterval": 10},
    )
    assert answer["error"] == ""
    osd_rest.change(files, made, locator={"VolumeLabels": {"a": None}})
    seen = osd_rest.inspect(files, made)
    assert seen["Locator"]["VolumeLabels"] == {"b": "2"}
    assert (seen["Spec"]["Size"], seen["Spec"]["SnapshotInterval"]) == (3 * MIB, 10)
    assert osd_rest.change(files, made, spec={"Size": MIB})["error"]
    assert osd_rest.inspect(files, made)["Spec"]["Size"] == 3 * MIB


def test_clone_and_restore(files: osd_rest.Client, world: osd_rest.World) -> None:
    made = files.create("data")
    path = Path(osd_rest.change(files, made, mount=2)["mount_path"])
    (path / "words").write_text("old")
    snap = files.ask("POST", "/v1/snapshot", {"id": made, "locator": {"Name": "then"}})["id"]
    (path / "words").write_text("new")
    body = {"locator": {"Name": "twin"}, "source": {"Parent": snap}, "spec": {"Size": MIB}}
    twin = files.ask("POST", "/v1/volumes", body)["id"]
    assert (
        Path(osd_rest.change(files, twin, mount=2)["mount_path"]) / "words"
    ).read_text() == "old"
    restore = f"/v1/snapshot/restore/{made}?SnapID={snap}"
    assert files.ask("POST", restore)["error"]  # it is mounted
    osd_rest.change(files, made, mount=1)
    assert files.ask("POST", restore) == {"error": ""}
    assert (
        Path(osd_rest.change(files, made, mount=2)["mount_path"]) / "words"
    ).read_text() == "old"
    status, said = files.status("POST", f"/v1/snapshot/restore/{made}")
    assert (status, said) == (400, "Missing SnapID param\n")


def test_ids_are_taken_in_capitals(files: osd_rest.Client) -> None:
    made = files.create("data")
    assert osd_rest.inspect(files, made.upper())["ID"] == made


def test_drivers_do_not_see_each_others_volumes(
    files: osd_rest.Client, blocks: osd_rest.Client
) -> None:
    made = files.create("data")
    assert blocks.ask("GET", f"/v1/volumes/{made}") == []
    assert blocks.ask("GET", f"/v1/volumes?VolumeID={made}") == []
    assert osd_rest.change(blocks, made, mount=2)["error"] == "Volume does not exist."
    assert blocks.ask("DELETE", f"/v1/volumes/{made}") == {"error": "Key not found"}
    assert osd_rest.inspect(files, made)["Locator"]["Name"] == "data"


def test_answers_are_compact_json_with_an_end_of_line(files: osd_rest.Client) -> None:
    files.create("data")
    _, kind, said = files.raw("GET", "/v1/volumes")
    assert kind == "text/plain; charset=utf-8"
    assert said == json.dumps(json.loads(said), separators=(",", ":")).encode() + b"\n"


# Later releases ---------------------------------------------------------------------------------


def test_later_releases_are_spoken_at_their_paths(blocks: osd_rest.Client) -> None:
    body = {
        "locator": {"name": "data", "volume_labels": {"a": "1"}},
        "spec": {"size": 2 * MIB, "format": 6, "snapshot_interval": 7},
    }
    answer = blocks.ask("POST", "/v1/osd-volumes", body)
    made = answer["id"]
    assert answer == {"id": made, "volume_response": {}}
    (seen,) = blocks.ask("GET", f"/v1/osd-volumes/{made}")
    assert seen["locator"] == {"name": "data", "volume_labels": {"a": "1"}}
    assert (seen["spec"]["format"], seen["spec"]["snapshot_interval"]) == (6, 7)
    assert (seen["status"], seen["state"]) == (2, 2)
    done = blocks.ask("PUT", f"/v1/osd-volumes/{made}", {"action": {"attach": 2, "mount": 2}})
    assert done["volume"]["state"] == 3
    assert done["volume"]["attach_path"]
    assert "volume_response" not in done
    refused = blocks.ask("PUT", f"/v1/osd-volumes/{made}", {"action": {"attach": 1}})
    assert refused["volume_response"]["error"]
    assert blocks.ask("GET", "/osd-volumes/versions") == ["v1"]
    assert blocks.ask("GET", f"/v1/osd-volumes/usedsize/{made}") == 0
    assert blocks.ask("GET", f"/v1/osd-volumes/stats/{made}")["read_bytes"] == 12288
    snap = blocks.ask("POST", "/v1/osd-snapshot", {"id": made, "locator": {"name": "s"}})
    assert snap["volume_create_response"]["volume_response"] == {}
    assert len(blocks.ask("GET", f"/v1/osd-snapshot?VolumeID={made}")) == 1


def test_old_paths_answer_later_words_in_later_words(files: osd_rest.Client) -> None:
    body = {"locator": {"name": "data"}, "spec": {"size": MIB}}
    answer = files.ask("POST", "/v1/volumes", body)
    assert answer["volume_response"] == {}
    assert osd_rest.inspect(files, answer["id"])["Locator"]["Name"] == "data"
    again = files.ask("POST", "/v1/volumes", body)
    assert "data" in again["volume_response"]["error"]


def test_changes_that_run_are_told(blocks: osd_rest.Client, world: osd_rest.World) -> None:
    made = blocks.create("data")
    with osd_rest.hanging(world, "blocks", "mount"):
        other = world.driver("blocks")
        thread = threading.Thread(target=osd_rest.change, args=(other, made), kwargs={"mount": 2})
        thread.start()
        osd_rest.until(lambda: blocks.ask("GET", "/v1/osd-volumes/requests")["RequestCount"] == 1)
    thread.join(30)
    assert blocks.ask("GET", f"/v1/osd-volumes/requests/{made}")["RequestCount"] == 0


# Bad requests -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b"\xff\xfe",
        b'{"spec": NaN}',
        b'{"locator": 5, "spec": {}}',
        b'{"locator": {"Name": 5}, "spec": {}}',
        b'{"locator": {"Name": "\\ud800"}, "spec": {}}',
        b'{"locator": {"Name": "a", "VolumeLabels": ["a"]}, "spec": {}}',
        b'{"locator": {"Name": "a", "VolumeLabels": {"a": 1}}, "spec": {}}',
        b'{"locator": {"Name": "a"}, "spec": {"Size": "1"}}',
        b'{"locator": {"Name": "a"}, "spec": {"Size": true}}',
        b'{"locator": {"Name": "a"}, "spec": {"Size": 1.5}}',
        b'{"locator": {"Name": "a"}, "spec": {"Format": 99}}',
        b"[" * 100_000,
        b'{"spec":' * 20_000,
        b'{"spec": {"Size": ' + b"9" * 5000 + b"}}",
    ],
)
def test_what_is_no_request_is_refused_in_one_line(files: osd_rest.Client, body: bytes) -> None:
    for path in ("/v1/volumes", "/v1/osd-volumes"):
        status, kind, said = files.raw("POST", path, body)
        assert (status, kind) == (400, "text/plain; charset=utf-8")
        assert said.count(b"\n") == 1
        assert b"Traceback" not in said
    assert files.ask("GET", "/v1/volumes") == []


@pytest.mark.parametrize(
    ("locator", "spec", "said"),
    [
        ({"Name": "a"}, None, "no spec"),
        ({}, {}, "can't be a volume's name"),
        ({"Name": "../../etc"}, {}, "can't be a volume's name"),
        ({"Name": "a/b"}, {}, "can't be a volume's name"),
        ({"Name": "a" * 129}, {}, "can't be a volume's name"),
        ({"Name": "a\n"}, {}, "can't be a volume's name"),
        ({"Name": "a"}, {"Size": 0}, "size"),
        ({"Name": "a"}, {"Size": -1}, "size"),
        ({"Name": "a"}, {"Size": 2**64}, "size"),
        ({"Name": "a"}, {"Format": "zfs"}, "zfs"),
        ({"Name": "a"}, {"Format": "../x"}, "file system"),
        ({"Name": "a"}, {"Cos": 77}, "class of service"),
        ({"Name": "a", "VolumeLabels": {"a": "\x1b[2J"}}, {}, "label"),
    ],
)
def test_what_cannot_be_meant_is_an_error_of_the_protocol(
    files: osd_rest.Client, locator: Any, spec: Any, said: str
) -> None:
    answer = files.ask("POST", "/v1/volumes", {"locator": locator, "spec": spec})
    assert answer["id"] == ""
    assert said in answer["error"]
    assert files.ask("GET", "/v1/volumes") == []


@pytest.mark.parametrize(
    "path",
    ["/etc", "../../etc", "/", "relative", "{0}/../../etc", "{0}/a/../../../etc", "{0}//", "\x00"],
)
def test_nothing_is_mounted_elsewhere(
    files: osd_rest.Client, world: osd_rest.World, path: str
) -> None:
    made = files.create("data")
    where = path.format(world.state_dir / "mounts")
    answer = osd_rest.change(files, made, mount=2, mount_path=where)
    assert str(world.state_dir / "mounts") in answer["error"]
    assert osd_rest.inspect(files, made)["AttachPath"] == ""


def test_link_planted_in_a_volume_leads_nowhere(
    files: osd_rest.Client, world: osd_rest.World, tmp_path: Path
) -> None:
    """A tenant, who writes into his volume, can't have another mounted where his link points."""
    first, second = files.create("first"), files.create("second")
    inside = Path(osd_rest.change(files, first, mount=2)["mount_path"])
    (inside / "link").symlink_to(tmp_path)
    answer = osd_rest.change(files, second, mount=2, mount_path=f"{inside}/link/there")
    assert answer["error"]
    assert sorted(os.listdir(tmp_path)) == ["state"]


@pytest.mark.parametrize(
    "query",
    [
        "Label=x",
        "Label=[]",
        "Label=%7B%22a%22:1%7D",
        "ConfigLabel=%7B",
        "Limit=-1",
        "Limit=x",
        "Label=%7B%22a%22:%22%5Cud800%22%7D",
    ],
)
def test_queries_that_cannot_be_read_are_refused(files: osd_rest.Client, query: str) -> None:
    for path in ("/v1/volumes", "/v1/osd-snapshot"):
        status, kind, said = files.raw("GET", f"{path}?{query}")
        assert (status, kind) == (400, "text/plain; charset=utf-8")
        assert said.count(b"\n") == 1


@pytest.mark.parametrize("query", ["Name=%00", "Name=../x", "VolumeID=", "VolumeID=x", "Name=%ff"])
def test_what_nothing_can_be_is_not_found(files: osd_rest.Client, query: str) -> None:
    files.create("data")
    assert files.ask("GET", f"/v1/volumes?{query}") == []


def test_unknown_volumes(blocks: osd_rest.Client) -> None:
    assert blocks.ask("GET", f"/v1/volumes/{NOBODYS}") == []
    for wrong in (NOBODYS, "x", "%00", ".."):
        assert osd_rest.change(blocks, wrong, mount=2)["error"] == "Volume does not exist."
        for what in ("stats", "alerts", "usage", "usedsize"):
            status, said = blocks.status("GET", f"/v1/volumes/{what}/{wrong}")
            assert status == 400
            assert said.endswith("Volume does not exist.\n")
        answer = blocks.ask("POST", "/v1/snapshot", {"id": wrong.replace("%00", "\0")})
        assert answer == {"id": "", "error": "Volume does not exist."}


def test_unknown_paths_and_methods(files: osd_rest.Client) -> None:
    assert files.status("GET", "/v1/nothing") == (404, "404 page not found\n")
    assert files.status("PATCH", "/v1/volumes")[0] == 405
    assert files.status("DELETE", "/v1/volumes")[0] == 405


def test_large_bodies_are_refused(files: osd_rest.Client) -> None:
    files.connection.putrequest("POST", "/v1/volumes")
    files.connection.putheader("Content-Length", str(servers.LARGEST_BODY + 1))
    files.connection.endheaders()
    assert files.connection.getresponse().status == 413


def test_bugs_are_logged_and_not_told(
    files: osd_rest.Client, world: osd_rest.World, caplog: pytest.LogCaptureFixture
) -> None:
    def stumble(step: str, volume_id: str) -> None:
        raise RuntimeError("secret")

    world.keepers["files"].hook = stumble  # type: ignore[attr-defined]
    with caplog.at_level(logging.ERROR):
        status, said = files.status("POST", "/v1/volumes", {"locator": {"Name": "a"}, "spec": {}})
    assert status == 500
    assert "secret" not in said
    mark = said.rsplit(" ", 1)[1].strip(".\n")
    assert mark in caplog.text


def test_database_that_is_gone_is_told(
    files: osd_rest.Client, world: osd_rest.World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_arguments: object, **_named: object) -> None:
        raise exceptions.ServiceUnavailable("The registry doesn't answer.")

    for name in ("get", "list", "add"):
        monkeypatch.setattr(world.registry, name, gone)
    assert files.status("GET", "/v1/volumes") == (503, "The registry doesn't answer.\n")
    answer = files.ask("POST", "/v1/volumes", {"locator": {"Name": "a"}, "spec": {}})
    assert answer["error"] == "The registry doesn't answer."


# The cluster ------------------------------------------------------------------------------------


def test_cluster_tells_of_its_nodes(world: osd_rest.World) -> None:
    cluster = world.cluster()
    told = cluster.ask("GET", "/v1/cluster/enumerate")
    assert (told["Id"], told["Status"]) == ("cstest", 2)
    assert [node["Id"] for node in told["Nodes"]] == [osd_rest.NODE]
    assert cluster.ask("GET", f"/v1/cluster/inspect/{osd_rest.NODE}") == told["Nodes"][0]
    assert cluster.status("GET", "/v1/cluster/inspect/x") == (404, "There is no such node.\n")
    assert cluster.status("GET", "/v1/cluster/nodehealth") == (200, "Node status OK\n")
    assert cluster.status("PUT", "/v1/cluster/shutdown") == (501, "Not implemented.\n")
    assert world.driver("files").ask("GET", "/v1/cluster") == told


def test_node_out_of_quorum_says_so(world: osd_rest.World, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise exceptions.ServiceUnavailable("out of quorum")

    monkeypatch.setattr(world.owner, "check", refuse)
    cluster = world.cluster()
    assert cluster.ask("GET", "/v1/cluster/enumerate")["Status"] == 5
    assert cluster.status("GET", "/v1/cluster/nodehealth")[0] == 503


def test_dead_nodes_are_forgotten_and_this_one_is_not(world: osd_rest.World) -> None:
    world.registry.put_node(model.Node("dead"))
    cluster = world.cluster()
    assert cluster.ask("DELETE", "/v1/cluster?id=dead") == {}
    assert "no such node" in cluster.ask("DELETE", "/v1/cluster?id=dead")["error"]
    assert "this node" in cluster.ask("DELETE", f"/v1/cluster?id={osd_rest.NODE}")["error"]
    assert cluster.status("DELETE", "/v1/cluster") == (400, "Missing id param\n")


def test_host_alone_is_no_cluster(tmp_path: Path) -> None:
    with osd_rest.world(tmp_path, KEEPERS) as world:
        said = world.driver("files").status("GET", "/v1/cluster")
        assert said == (500, "Cluster is not initialized.\n")


def test_drivers_are_listed_and_added(tmp_path: Path) -> None:
    def add(name: str, settings: Any) -> None:
        if settings != {"root": "r"}:
            raise exceptions.InvalidRequest("There is no such setting.")
        made = world.services["files"]
        made._driver.name = name
        world.services[name] = made
        world.rest.serve(made)

    with osd_rest.world(tmp_path, KEEPERS, add=add) as world:
        cluster = world.cluster()
        listed = {each["name"]: each["type"] for each in cluster.ask("GET", "/v1/drivers")}
        assert listed == {"blocks": "block", "files": "file"}
        wrong = {"name": "more", "options": {"rot": "r"}}
        assert cluster.ask("POST", "/v1/drivers", wrong)["error"] == "There is no such setting."
        assert "already" in cluster.ask("POST", "/v1/drivers", {"name": "blocks"})["error"]
        right = {"name": "more", "options": {"root": "r"}}
        assert cluster.ask("POST", "/v1/drivers", right) == {"error": ""}
        assert world.driver("more").ask("GET", "/v1/volumes") == []
    assert os.listdir(tmp_path / "driver") == []
