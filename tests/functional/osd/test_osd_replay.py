# SPDX-License-Identifier: Apache-2.0
"""Exchanges of the original daemon and its clients, replayed: our answers are the same.

Ids are those that we gave instead of theirs, paths lie in our state directory, times and the order
of lists are looked over. What differs besides is in :data:`DIFFERENCES`, and each of those has to
be met.
"""

import dataclasses
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from container_stack import exceptions
from container_stack.testing import memory_volumes
from container_stack.volumes import model

from . import osd_rest

EXCHANGES = Path(__file__).parent / "osd_exchanges"
#: What the original's clients named, where they ran.
THERE = "/LAB"
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
#: Times, and the path of a device, which is said of volumes that have none, too.
_IGNORED = {"Ctime", "LastScan", "Timestamp", "LastUpdateTs", "DevicePath", "device_path"}


class Nfs(memory_volumes.MemoryBlocks):
    """What 0.3's nfs can do: it attaches and formats, though its volumes are files."""

    filesystems = ("nfs",)

    def stats(self, volume_id: str) -> model.Stats:
        raise exceptions.NotSupported("Operation not supported")


class Vfs(memory_volumes.MemoryVolumes):
    """What 0.3's vfs can do: neither attach nor snapshot."""

    filesystems = ("ext4", "none")

    def snapshot(self, volume_id: str, snapshot_id: str, *, read_only: bool) -> None:
        raise exceptions.NotSupported("Operation not supported")


@dataclasses.dataclass
class Difference:
    """Something in which our answers differ.

    :param why: what is odd about theirs.
    :param where: a regular expression of the exchange's number, method, path and place.
    """

    why: str
    driver: str
    where: str
    theirs: object
    ours: object


ANY = object()
_VOLUME = r"\d+ GET \S+ answer\.\d+\."
DIFFERENCES = (
    Difference(
        "none is told from empty", "nfs", _VOLUME + "Source", {"Parent": "", "Seed": ""}, None
    ),
    Difference("snapshots ignore readonly", "nfs", r"1[56] .*\.Readonly", False, True),
    Difference("snapshots are snapshotted", "nfs", r"1[56] .*SnapshotInterval", 60, 0),
    Difference("nfs says it's formatted before it is", "nfs", _VOLUME + "Format", "nfs", ""),
    Difference("nfs never says it's attached", "nfs", _VOLUME + "State", 2, 4),
    Difference("nobody knows where", "nfs", _VOLUME + "AttachedOn", "", osd_rest.NODE),
    Difference("nobody knows where", "vfs", _VOLUME + "AttachedOn", "", osd_rest.NODE),
    Difference("vfs calls itself a file system", "vfs", _VOLUME + "Format", "vfs", "ext4"),
    Difference("vfs calls itself a file system", "vfs", _VOLUME + "Format", "vfs", "none"),
    Difference("there are no alerts", "nfs", r"11 .*/alerts/\S+ status", 400, 200),
    Difference("there are no alerts", "vfs", r"11 .*/alerts/\S+ status", 400, 200),
    Difference("later releases tell more", "cluster", r".*\.(Hostname|NodeId)", None, ANY),
)


def load(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((EXCHANGES / f"{name}.json").read_text("utf-8"))
    return found


class Replay:
    """One recording."""

    def __init__(self, client: osd_rest.Client, here: str) -> None:
        self._client = client
        self._here = here
        self._ids: dict[str, str] = {}

    def run(self, number: int, exchange: dict[str, Any]) -> Iterator[tuple[str, object, object]]:
        """Ask again what was asked, and yield where answers differ: place, theirs, ours."""
        path, body = self._ours(exchange["path"]), self._ours(exchange["body"])
        status, answer = self._client.status(exchange["method"], path, body)
        place = f"{number} {exchange['method']} {exchange['path']}"
        if status != exchange["status"]:
            yield f"{place} status", exchange["status"], status
            return
        theirs = exchange["answer"]
        if isinstance(theirs, dict) and theirs.get("id") and isinstance(answer, dict):
            self._ids[theirs["id"]] = answer["id"]
        yield from compare(place + " answer", self._ours(theirs), answer)

    def _ours(self, value: Any) -> Any:
        text = json.dumps(value).replace(THERE, self._here)
        return json.loads(_ID.sub(lambda found: self._ids.get(found[0], found[0]), text))


def compare(place: str, theirs: Any, ours: Any) -> Iterator[tuple[str, object, object]]:
    """Yield where two answers differ."""
    if isinstance(theirs, list) and isinstance(ours, list):
        if len(theirs) != len(ours):
            yield f"{place}.length", len(theirs), len(ours)
            return
        pairs = zip(*(sorted(each, key=_by_id) for each in (theirs, ours)), strict=True)
        for number, (their, our) in enumerate(pairs):
            yield from compare(f"{place}.{number}", their, our)
    elif isinstance(theirs, dict) and isinstance(ours, dict):
        for key in sorted({*theirs, *ours} - _IGNORED):
            # A null of theirs differs from nothing of ours.
            yield from compare(f"{place}.{key}", theirs.get(key), ours.get(key, KeyError))
    elif theirs != ours:
        yield place, theirs, ours


def _by_id(each: Any) -> str:
    return str(each.get("ID") or each.get("Id")) if isinstance(each, dict) else ""


def check(driver: str, found: list[tuple[str, object, object]]) -> None:
    """All that was found is known, and all that is known was found."""
    known = [each for each in DIFFERENCES if each.driver == driver]
    met = set()
    unknown = []
    for place, theirs, ours in found:
        fits = [
            number
            for number, each in enumerate(known)
            if re.fullmatch(each.where, place)
            and each.theirs == theirs
            and each.ours in (ANY, ours)
        ]
        if not fits:
            unknown.append((place, theirs, ours))
        met.update(fits)
    assert unknown == []
    assert [each.why for number, each in enumerate(known) if number not in met] == []


@pytest.mark.parametrize("driver", ["nfs", "vfs"])
def test_what_the_seed_answered_is_answered(tmp_path: Path, driver: str) -> None:
    with osd_rest.world(tmp_path, {"nfs": Nfs, "vfs": Vfs}) as world:
        replay = Replay(world.driver(driver), str(tmp_path / "mounts" / "lab"))
        found = [
            each
            for number, exchange in enumerate(load(f"seed-{driver}"))
            for each in replay.run(number, exchange)
        ]
        check(driver, found)


def test_what_a_later_cluster_answered_is_answered(tmp_path: Path) -> None:
    with osd_rest.world(tmp_path, {}, node_id="1", cluster_id="deadbeeef") as world:
        replay = Replay(world.cluster(), "")
        found = []
        for number, exchange in enumerate(load("r2-cluster")):
            if exchange["method"] == "GET":
                world.registry.put_node(node(exchange["answer"]))
            found += list(replay.run(number, exchange))
        check("cluster", found)


def node(answer: Any) -> model.Node:
    """Return the node that an answer told of."""
    told = answer["Nodes"][0] if "Nodes" in answer else answer["NodeStatus"][0]["Value"]
    return model.Node(
        id=told["Id"],
        cpu=told["Cpu"],
        memory_total=told["MemTotal"],
        memory_used=told["MemUsed"],
        management_ip=told["MgmtIp"],
        data_ip=told["DataIp"],
        generation=told["GenNumber"],
    )


@pytest.mark.parametrize("name", ["seed-nfs", "seed-vfs", "r2-cluster"])
def test_all_answers_are_text_as_they_were(name: str) -> None:
    assert {exchange["type"] for exchange in load(name)} == {"text/plain; charset=utf-8"}
