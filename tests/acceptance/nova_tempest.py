# SPDX-License-Identifier: Apache-2.0
"""Tempest's tests of the compute API against a cloud of two hosts with the driver under test.

Run by ``tools/run-tempest.sh compute`` as ``python -m acceptance.nova_tempest DIRECTORY [ARG...]``;
more arguments go to ``tempest run``.
"""

import contextlib
import dataclasses
import io
import os
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

from functional import busybox

from container_stack.host import containers, images

from . import account, manila, nova_cloud, nova_compute, nova_network, nova_user, tempest

#: Patterns of tests that are left out, each below the reason.
EXCLUDED = Path(__file__).with_name("nova-tempest-excluded.txt")
#: The hosts, each with a service of a user of its own.
HOSTS = ("cstest-tempest1", "cstest-tempest2")
_TESTS = r"^tempest\.(api\.compute|scenario\.test_server_basic_ops)\."
#: A first process that says something, so that there is a console to read, and ends when asked to.
_COMMAND = "trap exit TERM; while true; do echo all is well; sleep 1; done"
_CHANGES = ("ENV PATH=/bin", f'CMD ["sh", "-c", "{_COMMAND}"]')
#: What Debian's busybox lacks, so that the server's administrator can get another password.
_CHPASSWD = b"""#!/bin/sh
set -e
while IFS=: read -r user password; do
    hash=$(printf %s "$password" | mkpasswd -m sha512 -P 0)
    sed -i "s|^$user:[^:]*|$user:$hash|" /etc/passwd
done
"""
#: The scheduler's filters: Nova's own choice, and two by which a tenant chooses among hosts.
_FILTERS = (
    "ComputeFilter,ComputeCapabilitiesFilter,ImagePropertiesFilter,ServerGroupAntiAffinityFilter,"
    "ServerGroupAffinityFilter,SameHostFilter,DifferentHostFilter"
)
_OPTIONS: dict[str, manila.Sections] = {
    # Tempest gives each of its projects a router. Nobody routes here: its tests don't look.
    "neutron": {"DEFAULT": {"service_plugins": "router"}},
    "nova": {"filter_scheduler": {"enabled_filters": _FILTERS}},
}


@dataclasses.dataclass(frozen=True, slots=True)
class World:
    """A running cloud, and what tempest must be told of it.

    :param images: ids of two, with the same contents.
    :param flavors: ids of two; the second is larger.
    :param extensions: what Neutron knows, by alias.
    """

    cloud: nova_cloud.Cloud
    admin: nova_user.User
    images: tuple[str, str]
    flavors: tuple[str, str]
    extensions: tuple[str, ...]


@contextlib.contextmanager
def running(directory: Path) -> Iterator[World]:
    """Run all of it; in the end nothing is left."""
    with contextlib.ExitStack() as undo:
        reference = undo.enter_context(_image())
        cloud = undo.enter_context(nova_cloud.running(directory, _OPTIONS, keystone_threads=1))
        undo.enter_context(nova_network.firewall())
        computes = [undo.enter_context(_compute(cloud, name)) for name in HOSTS]
        acting = nova_user.acting(cloud, "captain", "harbour-office", nova_cloud.ADMIN)
        admin = undo.enter_context(acting)
        for compute in computes:
            compute.wait_until_ready()
        cloud.manage("cell_v2", "discover_hosts")
        first, second = (_upload(admin, reference, name) for name in ("hello", "hello-again"))
        yield World(cloud, admin, (first, second), _flavors(admin), _extensions(admin))


def _compute(
    cloud: nova_cloud.Cloud, name: str
) -> contextlib.AbstractContextManager[nova_compute.Compute]:
    address = f"127.0.0.{HOSTS.index(name) + 1}"
    return nova_compute.running(cloud, name, normal_user=True, user=name, address=address)


@contextlib.contextmanager
def _image() -> Iterator[str]:
    reference = f"cstest-tempest:{os.getpid()}"
    with contextlib.closing(containers.Engine(account.ENGINE)) as engine:
        library = images.Images(engine)
        library.import_tar(_root_file_system(), reference, _CHANGES)
        try:
            yield reference
        finally:
            library.remove(reference)


def _root_file_system() -> io.BytesIO:
    made = io.BytesIO(busybox.root_file_system())
    with tarfile.open(fileobj=made, mode="a") as tar:
        member = tarfile.TarInfo("bin/chpasswd")
        member.size, member.mode = len(_CHPASSWD), 0o755
        tar.addfile(member, io.BytesIO(_CHPASSWD))
    made.seek(0)
    return made


def _upload(admin: nova_user.User, reference: str, name: str) -> str:
    return admin.type(
        f"docker save {reference} | openstack image create {name} --public "
        "--container-format docker --disk-format raw -f value -c id"
    ).strip()


def _flavors(admin: nova_user.User) -> tuple[str, str]:
    create = admin.sdk.compute.create_flavor
    small, large = (
        str(create(name=f"{ram} MiB", ram=ram, vcpus=1, disk=1).id) for ram in (64, 128)
    )
    return small, large


def _extensions(admin: nova_user.User) -> tuple[str, ...]:
    return tuple(each.alias for each in admin.sdk.network.extensions())


def options(world: World) -> manila.Sections:
    """Return tempest.conf's part that says what the driver does and this cloud has, or not."""
    return {
        "compute": {
            "image_ref": world.images[0],
            "image_ref_alt": world.images[1],
            "flavor_ref": world.flavors[0],
            "flavor_ref_alt": world.flavors[1],
            "hypervisor_type": "docker",
            "min_compute_nodes": len(HOSTS),
            "build_timeout": 300,
            "max_microversion": "latest",
            "shelved_offload_time": 0,
        },
        "compute-feature-enabled": {
            "attach_encrypted_volume": False,
            "change_password": True,
            "cold_migration": True,
            "config_drive": True,
            "console_output": True,
            "hostname_fqdn_sanitization": True,
            "ide_bus": False,
            "interface_attach": True,
            "live_migration": False,
            "metadata_service": False,
            "pause": True,
            "personality": True,
            "rescue": True,
            "resize": True,
            "scheduler_enabled_filters": _FILTERS,
            "serial_console": True,
            "shelve": True,
            "shelve_migrate": True,
            "snapshot": True,
            "spice_console": False,
            # There is no bus to choose for the rescued server's disk.
            "stable_rescue": False,
            "suspend": False,
            "swap_volume": False,
            "vnc_console": False,
            "volume_multiattach": False,
        },
        "network": {"public_network_id": "", "floating_network_name": ""},
        "network-feature-enabled": {
            "api_extensions": ",".join(world.extensions),
            "floating_ips": False,
            "ipv6": True,
        },
        # Nobody routes from tempest to the servers' networks.
        "validation": {"run_validation": False},
        "image": {"container_formats": "docker,bare", "disk_formats": "raw"},
    }


def prepare(world: World) -> Path:
    """Make tempest's directory, and return it."""
    directory = world.cloud.directory
    common = tempest.common(
        world.cloud.keystone,
        world.admin.user,
        "glance",
        "neutron",
        "nova",
        lock_path=directory / "tempest-locks",
        networks=True,
    )
    return tempest.prepare(directory, EXCLUDED, common, options(world))


def main() -> int:
    with running(Path(sys.argv[1])) as world:
        return tempest.run(prepare(world), _TESTS, sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
