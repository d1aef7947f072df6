# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: T201
"""Print, one a line, what exists on this machine that tests of container-stack make.

``python tools/inventory.py RUN_DIRECTORY``. run-tests.sh takes it before and after: what came in
between was left behind. Things are ours by name or label, or because they lie in the directory
that the run gave its tests for their files, or carry it in their environment.
"""

import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import docker

NAMES = re.compile(r"container[-_]stack|cstest|\bcs-", re.ASCII)


def main() -> None:
    """Print the inventory, sorted."""
    run = sys.argv[1]
    found = {*of_engine(), *mounts(run), *loop_devices(run), *limits(), *lvm(), *places()}
    for line in sorted(found | {*processes(run)}):
        print(line)


def ours(run: str, *texts: str) -> bool:
    """Tell whether one of the texts names our things."""
    return any(run in text or NAMES.search(text) for text in texts)


def of_engine() -> Iterator[str]:
    """Return containers, networks and volumes; none if no engine answers."""
    try:
        client = docker.from_env(version="auto", timeout=10).api
    except docker.errors.DockerException:
        return
    for item in client.containers(all=True):
        name = item["Names"][0].lstrip("/") if item["Names"] else item["Id"]
        if ours("\0", name, *item["Labels"]):
            yield f"container {name} ({item['State']})"
    for item in client.networks():
        if ours("\0", item["Name"], *(item["Labels"] or {})):
            yield f"docker network {item['Name']}"
    for item in client.volumes()["Volumes"] or []:
        if ours("\0", item["Name"], *(item["Labels"] or {})):
            yield f"docker volume {item['Name']}"


def mounts(run: str) -> Iterator[str]:
    """Return mount points, but for those that the engine makes for its containers."""
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        fields = line.split()
        source, target = fields[fields.index("-") + 2], fields[4]
        if ours(run, source, target) and "/engine/" not in target:
            yield f"mount {target}"


def loop_devices(run: str) -> Iterator[str]:
    """Return loop devices with the file behind each."""
    for file in Path("/sys/block").glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):
            backing = file.read_text(encoding="utf-8").strip()
            if ours(run, backing):
                yield f"loop device {file.parts[3]} of {backing}"


def limits() -> Iterator[str]:
    """Return devices that are slow for all: whoever has them next wouldn't know why."""
    for file in Path("/sys/fs/cgroup/blkio").glob("blkio.throttle.*_device"):
        for line in file.read_text(encoding="ascii").splitlines():
            yield f"limit {file.name} {line}"


def lvm() -> Iterator[str]:
    """Return volume groups; all of them, as tests may choose any name."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        argv = ["vgs", "--reportformat", "json", "-o", "vg_name"]
        report = json.loads(subprocess.run(argv, capture_output=True, check=False).stdout)
        for row in report["report"][0]["vg"]:
            yield f"volume group {row['vg_name']}"


def places() -> Iterator[str]:
    """Return what storlets want where it is, and tests make where it isn't."""
    for path in ("/usr/local/lib/storlets", "/dev/log"):
        if Path(path).exists():
            yield f"path {path}"


def processes(run: str) -> Iterator[str]:
    """Return processes with the run's mark in their environment or on their command line.

    What sudo starts has lost its environment, but comes from this venv.
    """
    family = ancestors()
    marks = (f"{run}/", f"{sys.prefix}/bin/")
    for directory in Path("/proc").glob("[0-9]*"):
        # It may end while it is looked at.
        with contextlib.suppress(OSError):
            command = (directory / "cmdline").read_text(errors="replace").replace("\0", " ").strip()
            environment = (directory / "environ").read_text(errors="replace").split("\0")
            started = f"CONTAINER_STACK_RUN={run}" in environment
            if int(directory.name) in family or not command:
                continue
            if started or any(mark in command for mark in marks):
                yield f"process {directory.name}: {command[:120]}"


def ancestors() -> set[int]:
    """Return this process and those above it."""
    found, pid = set(), os.getpid()
    while pid:
        found.add(pid)
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
        pid = int(stat.rpartition(")")[2].split()[1])
    return found


if __name__ == "__main__":
    main()
