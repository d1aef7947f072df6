# SPDX-License-Identifier: Apache-2.0
"""The process is killed all along a snapshot's life; each time the next start puts things right."""

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from container_stack.host import containers
from container_stack.shares import cifs, model, service
from container_stack.testing import kill_steps

from . import shares_host
from .smb_client import Client

samba_image = shares_host.samba_image

ALICE = cifs.Rule("user", "alice")
#: Steps from one kill to the next: each takes a recovery.
EVERY = 7


@pytest.fixture
def host(tmp_path: Path, samba_image: str) -> Iterator[shares_host.Host]:
    net = f"10.252.{100 + os.getpid() % 100}"
    with contextlib.closing(shares_host.Host(tmp_path, samba_image, net)) as made:
        made.settings = dataclasses.replace(made.settings, previous_versions=True)
        yield made


def live(shares: service.ShareService, server_id: str, said: Path) -> None:
    """Live a snapshot's whole life.

    :param said: where it says what was promised to have been done.
    """

    def promise(word: str) -> None:
        with said.open("a") as file:
            file.write(f"{word}\n")

    shares.snapshots.create("share-1", "snap-1")
    promise("snapshot")
    shares.snapshots.set_rules("snap-1", [ALICE])
    promise("rules")
    shares.create("share-2", server_id, shares_host.SMALL, snapshot_id="snap-1")
    promise("share")
    # As a client would, who has written since the snapshot was taken.
    Path(shares.servers.directory(server_id), "share-1/data/log").write_bytes(b"later!")
    shares.snapshots.revert("share-1", "snap-1")
    promise("reverted")
    shares.snapshots.delete("snap-1")
    promise("deleted")


def check_promises(shares: service.ShareService, key: str, promised: list[str]) -> None:
    address = shares.get("share-1").export_location.split("\\")[2]
    client = Client(address, "share-1", "alice", key)
    expected = {b"after!"} if "reverted" in promised else {b"after!", b"later!"}
    assert client.open("log", write=False).read(6) in expected
    # Nothing is frozen.
    client.open("log").write(b"after!")
    client.close()
    snapshots = [each.id for each in shares.snapshots.list("share-1")]
    if "deleted" in promised:
        assert snapshots == []
    elif "snapshot" in promised and "reverted" not in promised:
        assert snapshots == ["snap-1"]
    if "share" in promised:
        assert "share-2" in [each.id for each in shares.list()]
    if "rules" in promised and "reverted" not in promised:
        client = Client(address, "snap-1", "alice", key)
        assert client.open("log", write=False).read(6) == b"after!"
        client.close()


def test_whenever_it_is_killed_the_next_start_keeps_promises_and_leaves_no_orphan(host, tmp_path):
    engine, run = containers.Engine(), host.new_executor()
    shares = host.service(engine, run)
    shares.recover()
    server = shares.create_server(host.spec())
    share = shares.create("share-1", server.id, shares_host.SMALL)
    key = shares.set_rules("share-1", [ALICE])["alice"]
    client = Client(share.export_location.split("\\")[2], "share-1", "alice", key)
    client.open("log").write(b"after!")
    client.close()
    before = host.things()
    said = tmp_path / "said"
    said.touch()

    def action() -> None:
        live(host.service(containers.Engine(), run), server.id, said)

    for step in kill_steps.kills(run, action, every=EVERY):
        shares = host.service(engine, run)
        assert shares.recover().failed == {}, f"killed at step {step}"
        check_promises(shares, key, said.read_text().split("\n"))
        for snapshot in shares.snapshots.list("share-1"):
            shares.snapshots.delete(snapshot.id)
        with contextlib.suppress(model.ShareNotFound):
            shares.delete("share-2")
        assert host.things() == before, f"killed at step {step}"
        said.write_text("")
    assert said.read_text().split() == ["snapshot", "rules", "share", "reverted", "deleted"]


def test_power_may_go_while_a_snapshot_is_removed(host):
    engine, run = containers.Engine(), host.new_executor()
    shares = host.service(engine, run)
    shares.recover()
    server = shares.create_server(host.spec())
    shares.create("share-1", server.id, shares_host.SMALL)
    before = host.things()
    shares.snapshots.create("share-1", "snap-1")
    shares.snapshots.set_rules("snap-1", [ALICE])

    def action() -> None:
        host.service(containers.Engine(), run).snapshots.delete("snap-1")

    steps = 0
    for step in kill_steps.kills(run, action, every=2):
        host.power_off()
        shares = host.service(engine, run)
        assert shares.recover().failed == {}, f"killed at step {step}"
        # Each has one: the share, and of a snapshot its view and the directory of what was before.
        found = host.things()
        assert found["mount points"] == found["mounts"], f"killed at step {step}"
        if not shares.snapshots.list("share-1"):
            assert found == before, f"killed at step {step}"
            shares.snapshots.create("share-1", "snap-1")
        shares.snapshots.set_rules("snap-1", [ALICE])
        steps += 1
    assert steps > 5, "removing has more steps than this; were they counted?"
    assert host.things() == before
