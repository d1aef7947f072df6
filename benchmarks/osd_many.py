# SPDX-License-Identifier: Apache-2.0
"""Many who ask, many volumes, and many mounts, of one Open Storage daemon."""

import contextlib
import datetime
import itertools
import os
import signal
import statistics
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import harness, osd
from container_stack.rootwrap import executor
from container_stack.volumes import backend, model, ownership, service, sql
from container_stack.volumes.backends import btrfs

CLIENTS, SECONDS = 8, 5.0
MANY, MOUNTED = 10_000, 1_000
_CREATES = 20
#: How long a Mount hangs, in seconds.
_HANGS = 3.0
_SIZE = 1 << 30


def run() -> Iterator[harness.Claim]:
    """Measure and yield the claims."""
    with osd.daemon() as made:
        yield _inspect(made)
        yield _hang(made)
        yield from _many(made)
    with osd.daemon() as made:
        yield _restart(made)


def _inspect(made: osd.Daemon) -> harness.Claim:
    """Eight clients ask for volumes by their ids for some seconds."""
    client = osd.Client(made.rest)
    ids = [_create(client, f"one-{number}") for number in range(CLIENTS)]
    seconds = 0.3 if harness.smoke else SECONDS

    def ask(own: osd.Client, number: int) -> int:
        request = own.request("GET", f"/v1/volumes/{ids[number]}")
        answer, end = own.raw(request), time.monotonic() + seconds
        for count in itertools.count(1):
            if not own.again(request, answer):
                raise RuntimeError("The volume has changed.")
            if time.monotonic() > end:
                return count
        raise AssertionError

    total, took = osd.clients(CLIENTS, made.rest, ask)
    for volume_id in ids:
        client.call("DELETE", f"/v1/volumes/{volume_id}")
    detail = f"{total / took:.0f} a second of {CLIENTS} clients"
    return harness.Claim("inspections a second / 2,000", total / took / 2000, 1, False, detail)


def _hang(made: osd.Daemon) -> harness.Claim:
    """While root's commands hang, and with them a Mount, Docker looks at volumes."""
    plugin = osd.Plugin(made.plugin)
    plugin.ask("Create", "hangs", Opts={"size": str(_SIZE)})
    helpers = _below(made.process.pid if made.process else 0)
    times: list[float] = []
    for pid in helpers:
        os.kill(pid, signal.SIGSTOP)
    mounting = threading.Thread(target=lambda: _mount(made, "hangs"))
    try:
        mounting.start()
        end = time.monotonic() + (0.5 if harness.smoke else _HANGS)
        while time.monotonic() < end:
            times.append(harness.timed(lambda: plugin.ask("Get", "hangs")))
            times.append(harness.timed(lambda: plugin.ask("List")))
            time.sleep(0.005)
        hung = mounting.is_alive()
    finally:
        for pid in helpers:
            os.kill(pid, signal.SIGCONT)
        mounting.join()
    plugin.ask("Unmount", "hangs", ID="1" * 64)
    plugin.ask("Remove", "hangs")
    if not hung:
        raise RuntimeError("The Mount didn't hang.")
    detail = f"{len(times)} answers, the median after {harness.ms(statistics.median(times))}"
    return harness.Claim(
        "slowest Get or List while a Mount hangs / 0.1 s", max(times) / 0.1, 1, True, detail
    )


def _many(made: osd.Daemon) -> Iterator[harness.Claim]:
    """The same daemon with ten thousand volumes more, which other nodes have."""
    few = _creates(made, "few")
    count = MANY // 20 if harness.smoke else MANY
    registry = sql.open(f"sqlite:///{made.state_dir}/osd.sqlite")
    for number in range(count):
        registry.add(_elsewhere(f"many-{number:05d}"))
    registry.close()
    many = _creates(made, "more")
    client, plugin = osd.Client(made.rest), osd.Plugin(made.plugin)
    listed: list[int] = []
    ask: Callable[[], object] = lambda: listed.append(len(client.call("GET", "/v1/volumes")))  # noqa: E731
    rest, docker = harness.medians(3, ask, lambda: plugin.ask("List"))
    if set(listed) != {count}:
        raise RuntimeError(f"{listed} volumes were listed, not {count}.")
    detail = f"REST {rest:.2f} s, Docker {docker:.2f} s, of {count} volumes"
    yield harness.Claim(f"list of {MANY} volumes / 1 s", max(rest, docker), 1, True, detail)
    yield harness.Claim(
        f"create beside {MANY} volumes / beside none",
        many / few,
        1.25,
        True,
        f"{harness.ms(many)} / {harness.ms(few)}",
    )


def _restart(made: osd.Daemon) -> harness.Claim:
    """A daemon is killed while it has a thousand volumes mounted; the next one takes them over."""
    count = MOUNTED // 20 if harness.smoke else MOUNTED
    plugin = osd.Plugin(made.plugin)
    for number in range(count):
        plugin.ask("Create", f"v{number}", Opts={"size": str(_SIZE)})
        plugin.ask("Mount", f"v{number}", ID=f"{number:064x}")
    made.end(signal.SIGKILL)
    paths = {f"{number:064x}": frozenset({_point(made, number)}) for number in range(count)}
    with _service(made) as (again, done):
        seconds = harness.timed(lambda: (again.start(), done.extend(again.reconcile(paths))))
        uses = again.uses()
    if done or len(uses) != count:
        raise RuntimeError(f"{len(uses)} of {count} uses are known; was done: {done[:5]}")
    started = made.start()
    return harness.Claim(
        f"restart with {MOUNTED} mounted volumes / 5 s",
        (seconds + started) / 5,
        1,
        True,
        f"{seconds:.2f} s until reconciled, {started:.2f} s until the new process answers",
    )


@contextlib.contextmanager
def _service(made: osd.Daemon) -> Iterator[tuple[service.VolumeService, list[str]]]:
    """Have the volumes in this process, as a daemon that is just starting has them."""
    runner = executor.Executor(made.helper, state_dir=str(made.state_dir))
    registry = sql.open(f"sqlite:///{made.state_dir}/osd.sqlite")
    options = backend.Options("btrfs", runner, str(made.disk))
    owner = ownership.Alone(registry, os.uname().nodename)
    state_dir = str(made.state_dir)
    again = service.VolumeService(
        "btrfs", btrfs.Subvolumes(options), registry, owner, state_dir=state_dir
    )
    try:
        yield again, []
    finally:
        again.stop()
        registry.close()
        runner.close()


def _create(client: osd.Client, name: str) -> str:
    body = {"locator": {"Name": name}, "source": {}, "spec": {"Size": _SIZE, "Format": "btrfs"}}
    answer = client.call("POST", "/v1/volumes", body)
    if answer.get("error"):
        raise RuntimeError(answer["error"])
    return str(answer["id"])


def _creates(made: osd.Daemon, name: str) -> float:
    plugin, times = osd.Plugin(made.plugin), []
    for number in range(3 if harness.smoke else _CREATES):
        each = f"{name}-{number}"
        times.append(harness.timed(lambda: plugin.ask("Create", each, Opts={"size": str(_SIZE)})))  # noqa: B023
        plugin.ask("Remove", each)
    return statistics.median(times)


def _mount(made: osd.Daemon, name: str) -> None:
    plugin = osd.Plugin(made.plugin)
    plugin.ask("Mount", name, ID="1" * 64)
    plugin.close()


def _point(made: osd.Daemon, number: int) -> str:
    return str(made.state_dir / "mounts" / "btrfs" / f"v{number}")


def _elsewhere(name: str) -> model.Volume:
    return model.Volume(
        id=str(uuid.uuid4()),
        driver="btrfs",
        name=name,
        spec=model.Spec(size=_SIZE),
        created_at=datetime.datetime.now(datetime.UTC),
        labels={"tier": "gold"},
        state=model.State.AVAILABLE,
        node_id="another",
    )


def _below(pid: int) -> list[int]:
    """Return a process's descendants."""
    children = Path(f"/proc/{pid}/task").glob("*/children")
    found = [int(word) for each in children for word in each.read_text().split()]
    return [*found, *(below for child in found for below in _below(child))]
