# SPDX-License-Identifier: Apache-2.0
"""A service of servers in a directory of its own, and all that it has on this host."""

import os
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from container_stack.host import containers
from container_stack.rootwrap import executor
from container_stack.servers import assembly, model, spec
from container_stack.testing import privilege

LINKS = Path("/sys/class/net")
#: Says so, and then obeys SIGTERM.
READY = ("sh", "-c", "trap 'echo bye; exit 7' TERM; echo ready; while :; do sleep 0.1; done")


class Host:
    """Where servers of one owner live.

    :param image_id: of an image with busybox.
    :param prefix: four digits that the ids of its ports begin with; those of a whole run's
        tests, unless something else works on the host at the same time.
    """

    def __init__(
        self,
        directory: Path,
        image_id: str,
        url: str = containers.DEFAULT_URL,
        owner: str | None = None,
        prefix: str | None = None,
    ) -> None:
        self.owner = owner or f"cstest-{uuid.uuid4().hex[:8]}"
        self.image_id = image_id
        self.state_dir = directory / "state"
        self.settings = assembly.Settings(
            owner=self.owner, state_dir=str(self.state_dir), docker_url=url
        )
        self.engine = containers.Engine(url)
        self.prefix = prefix or PREFIX
        self._executors: list[executor.Executor] = []

    def new_executor(self) -> executor.Executor:
        """Return an executor that this host closes."""
        self._executors.append(privilege.make_executor(self.state_dir))
        return self._executors[-1]

    def service(
        self, engine: containers.Engine | None = None, run: executor.Executor | None = None
    ) -> assembly.Service:
        """Return a service as after a start of its process, before recovery."""
        return assembly.assemble(self.settings, engine or self.engine, run or self.new_executor())

    def plan(self, server_id: str | None = None, **values: Any) -> model.Plan:
        """Return a server with one interface that leads nowhere."""
        server_id = server_id or str(uuid.uuid4())
        wish = values.pop("wish", model.Wish(command=READY))
        ports = values.pop("ports", (port(prefix=self.prefix),))
        return model.Plan(
            server_id, f"cstest-{server_id[:8]}", "web", wish=wish, ports=ports, **values
        )

    def name(self, server_id: str) -> str:
        return spec.container_name(server_id)

    def things(self) -> dict[str, int]:
        """Count what is on the host: by the engine, the kernel and the directory itself."""
        return {
            "containers": len(self.engine.list(self.labels())),
            "links": len(self.links()),
            "records": len(list((self.state_dir / "servers").glob("*"))),
            "interfaces": len(list((self.state_dir / "interfaces").glob("*"))),
            "locks": len(list((self.state_dir / "locks").glob("*"))),
        }

    def links(self) -> list[str]:
        """Return the outer ends of interfaces whose ports this host's tests have made."""
        return [each.name for each in LINKS.glob(f"tap{self.prefix}*")]

    def has_links(self, *numbers: int) -> bool:
        """Wait until there are so many of them: the kernel takes its time to remove some."""
        deadline = time.monotonic() + 60
        while len(self.links()) not in numbers and time.monotonic() < deadline:
            time.sleep(0.02)
        return len(self.links()) in numbers

    def labels(self) -> Mapping[str, str]:
        return spec.labels(self.owner)

    def close(self) -> None:
        """Take everything away, whatever state it is in."""
        service = self.service()
        for each in self.engine.list(self.labels()):
            service.servers.destroy(each.labels["container_stack.id"])
            self.engine.remove(each.id)
        service.servers.start()
        for run in self._executors:
            run.close()
        self.engine.close()


#: Ids of ports begin so.
PREFIX = uuid.uuid4().hex[:4]


def port(
    binding: model.Binding = model.Binding.NOOP, number: int = 5, prefix: str = PREFIX
) -> model.Port:
    """Return a port of a network that nobody else is on."""
    own = uuid.uuid4()
    return model.Port(
        id=prefix + str(own)[len(prefix) :],
        network=str(uuid.uuid4()),
        binding=binding,
        mac=f"02:{own.bytes[:5].hex(':')}",
        addresses=(f"10.251.0.{number}/24", f"fd00:cafe::{number}/64"),
    )


def nothing() -> dict[str, int]:
    """Return the counts of a host on which nothing is left."""
    return dict.fromkeys(("containers", "links", "records", "interfaces", "locks"), 0)


def engine_group() -> int:
    """Return the group whose members may use the engine."""
    return os.stat(containers.DEFAULT_URL.removeprefix("unix://")).st_gid
