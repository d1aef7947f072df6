# SPDX-License-Identifier: Apache-2.0
"""A cloud with two hosts, one of them strict and run by a normal user, and a user with an image."""

import contextlib
import dataclasses
import io
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from functional import busybox

from container_stack.host import containers, images

from . import account, host, nova_cloud, nova_compute, nova_network, nova_user, process

#: The strict host, whose service is a normal user's, and the lenient one, whose service is root's.
STRICT, LENIENT = "cstest-strict", "cstest-lenient"
HELLO = "ahoy from the hold"
_COMMAND = f"echo {HELLO}; trap exit TERM; while true; do sleep 1; done"
_CHANGES = ("ENV PATH=/bin", f'CMD ["sh", "-c", "{_COMMAND}"]')
#: MiB of memory and GiB of disk of the flavors; the last one is more than a host has.
SMALL, LARGE, HUGE = (64, 1), (128, 1), (64, 1_000_000)
#: Bytes; no default of anything, so that it is seen where it must be.
MTU = 1430


@dataclasses.dataclass(frozen=True, slots=True)
class World:
    """A running cloud, and what a user needs for his first server.

    :param image: id of an image that says :data:`HELLO`, and ``reference`` what the engine calls
        it.
    :param flavors: ids, by name.
    :param foreign: id of a container that is nobody's of Nova.
    :param permitted: the directory of the host that servers on the lenient host may have.
    """

    cloud: nova_cloud.Cloud
    computes: dict[str, nova_compute.Compute]
    admin: nova_user.User
    user: nova_user.User
    image: str
    reference: str
    flavors: dict[str, str]
    network: str
    foreign: str
    permitted: Path

    @property
    def strict(self) -> nova_compute.Compute:
        return self.computes[STRICT]

    @property
    def lenient(self) -> nova_compute.Compute:
        return self.computes[LENIENT]

    @contextlib.contextmanager
    def server(self, name: str, **more: object) -> Iterator[object]:
        """Have a server that runs, on the strict host unless told otherwise, for a while."""
        zone = more.pop("availability_zone", STRICT)
        flavor = self.flavors[str(more.pop("flavor", "small"))]
        image = str(more.pop("image", self.image))
        made = self.user.create(name, image, flavor, self.network, availability_zone=zone, **more)
        try:
            yield self.user.settled(made.id, "ACTIVE")
        finally:
            self.user.delete(made.id)


@contextlib.contextmanager
def running(directory: Path) -> Iterator[World]:
    """Run all of it; in the end nothing is left."""
    with contextlib.ExitStack() as undo:
        reference = undo.enter_context(_image())
        cloud = undo.enter_context(nova_cloud.running(directory))
        foreign = undo.enter_context(_foreign(reference))
        undo.enter_context(nova_network.firewall())
        permitted = directory / "test112233"
        permitted.mkdir()
        computes = {}
        for number, (name, lenient) in enumerate(((STRICT, False), (LENIENT, True)), 1):
            more = {"allowed_host_paths": permitted, "accept_forwarding": True}
            options = more if lenient else {}
            computes[name] = undo.enter_context(
                nova_compute.running(
                    cloud,
                    name,
                    normal_user=not lenient,
                    address=f"127.0.0.{number}",
                    options=options,
                )
            )
        admin = undo.enter_context(
            nova_user.acting(cloud, "captain", "harbour-office", nova_cloud.ADMIN)
        )
        user = undo.enter_context(nova_user.acting(cloud, "sailor", "sailors"))
        flavors, network = _flavors(admin), _network(user)
        image = user.type(
            f"docker save {reference} | openstack image create hello "
            "--container-format docker --disk-format raw -f value -c id"
        ).strip()
        for compute in computes.values():
            compute.wait_until_ready()
        cloud.manage("cell_v2", "discover_hosts")
        _zones(admin)
        yield World(
            cloud, computes, admin, user, image, reference, flavors, network, foreign, permitted
        )


@contextlib.contextmanager
def _image() -> Iterator[str]:
    reference = f"cstest-nova:{os.getpid()}"
    engine = containers.Engine(account.ENGINE)
    with contextlib.closing(engine):
        library = images.Images(engine)
        library.import_tar(io.BytesIO(busybox.root_file_system()), reference, _CHANGES)
        try:
            yield reference
        finally:
            library.remove(reference)


@contextlib.contextmanager
def _foreign(reference: str) -> Iterator[str]:
    """Have a container that looks as much like a server as somebody else's may."""
    labels = {"container_stack.kind": "server", "container_stack.owner": "nova-elsewhere"}
    with host.engine() as client:
        made = client.containers.run(
            reference,
            name=f"cstest-foreign-{os.getpid()}",
            labels={**labels, "container_stack.id": str(uuid.uuid4())},
            network_mode="none",
            detach=True,
        )
        try:
            yield str(made.id)
        finally:
            made.remove(force=True)


def _flavors(admin: nova_user.User) -> dict[str, str]:
    made = {}
    for name, (ram, disk) in {"small": SMALL, "large": LARGE, "huge": HUGE}.items():
        flavor = admin.sdk.compute.create_flavor(name=name, ram=ram, vcpus=1, disk=disk)
        made[name] = flavor.id
    return made


def _zones(admin: nova_user.User) -> None:
    """Make each host an availability zone, so that a user may choose one."""
    for name in (STRICT, LENIENT):
        aggregate = admin.sdk.compute.create_aggregate(name=name, availability_zone=name)
        process.wait_for(
            f"host {name}",
            lambda host=name: [
                each
                for each in admin.sdk.compute.services(binary="nova-compute", host=host)
                if each.state == "up"
            ],
        )
        admin.sdk.compute.add_host_to_aggregate(aggregate, name)


def _network(user: nova_user.User) -> str:
    network = user.sdk.network.create_network(name="quay", mtu=MTU)
    user.sdk.network.create_subnet(
        network_id=network.id, ip_version=4, cidr="10.253.7.0/24", dns_nameservers=["192.0.2.53"]
    )
    user.sdk.network.create_subnet(
        network_id=network.id,
        ip_version=6,
        cidr="2001:db8:7::/64",
        ipv6_address_mode="slaac",
        ipv6_ra_mode="slaac",
    )
    return str(network.id)
