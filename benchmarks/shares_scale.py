# SPDX-License-Identifier: Apache-2.0
"""Two hundred shares on twenty share servers, and a start of Manila's driver that finds them.

What must not grow with their number is the time of one more; the first and the last ten are made
one after the other. One more is also compared with the same
commands and engine calls run bare: the sparse file, losetup, mkfs and mount by plain subprocesses,
and the one run in the container that a share's rule needs. A start is that of a service that finds
all of them as they were. A server's memory is that of its processes, of the kernel for them, and of
the engine's own process beside it; what is cached of files the kernel gives up.
"""

import itertools
import os
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

from benchmarks import harness, manila_driver, shares
from container_stack.rootwrap import cgroups

SERVERS, SHARES, ROUNDS = 20, 200, 9
#: The engine makes many fastest so.
_WORKERS = 8
#: Of manila.conf, whose owner the benchmark's service is.
_SECTION = "cstest_scale"
#: What a start, a list and a server may take.
_START, _LIST, _MEMORY = 10.0, 1.0, 20 * 1024**2


def run() -> Iterator[harness.Claim]:
    """Measure and yield the claims."""
    servers, count = (2, 20) if harness.smoke else (SERVERS, SHARES)
    with shares.bench(f"manila-{_SECTION}") as made:
        driver = _started(made)
        with futures.ThreadPoolExecutor(_WORKERS) as pool:
            own = list(pool.map(lambda n: _server(driver, made, n), range(servers)))
            wanted = [manila_driver.share(f"share-{n}", own[n % servers]) for n in range(count)]
            first = [_create(made, each) for each in wanted[:10]]
            list(pool.map(lambda each: _create(made, each), wanted[10:-10]))
            last = [_create(made, each) for each in wanted[-10:]]
        yield _flat(first, last)
        yield _memory(made)
        busy = time.process_time()
        started = harness.timed(lambda: _started(made))
        detail = f"{started:.2f} s for {count}, {time.process_time() - busy:.2f} s of a CPU"
        name = f"recovery at a start with {SHARES} shares / {_START:g} s"
        yield harness.Claim(name, started / _START, 1.0, True, detail)
        yield _ensure(_started(made), wanted)
        yield _list(made, servers)
        yield _one_more(made)


def _started(made: shares.Bench) -> Any:
    """Return the driver as after a start of manila-share."""
    helper = [sys.executable, "-m", "container_stack.rootwrap.cmd", f"{made.rootwrap}"]
    options = {
        "driver_handles_share_servers": True,
        "container_stack_state_dir": made.settings.state_dir,
        "container_stack_root_helper": shlex.join(helper),
    }
    directory = Path(made.settings.state_dir).parent
    return manila_driver.made(manila_driver.OURS, _SECTION, options, directory)


def _server(driver: Any, made: shares.Bench, number: int) -> manila_driver.Model:
    return manila_driver.server(driver, f"bench-{number}", made.subnet.cidr, 10 + number)


def _create(made: shares.Bench, wanted: manila_driver.Model) -> tuple[float, float]:
    """Make a share and let a user in; return how long each took."""
    name, server = wanted["id"], wanted["share_server"]["id"]
    return (
        harness.timed(lambda: made.shares.create(name, server, shares.SIZE)),
        harness.timed(lambda: made.shares.set_rules(name, [shares.ALICE])),
    )


def _flat(before: list[tuple[float, float]], after: list[tuple[float, float]]) -> harness.Claim:
    first, first_rule = map(statistics.mean, zip(*before, strict=True))
    last, last_rule = map(statistics.mean, zip(*after, strict=True))
    detail = (
        f"create {harness.ms(first)} and then {harness.ms(last)}, "
        f"rule {harness.ms(first_rule)} and then {harness.ms(last_rule)}"
    )
    ratio = (last + last_rule) / (first + first_rule)
    name = f"share with a rule, last ten of {SHARES} / first ten"
    return harness.Claim(name, ratio, 1.3, True, detail)


def _ensure(driver: Any, wanted: list[manila_driver.Model]) -> harness.Claim:
    told: dict[str, Any] = {}
    busy = time.process_time()
    seconds = harness.timed(lambda: told.update(driver.ensure_shares(None, wanted)))
    if {each["status"] for each in told.values()} != {"available"}:
        raise RuntimeError("A share didn't come back.")
    busy = time.process_time() - busy
    detail = f"{seconds:.2f} s for {len(wanted)}, {busy:.2f} s of a CPU"
    name = f"ensure_shares of {SHARES} / {_START:g} s"
    return harness.Claim(name, seconds / _START, 1.0, True, detail)


def _list(made: shares.Bench, servers: int) -> harness.Claim:
    program = str(Path(sys.executable).with_name("container-stack"))
    settings = made.settings
    command = [program, "share", "server", "list", "--owner", settings.owner]
    command += ["--state-dir", settings.state_dir]

    def ask() -> None:
        if _run(*command).count(" active ") != servers:
            raise RuntimeError("Not all servers are listed.")

    listed, python = harness.medians(3, ask, lambda: _run(sys.executable, "-c", "pass"))
    before = os.times()
    ask()
    after = os.times()
    busy = sum(after[2:4]) - sum(before[2:4])
    detail = f"{harness.ms(listed)}, {harness.ms(busy)} of a CPU; Python alone {harness.ms(python)}"
    return harness.Claim(
        f"`share server list` of {SERVERS} / {_LIST:g} s", listed / _LIST, 1.0, True, detail
    )


def _memory(made: shares.Bench) -> harness.Claim:
    found = [_of_server(made, each.container_id) for each in made.shares.servers.list()]
    container, beside = (statistics.mean(part) for part in zip(*found, strict=True))
    mib = 1024**2
    detail = f"container {container / mib:.1f} MiB, engine's process {beside / mib:.1f} MiB"
    name = f"memory of a server / {_MEMORY // mib} MiB"
    return harness.Claim(name, (container + beside) / _MEMORY, 1.0, True, detail)


def _of_server(made: shares.Bench, container_id: str) -> tuple[int, int]:
    """Return the bytes of a container, without what is cached of files, and of its shim."""
    pid = made.engine.inspect(container_id).pid
    if not pid:
        raise RuntimeError("A server doesn't run.")
    group, first = cgroups.of_container(pid, container_id, "memory")
    stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    kernel = (group / "memory.kmem.usage_in_bytes").read_text() if first else stat["kernel"]
    used = int(stat["total_rss" if first else "anon"]) + int(kernel)
    status = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
    )
    rollup = Path(f"/proc/{int(status['PPid'])}/smaps_rollup").read_text().splitlines()
    shim = next(line.split()[1] for line in rollup if line.startswith("Pss:"))
    return used, int(shim) * 1024


def _one_more(made: shares.Bench) -> harness.Claim:
    server = made.shares.servers.get("bench-0")
    tree = Path(made.shares.servers.directory(server.id))
    files = Path(made.settings.state_dir)
    numbers = itertools.count()
    plain: list[str] = []

    def floor() -> None:
        name = f"plain-{next(numbers)}"
        image, mount_point = files / f"{name}.img", tree / name
        with image.open("wb") as file:
            file.truncate(shares.SIZE)
        device = _run("losetup", "--find", "--show", str(image)).strip()
        _run("mkfs.xfs", "-q", device)
        mount_point.mkdir()
        _run("mount", "-t", "xfs", device, str(mount_point))
        plain.append(name)
        made.shares.servers.speaking(server, "CIFS").set_share(name, [shares.ALICE])

    def ours() -> None:
        name = f"one-{next(numbers)}"
        made.shares.create(name, server.id, shares.SIZE)
        made.shares.set_rules(name, [shares.ALICE])

    try:
        ours()
        bare, more = harness.medians(3 if harness.smoke else ROUNDS, floor, ours)
    finally:
        for name in plain:
            made.shares.servers.speaking(server, "CIFS").remove_share(name)
            device = _run("findmnt", "-no", "SOURCE", str(tree / name)).strip()
            _run("umount", str(tree / name))
            _run("losetup", "--detach", device)
            (tree / name).rmdir()
            (files / f"{name}.img").unlink()
    detail = f"bare {harness.ms(bare)}, ours {harness.ms(more)}"
    name = f"one more share beside {SHARES} / its bare steps"
    return harness.Claim(name, more / bare, 3.0, True, detail)


def _run(*argv: str) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout
