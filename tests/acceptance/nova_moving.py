# SPDX-License-Identifier: Apache-2.0
"""Servers that go from host to host, by whoever may send them, and what they leave on the way."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

from . import host, nova_cloud, nova_compute, nova_inside, nova_user, nova_world, process

#: Where a server keeps something; and MiB that it may keep besides, to take its time to move.
FILE = "/log"
MIB = 24


class Moving:
    """A world with somebody who may say where its user's servers are.

    :param purser: an admin within the user's project, where the world's own admin is in another.
    """

    def __init__(self, hosts: nova_world.World, purser: nova_user.User) -> None:
        self.hosts = hosts
        self.user = hosts.user
        self.captain = hosts.admin
        self.purser = purser

    @contextlib.contextmanager
    def server(self, name: str, on: nova_compute.Compute) -> Iterator[str]:
        """Have a server that isn't bound to where it begins, for a while; its id."""
        hosts = self.hosts
        made = self.purser.create(
            name, hosts.image, hosts.flavors["small"], hosts.network, host=on.name
        )
        try:
            self.user.settled(made.id, "ACTIVE")
            yield str(made.id)
        finally:
            for compute in hosts.computes.values():
                if not compute.service.running:
                    compute.restart()
            if hosts.user.server(made.id):
                self.captain.sdk.compute.reset_server_state(made.id, "error")
            hosts.user.delete(made.id)

    def where(self, server: str) -> str:
        """Return the name of the host that Nova takes a server to be on."""
        return str(self.captain.sdk.compute.get_server(server).compute_host)

    def main(self, server: str, on: nova_compute.Compute) -> dict[str, Any]:
        """Return the engine's words on the container that is a server on this host."""
        found = [each for each in on.containers(server) if "resized" not in str(each["Name"])]
        assert len(found) == 1, [each["Name"] for each in on.containers(server)]
        return found[0]

    def write(self, server: str, on: nova_compute.Compute, text: str, mib: int = 0) -> None:
        """Let a server write something, and much else before it."""
        line = f"dd if=/dev/urandom of=/much bs=1M count={mib} 2>&1; echo {text} > {FILE}; sync"
        nova_inside.run(self.main(server, on), "sh", "-c", line)
        assert self.content(server, on) == text

    def content(self, server: str, on: nova_compute.Compute) -> str:
        return nova_inside.run(self.main(server, on), "cat", FILE).strip()

    def interfaces(self, server: str, on: nova_compute.Compute) -> list[tuple[str, str, list[str]]]:
        """Return a server's interfaces, with their addresses."""
        return [
            (each["ifname"], each["address"], sorted(info["local"] for info in each["addr_info"]))
            for each in host.addresses(self.main(server, on))
        ]

    def parcels(self) -> list[str]:
        """Return the images in Glance that hold servers on their way."""
        words = "on its way to another host"
        found = self.captain.sdk.image.images(visibility="all", limit=200)
        return [each.id for each in found if words in (each.name or "")]

    def uploading(self, on: nova_compute.Compute) -> bool:
        """Tell whether Glance has begun to keep what a host sends."""
        kept = self.hosts.cloud.directory / "glance/images"
        return any((kept / name.removesuffix(".json")).exists() for name in self.unsettled(on))

    def unsettled(self, on: nova_compute.Compute) -> list[str]:
        """Return the images that a host still has to see to."""
        return [path.name for path in (on.state / "glance").glob("*")]


@contextlib.contextmanager
def able(hosts: nova_world.World) -> Iterator[Moving]:
    """Have somebody who may."""
    purser = nova_user.acting(hosts.cloud, "purser", "sailors", nova_cloud.ADMIN)
    with purser as acting:
        yield Moving(hosts, acting)


def kill_when(compute: nova_compute.Compute, seen: Callable[[], object]) -> None:
    """Kill a service at the moment that something is seen."""
    deadline = time.monotonic() + 180
    while not seen():
        assert time.monotonic() < deadline, compute.service.tail()
        time.sleep(0.01)
    compute.service.kill()
    assert process.mentioning(f"{compute.name}/compute.conf") == []
