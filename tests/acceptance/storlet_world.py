# SPDX-License-Identifier: Apache-2.0
"""Swift with storlets on three nodes, and the users of ``container-stack storlet``.

The proxy is on the first node, as it is in small deployments: a PUT through a storlet runs there.
"""

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import requests
from functional import storlet_host

from container_stack.host import containers

from . import account, manila, process, storlet_nodes, swift

COUNT = 3
#: What a sandbox may take.
MEMORY, PIDS, PERIOD, QUOTA = 256 * 1024**2, 64, 100_000, 50_000
#: Small, so that every image is stored in segments.
SEGMENT_MIB = 32
BASE_OBJECT = "debian_12_python3.tar"

_PROGRAM = Path(sys.prefix) / "bin/container-stack"


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """What a command said.

    :param code: with which it ended.
    """

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        """What ``-f json`` wrote."""
        return json.loads(self.out)


@dataclasses.dataclass(frozen=True, slots=True)
class World:
    """Swift, its nodes and the operator's configuration.

    :param config: of ``container-stack``.
    """

    directory: Path
    swift: swift.Swift
    nodes: tuple[storlet_nodes.Node, ...]
    config: Path

    def argv(self, command: str, *words: str) -> list[str]:
        """Return the arguments of a command about storlets."""
        return [str(_PROGRAM), "storlet", command, f"--config-file={self.config}", *words]

    def environment(self, user: swift.User) -> dict[str, str]:
        """Return what a user has in his environment."""
        own = {"PATH": os.environ["PATH"], "HOME": str(self.directory), "LC_ALL": "C.UTF-8"}
        return {**own, "TMPDIR": str(self.directory), **self.swift.environment(user)}

    def try_run(self, user: swift.User, *words: str, stdin: str = "") -> Answer:
        """Run a command as a user would."""
        result = subprocess.run(
            self.argv(*words),
            input=stdin,
            capture_output=True,
            text=True,
            env=self.environment(user),
            cwd=self.directory,
            timeout=300,
            check=False,
        )
        return Answer(result.returncode, result.stdout, result.stderr)

    def run(self, user: swift.User, *words: str, stdin: str = "") -> Answer:
        """Run a command that must succeed."""
        answer = self.try_run(user, *words, stdin=stdin)
        assert answer.code == 0, f"{words}: {answer.code}\n{answer.out}\n{answer.err}"
        return answer

    def start(self, user: swift.User, *words: str) -> process.Process:
        """Start a command in the background; it is to be entered."""
        name = f"manager-{len(list(self.directory.glob('manager-*.log')))}"
        return process.Process(
            name, self.argv(*words), self.directory, environment=self.environment(user)
        )

    def session(self, user: swift.User) -> requests.Session:
        """Return a session of Swift's REST API."""
        return self.swift.session(user)

    def images(self, reference: str) -> dict[str, str | None]:
        """Return the ID that a reference has on each node."""
        return {node.name: node.image(reference) for node in self.nodes}


@contextlib.contextmanager
def running(directory: Path) -> Iterator[World]:
    """Run nodes and Swift."""
    shared, gateway = directory / "storlets", directory / "gateway.conf"
    config = directory / "container-stack.conf"
    with contextlib.ExitStack() as undo:
        undo.enter_context(storlet_host.prepared())
        engine = containers.Engine(account.ENGINE)
        undo.callback(engine.close)
        undo.enter_context(storlet_host.loaded(engine))
        nodes = undo.enter_context(storlet_nodes.running(directory, shared, COUNT))
        _write_gateway(gateway, shared)
        _write_inventory(directory / "nodes.yaml", nodes)
        _write_config(config, directory, gateway)
        service = undo.enter_context(
            swift.running(
                directory,
                [
                    swift.Node(each.name, gateway, each.within, {"DOCKER_HOST": each.url})
                    for each in nodes
                ],
            )
        )
        yield World(directory, service, nodes, config)


def _write_gateway(path: Path, shared: Path) -> None:
    options = {
        "host_root": shared,
        "default_container_image_name": storlet_host.BASE.partition(":")[0],
        "container_mem_limit": MEMORY,
        "container_pids_limit": PIDS,
        "container_cpu_period": PERIOD,
        "container_cpu_quota": QUOTA,
        # The runtime ends a sandbox that took longer to start, and begins anew with each request:
        # on a machine that is busy enough it would never get anywhere.
        "restart_linux_container_timeout": 90,
        "storlet_timeout": 120,
    }
    lines = [f"{name} = {value}" for name, value in options.items()]
    path.write_text("\n".join(["[DEFAULT]", *lines, ""]))


def _write_inventory(path: Path, nodes: tuple[storlet_nodes.Node, ...]) -> None:
    listed = [{"name": node.name, "url": node.url} for node in nodes]
    # YAML has all of JSON.
    path.write_text(json.dumps({"nodes": listed}))


def _write_config(path: Path, directory: Path, gateway: Path) -> None:
    options = {
        "gateway_conf": gateway,
        "inventory": directory / "nodes.yaml",
        "docker_url": account.ENGINE,
        "base_image": storlet_host.BASE,
        "base_object": BASE_OBJECT,
        "state_dir": directory / "state",
        "segment_size_mb": SEGMENT_MIB,
        "sandbox_user": 0,
        "wave_width": 2,
    }
    manila.write_config(path, {"storlets": options})
