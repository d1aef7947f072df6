# SPDX-License-Identifier: Apache-2.0
"""Shares with limits: what they hold, that the kernel is told of them, and that none remains."""

import ctypes
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from container_stack import exceptions
from container_stack.host import containers, device_limits
from container_stack.shares import cifs, limits, model, service
from container_stack.testing import kill_steps

from . import shares_host, told_limits

host = shares_host.lasting_host
samba_image = shares_host.samba_image
shares = shares_host.lasting_shares
server = shares_host.lasting_server

pytestmark = pytest.mark.skipif(
    not device_limits.supported(), reason="this host can't limit block devices"
)

ALICE = cifs.Rule("user", "alice")
GIB = 1024**3
MIB = 1024**2
#: Steps from one kill to the next: each takes a recovery.
EVERY = 11
SPEED = 2 * MIB
SLOW = limits.Limits(bps=SPEED)
SELDOM = limits.Limits(iops=20)

#: What holds for a server, and for what the kernel writes back.
Told = tuple[told_limits.Numbers, told_limits.Numbers]
both = told_limits.expected


@pytest.fixture
def cleared(shares: service.ShareService) -> Iterator[None]:
    """In the end all shares are gone."""
    yield
    for share in shares.list():
        for snapshot in shares.snapshots.list(share.id):
            shares.snapshots.delete(snapshot.id)
        shares.delete(share.id)


class Kernel:
    """What the kernel has been told of the devices of a host."""

    def __init__(self, host: shares_host.Host, server: model.Server) -> None:
        self._host = host
        self._server = server

    def told(self) -> dict[str, Told]:
        """Return what holds for each volume that has a device, by its id."""
        return {name: self.of(device) for name, device in self._devices().items()}

    def of(self, device: str) -> Told:
        """Return what holds for a device."""
        server = told_limits.server(device, self._server.container_id)
        return server, told_limits.kernel(device)

    def _devices(self) -> dict[str, str]:
        return {
            Path(Path(f"/sys/block/{Path(device).name}/loop/backing_file").read_text()).stem: device
            for device in self._host.loop_devices()
        }


@pytest.fixture
def kernel(host: shares_host.Host, server: model.Server) -> Kernel:
    return Kernel(host, server)


def seconds(action: Callable[[], object]) -> float:
    start = time.monotonic()
    action()
    return time.monotonic() - start


class Inside:
    """Reads and writes in a share, from within its server."""

    def __init__(self, shares: service.ShareService, server: model.Server, share: str) -> None:
        self._engine, self._server = containers.Engine(), server
        self._there = f"/shares/{share}/data/file"
        # The directory comes with the first rule.
        shares.set_rules(share, [ALICE])
        self._here = Path(shares.servers.directory(server.id), share, "data/file")

    def dd(self, *words: str) -> None:
        done = self._engine.exec(self._server.container_id, ["dd", *words])
        assert done.exit_code == 0, done.stderr

    def write(self, size: int, how: str = "conv=fsync") -> None:
        self.dd("if=/dev/zero", f"of={self._there}", "bs=64k", f"count={size // 65536}", how)

    def write_seldom(self, count: int) -> None:
        self.dd("if=/dev/zero", f"of={self._there}", "bs=4k", f"count={count}", "oflag=direct")

    def flush(self) -> None:
        """Let the kernel write what lies in its cache."""
        with self._here.open() as file:
            assert ctypes.CDLL(None).syncfs(file.fileno()) == 0

    def read(self) -> None:
        with self._here.open() as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        self.dd(f"if={self._there}", "of=/dev/null", "bs=64k")


@pytest.mark.usefixtures("cleared")
def test_what_is_written_flushed_and_read_is_held_until_the_limit_is_lifted(shares, server):
    shares.create("share-1", server.id, shares_host.SMALL, limited=SLOW)
    inside, size = Inside(shares, server, "share-1"), 2 * SPEED

    def life() -> tuple[float, float, float]:
        written = seconds(lambda: inside.write(size))
        inside.write(size, "conv=notrunc")
        flushed = seconds(inside.flush)
        return written, flushed, seconds(inside.read)

    held = life()
    shares.limiting.set("share-1", None)
    free = life()
    # The kernel counts in slices, and lets the first one pass.
    assert all(each > 0.6 * size / SPEED for each in held), held
    assert sum(free) < 0.6 * sum(held), (held, free)


@pytest.mark.usefixtures("cleared")
def test_operations_are_held_however_small(shares, server):
    shares.create("share-1", server.id, shares_host.SMALL, limited=SELDOM)
    inside = Inside(shares, server, "share-1")
    held = seconds(lambda: inside.write_seldom(60))
    shares.limiting.set("share-1", None)
    assert held > 0.6 * 60 / 20
    assert seconds(lambda: inside.write_seldom(60)) < 0.6 * held


@pytest.mark.usefixtures("cleared")
def test_a_limit_goes_with_the_share_all_its_life(host, shares, server, kernel):
    small = shares_host.SMALL
    each = limits.Limits(bps_per_gib=64 * MIB, iops_per_gib=800)
    shares.create("share-1", server.id, small, limited=each)
    shares.create("share-2", server.id, small)
    size = shares.get("share-1").size
    assert kernel.told() == {
        "share-1": both(64 * MIB * size // GIB, 800 * size // GIB),
        "share-2": both(),
    }
    shares.extend("share-1", 2 * small)
    size = shares.get("share-1").size
    much = both(64 * MIB * size // GIB, 800 * size // GIB)
    assert kernel.told()["share-1"] == much
    with pytest.raises(exceptions.InvalidRequest):
        shares.extend("share-1", small)
    assert kernel.told()["share-1"] == much

    shares.set_rules("share-1", [ALICE])
    shares.snapshots.create("share-1", "snap-1")
    shares.snapshots.set_rules("snap-1", [ALICE])
    shares.create("share-3", server.id, 2 * small, snapshot_id="snap-1", limited=SLOW)
    told = kernel.told()
    assert (told["share-1"], told["snap-1"], told["share-3"]) == (much, much, both(SPEED))
    shares.snapshots.revert("share-1", "snap-1")
    assert kernel.told()["share-1"] == much

    devices = host.loop_devices()
    shares.snapshots.delete("snap-1")
    for name in ("share-1", "share-2", "share-3"):
        shares.delete(name)
    assert all(kernel.of(device) == both() for device in devices)


@pytest.mark.parametrize("mounted", [True, False])
def test_a_share_whose_image_somebody_removed_goes_with_its_limits(
    host, shares, server, kernel, mounted
):
    shares.create("share-1", server.id, shares_host.SMALL, limited=SLOW)
    [device] = host.loop_devices()
    image = Path(host.state_dir, "volumes", "share-1.img")
    if not mounted:
        host.power_off()
    image.unlink()
    if not mounted:
        assert set(shares.recover().failed) == {"share-1"}
    shares.delete("share-1")
    assert shares.list() == []
    assert host.loop_devices() == []
    assert kernel.of(device) == both()


@pytest.mark.usefixtures("cleared")
def test_limits_are_changed_at_once_and_every_call_may_be_repeated(shares, server, kernel):
    for _again in range(2):
        shares.create("share-1", server.id, shares_host.SMALL, limited=SLOW)
        assert kernel.told() == {"share-1": both(SPEED)}
    for wanted, told in ((SELDOM, both(0, 20)), (limits.Limits(), both()), (SLOW, both(SPEED))):
        for _again in range(2):
            shares.limiting.set("share-1", wanted)
            assert kernel.told() == {"share-1": told}
    with pytest.raises(model.ShareNotFound):
        shares.limiting.set("share-9", SLOW)


@pytest.mark.usefixtures("cleared")
def test_limits_come_back_after_a_restart_of_the_server_and_of_the_host(
    host, shares, server, kernel
):
    shares.create("share-1", server.id, shares_host.SMALL, limited=SLOW)
    engine = containers.Engine()
    engine.restart(server.container_id, timeout=0)
    assert kernel.told()["share-1"][0] == told_limits.NOTHING
    shares.limiting.keep()
    assert kernel.told() == {"share-1": both(SPEED)}
    host.power_off()
    assert shares.recover() == model.Health()
    assert kernel.told() == {"share-1": both(SPEED)}
    # None is limited for a server that is off.
    [device] = host.loop_devices()
    engine.stop(server.container_id, timeout=0)
    shares.limiting.keep()
    shares.delete("share-1")
    assert kernel.of(device) == both()
    shares.servers.running(server.id)


def test_a_failure_at_any_step_leaves_neither_share_nor_limit(host, shares, server, kernel):
    run = host.new_executor()
    steps, devices = 0, set()
    failed = True
    while failed:
        steps += 1
        tried = host.service(run=run)

        def make(tried: service.ShareService = tried) -> None:
            tried.create("share-1", server.id, shares_host.SMALL, limited=SLOW)

        failed = kill_steps.fails_at(run, steps, make)
        devices |= set(host.loop_devices())
        assert kernel.told() == ({} if failed else {"share-1": both(SPEED)}), steps
    assert steps > 4, "the commands were counted"
    for step in (1, 2):
        assert kill_steps.fails_at(run, step, lambda: tried.limiting.set("share-1", SELDOM))
        assert kernel.told() == {"share-1": both(SPEED)}
    tried.delete("share-1")
    assert all(kernel.of(device) == both() for device in devices)


def test_whenever_it_is_killed_the_next_start_limits_what_is_left_and_nothing_else(
    host, shares, server, kernel, tmp_path
):
    engine, run = containers.Engine(), host.new_executor()
    said = tmp_path / "said"
    before = host.things()

    def life() -> None:
        made = host.service(containers.Engine(), run)
        with said.open("a") as file:
            for word, step in (
                ("made", lambda: made.create("s-1", server.id, shares_host.SMALL, limited=SLOW)),
                ("changed", lambda: made.limiting.set("s-1", SELDOM)),
                ("grown", lambda: made.extend("s-1", 2 * shares_host.SMALL)),
                ("lifted", lambda: made.limiting.set("s-1", None)),
                ("again", lambda: made.limiting.set("s-1", SLOW)),
                ("deleted", lambda: made.delete("s-1")),
            ):
                step()
                file.write(f"{word}\n")
                file.flush()

    after: dict[str, list[Told]] = {
        "": [both(SPEED)],
        "made": [both(SPEED), both(0, 20)],
        "changed": [both(0, 20)],
        "grown": [both(0, 20), both()],
        "lifted": [both(), both(SPEED)],
        "again": [both(SPEED)],
    }
    devices: set[str] = set()
    said.touch()
    for step in kill_steps.kills(run, life, every=EVERY):
        devices |= set(host.loop_devices())
        again = host.service(engine, run)
        assert again.recover().failed == {}, f"killed at step {step}"
        last = (["", *said.read_text().split()])[-1]
        told = kernel.told()
        if last != "deleted" and told:
            assert told["s-1"] in after[last], (step, last)
            again.delete("s-1")
        assert host.things() == before, f"killed at step {step}"
        assert all(kernel.of(device) == both() for device in devices), f"killed at step {step}"
        said.write_text("")
    assert said.read_text().split()[-1] == "deleted"
