# SPDX-License-Identifier: Apache-2.0
"""The tests of manila-tempest-plugin against a Manila with the driver under test.

Run by ``tools/run-tempest.sh share`` as ``python -m acceptance.manila_tempest DIRECTORY [ARG...]``;
more arguments go to ``tempest run``.
"""

import contextlib
import dataclasses
import ipaddress
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from . import backend, cifs, host, keystone, manila, manila_identity, rest, samba, tempest

#: Patterns of tests that are left out, each below the reason.
EXCLUDED = Path(__file__).with_name("manila-tempest-excluded.txt")
#: The back end, and the user whose service it is.
NAME, USER = "cstest_tempest", "cstest-shares"
_TESTS = r"^manila_tempest_tests\.tests\.api\."
#: A share type that asks for nothing in particular.
_TYPE = "default"
#: GiB. Shares are sparse; what tests make at once is to fit, whatever their files would take.
_POOL_GB = 400


@dataclasses.dataclass(frozen=True, slots=True)
class World:
    """A running Manila with its back end, and who its administrator is."""

    directory: Path
    identity: keystone.Keystone
    admin: keystone.User


@contextlib.contextmanager
def running(directory: Path) -> Iterator[World]:
    """Run all of it; in the end nothing is left."""
    (directory / "keystone").mkdir()
    subnet, state = host.unused_subnet(), directory / NAME / cifs.STATE
    with contextlib.ExitStack() as undo:
        # One thread: many make users and projects at once.
        identity = undo.enter_context(keystone.running(directory / "keystone", threads=1))
        known = manila_identity.Identity(identity)
        plane = undo.enter_context(
            manila.control_plane(directory, known, {"DEFAULT": {"default_share_type": _TYPE}})
        )
        identity.add_service(manila_identity.KIND, plane.url.rstrip("/"))
        undo.enter_context(manila.service("manila-data", directory, [plane.config]))
        image = undo.enter_context(samba.current_image())
        undo.callback(host.sweep, f"manila-{NAME}", state)
        made = undo.enter_context(
            backend.running(
                plane,
                NAME,
                lambda place: _options(place, subnet, image),
                normal_user=True,
                user=USER,
            )
        )
        made.client().create_type(_TYPE)
        yield World(directory, identity, known.admin("harbour-office"))


def _options(
    place: backend.Place, subnet: ipaddress.IPv4Network, image: str
) -> Mapping[str, object]:
    return {
        **cifs.options(place, subnet, image),
        "container_stack_pool_size_gb": _POOL_GB,
        "container_stack_share_protocols": "CIFS,NFS",
        # It can shrink, which the default can't, and grow while it is used on any host.
        "container_stack_filesystem": "btrfs",
        # Each class of tests has a project of its own, and so a share server.
        "standalone_network_plugin_allowed_ip_ranges": f"{subnet[17]}-{subnet[250]}",
    }


def options(world: World) -> manila.Sections:
    """Return the plugin's part of tempest.conf, which says what the driver does and what not."""
    return {
        "enforce_scope": {"manila": True},
        "share": {
            "region": "RegionOne",
            "catalog_type": manila_identity.KIND,
            "endpoint_type": "public",
            "max_api_microversion": rest.VERSION,
            "build_interval": 1,
            "build_timeout": 300,
            "default_share_type_name": _TYPE,
            "backend_names": NAME,
            "multi_backend": False,
            # Share networks have Manila's own addresses; there is no Neutron.
            "multitenancy_enabled": True,
            "create_networks_when_multitenancy_enabled": False,
            "enable_protocols": "nfs,cifs",
            "enable_ip_rules_for_protocols": "nfs,cifs",
            "enable_user_rules_for_protocols": "cifs",
            "enable_cert_rules_for_protocols": "",
            "enable_cephx_rules_for_protocols": "",
            "enable_ro_access_level_for_protocols": "nfs,cifs",
            # The driver's names of users are lower-case.
            "username_for_user_rules": "alice",
            "capability_storage_protocol": "NFS_CIFS",
            "capability_snapshot_support": True,
            "capability_create_share_from_snapshot_support": True,
            "capability_snapshot_inherit_share_access": "disabled",
            "capability_thin_provisioned": False,
            "capability_encryption_support": "",
            "run_quota_tests": True,
            "run_extend_tests": True,
            "run_shrink_tests": True,
            "run_snapshot_tests": True,
            "run_revert_to_snapshot_tests": True,
            "run_mount_snapshot_tests": True,
            "run_manage_unmanage_tests": True,
            "run_manage_unmanage_snapshot_tests": True,
            "run_share_group_tests": True,
            "run_replication_tests": False,
            "run_multiple_share_replicas_tests": False,
            "run_host_assisted_migration_tests": False,
            "run_driver_assisted_migration_tests": False,
            "run_migration_with_preserve_snapshots_tests": False,
            "run_driver_assisted_backup_tests": False,
            "run_create_share_from_snapshot_in_another_pool_or_az_tests": False,
            "run_share_server_migration_tests": False,
            # Both need Neutron: Manila's standalone plug-in has one subnet.
            "run_share_server_multiple_subnet_tests": False,
            "run_network_allocation_update_tests": False,
            "run_encryption_tests": False,
            # It is for scenarios, which need Nova.
            "run_ipv6_tests": False,
        },
    }


def prepare(world: World) -> Path:
    """Make tempest's directory, and return it."""
    lock_path = world.directory / "tempest-locks"
    common = tempest.common(
        world.identity, world.admin, "manila", lock_path=lock_path, networks=False
    )
    return tempest.prepare(world.directory, EXCLUDED, common, options(world))


def main() -> int:
    with running(Path(sys.argv[1])) as world:
        return tempest.run(prepare(world), _TESTS, sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
