# SPDX-License-Identifier: Apache-2.0
"""Shares move from one back end to another with all that they hold, while clients write."""

import contextlib
import dataclasses
import os
import signal
import threading
from pathlib import Path

import pytest

from container_stack import exceptions
from container_stack.host import containers
from container_stack.shares import assembly, model, moving

from . import moving_host, shares_host
from .moving_host import MIB, data, fingerprint, keys, place, read, sandboxed
from .smb_client import Client

samba_image = shares_host.samba_image
pair = moving_host.pair
share = moving_host.share


def test_a_share_moves_with_all_that_it_holds_while_a_client_writes(pair, share):
    old, new = pair.services()
    moves, known = old.moves_to(new), keys(pair, share)
    address = old.get(share).export_location.split("\\")[2]
    client, done = Client(address, share, "alice", known["alice"]), threading.Event()
    # Written again and again to the same size, with a time that says nothing of it.
    log, written = client.open("log"), 0

    def write() -> None:
        nonlocal written
        while not done.is_set():
            written += 1
            log.write(b"%08d" % written)

    writer = threading.Thread(target=write)
    writer.start()
    moves.start(share, place(pair, limited=None))
    assert moves.progress(share, "share-2") == 0
    moves.copy(share, "share-2")
    assert moves.progress(share, "share-2") == 100
    done.set()
    writer.join()
    client.close()
    assert written > 10

    top = data(pair, share)
    # What a comparison of sizes and times can't see.
    same = os.stat(top / "plain")
    with (top / "plain").open("r+b") as file:
        file.write(b"changed!")
    os.utime(top / "plain", ns=(same.st_atime_ns, same.st_mtime_ns))
    (top / "one").mkdir()
    (top / "two").mkdir()
    expected = fingerprint(top)
    moved = moves.complete(share, "share-2")

    arrived = new.servers.directory(moved.server_id)
    assert fingerprint(Path(arrived, "share-2/data")) == expected
    assert os.stat(Path(arrived, "share-2/data/holes")).st_blocks < 4096
    assert read(moved, "alice", known["alice"], "log") == b"%08d" % written
    assert read(moved, "bob", known["bob"]) == b"changed!"
    with pytest.raises(model.ShareNotFound):
        old.get(share)
    assert moves.complete(share, "share-2") == moved
    with pytest.raises(exceptions.InvalidRequest, match="has moved already"):
        moves.cancel(share, "share-2")
    # Also after a reboot.
    pair.target.power_off()
    pair.source.power_off()
    _, new = pair.recovered()
    assert read(new.get("share-2"), "bob", known["bob"]) == b"changed!"


def test_a_share_of_a_server_that_moves_keeps_its_id_its_name_and_its_users(pair, share):
    old, new = pair.services()
    moves, known = old.moves_to(new), keys(pair, share)
    expected = fingerprint(data(pair, share))
    moves.start(share, place(pair, share_id=share))
    moves.copy(share, "share-2")

    moved = moves.complete(share, "share-2")

    assert (moved.id, moved.export_location.rpartition("\\")[2]) == (share, share)
    assert new.get(share) == moved
    assert fingerprint(Path(new.servers.directory(moved.server_id), share, "data")) == expected
    assert read(moved, "bob", known["bob"])


def test_directories_that_changed_places_are_compared_byte_for_byte(pair, share):
    old, new = pair.services()
    moves, top = old.moves_to(new), data(pair, share)
    for name in ("one", "two"):
        (top / name).mkdir()
        (top / name / "file").write_text(name)
        os.utime(top / name / "file", (5, 5))
        os.utime(top / name, (7, 7))
    moves.start(share, place(pair))
    moves.copy(share, "share-2")
    (top / "one").rename(top / "three")
    (top / "two").rename(top / "one")
    (top / "three").rename(top / "two")
    for name in ("one", "two"):
        os.utime(top / name, (7, 7))

    moved = moves.complete(share, "share-2")

    arrived = Path(new.servers.directory(moved.server_id), "share-2/data")
    assert (arrived / "one/file").read_text() == "two"
    assert (arrived / "two/file").read_text() == "one"


def test_a_move_that_is_cancelled_leaves_nothing_and_the_share_as_it_was(pair, share):
    old, new = pair.services()
    moves, known, before = old.moves_to(new), keys(pair, share), pair.things()
    expected = fingerprint(data(pair, share))

    moves.start(share, place(pair))
    moves.cancel(share, "share-2")
    assert pair.things() == before

    # While it copies, which is stopped.
    with (data(pair, share) / "large").open("wb") as file:
        for _ in range(150):
            file.write(os.urandom(MIB))
    moves.start(share, place(pair))
    failed: list[BaseException] = []

    def copy() -> None:
        try:
            moves.copy(share, "share-2")
        except exceptions.ContainerStackError as exc:
            failed.append(exc)

    copier = threading.Thread(target=copy)
    copier.start()
    for pid in sandboxed(copier, str(pair.target.state_dir)):
        os.kill(pid, signal.SIGSTOP)
    assert 0 <= moves.progress(share, "share-2") < 100
    with pytest.raises(exceptions.Busy):
        moves.copy(share, "share-2")
    moves.cancel(share, "share-2")
    copier.join(20)
    assert [type(each) for each in failed] == [exceptions.Busy]
    (data(pair, share) / "large").unlink()
    assert pair.things() == before

    # When most has been copied.
    moves.start(share, place(pair))
    moves.copy(share, "share-2")
    moves.cancel(share, "share-2")
    moves.cancel(share, "share-2")
    assert pair.things() == before
    with pytest.raises(exceptions.NotFound):
        moves.complete(share, "share-2")
    found = fingerprint(data(pair, share))
    assert {**found, ".": 0} == {**expected, ".": 0}
    assert read(old.get(share), "alice", known["alice"])


def test_what_cannot_be_is_refused_and_changes_nothing(pair, share):
    old, new = pair.services()
    moves, before, top = old.moves_to(new), pair.things(), data(pair, share)
    labels = old._held.get(share).labels

    with pytest.raises(model.ShareNotFound):
        moves.start("share-0", place(pair))
    with pytest.raises(exceptions.NotFound, match="no share server"):
        moves.start(share, moving.Place("share-2", "nowhere"))
    full = dataclasses.replace(pair.target.settings, pool_size=130 * MIB)
    small = assembly.assemble(full, containers.Engine(), pair.other)
    with pytest.raises(exceptions.NoSpace):
        old.moves_to(small).start(share, place(pair))
    with pytest.raises(exceptions.NotFound):
        moves.complete(share, "share-2")
    old.snapshots.create(share, "snap-1")
    with pytest.raises(exceptions.NotSupported, match="snapshots"):
        moves.start(share, place(pair))
    old.snapshots.delete("snap-1")
    assert pair.things() == before
    assert old._held.get(share).labels == labels

    # While one is under way.
    moves.start(share, place(pair))
    moves.start(share, place(pair))
    with pytest.raises(exceptions.Busy, match="moved already"):
        moves.start(share, dataclasses.replace(place(pair), volume_id="share-3"))
    # A snapshot that was taken meanwhile.
    old.snapshots.create(share, "snap-1")
    with pytest.raises(exceptions.NotSupported, match="snapshots"):
        moves.complete(share, "share-2")
    old.snapshots.delete("snap-1")
    # What the target can't keep is found before anybody is cut off, and again afterwards.
    large = "user.large"
    os.setxattr(top / "empty", large, bytes(60_000))
    with pytest.raises((exceptions.NotSupported, exceptions.NoSpace)):
        moves.copy(share, "share-2")
    known = keys(pair, share)
    with pytest.raises((exceptions.NotSupported, exceptions.NoSpace)):
        moves.complete(share, "share-2")
    assert read(old.get(share), "alice", known["alice"])
    os.removexattr(top / "empty", large)
    moves.cancel(share, "share-2")
    assert pair.things() == before
    assert old._held.get(share).labels == labels


def test_whoever_exchanges_directories_for_links_meanwhile_reads_and_writes_nothing(pair, share):
    old, new = pair.services()
    moves, top = old.moves_to(new), data(pair, share)
    secret = top.parents[5] / "secret"
    secret.mkdir()
    (secret / "file").write_text("the host's own")
    for number in range(300):
        (top / f"dir-{number}").mkdir()
        (top / f"dir-{number}/file").write_text("mine")
    done = threading.Event()

    def exchange() -> None:
        while not done.is_set():
            (top / "dir-150").rename(top / "kept")
            (top / "dir-150").symlink_to(secret)
            (top / "dir-150").unlink()
            (top / "kept").rename(top / "dir-150")

    hostile = threading.Thread(target=exchange)
    hostile.start()
    moves.start(share, place(pair))
    try:
        with contextlib.suppress(exceptions.NotSupported):
            moves.copy(share, "share-2")
    finally:
        done.set()
        hostile.join()
    moved = moves.complete(share, "share-2")
    arrived = Path(new.servers.directory(moved.server_id), "share-2/data")
    assert {each.read_text() for each in arrived.glob("dir-*/file")} == {"mine"}
    assert (secret / "file").read_text() == "the host's own"
