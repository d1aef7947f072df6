# SPDX-License-Identifier: Apache-2.0
"""The tests of manila-tempest-plugin against a Manila with the driver under test.

Run by ``tools/run-tempest.sh share`` (or ``site``) as ``python -m acceptance.manila_tempest share
DIRECTORY [ARG...]``; more arguments go to ``tempest run``.
"""

import contextlib
import dataclasses
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from . import backend, cifs, host, keystone, manila, manila_identity, rest, samba, tempest

#: Patterns of tests that are left out, each below the reason.
EXCLUDED = Path(__file__).with_name("manila-tempest-excluded.txt")
_PLUGIN = r"^manila_tempest_tests\.tests\."
#: Types of shares and of groups that ask for nothing in particular; snapshots must be asked for.
_TYPE = "default"
_SPECS = {"snapshot_support": "True", "create_share_from_snapshot_support": "True"}
#: GiB. Shares are sparse; what tests make at once is to fit, whatever their files would take.
_POOL_GB = 400
#: An address that only this host has, and that nobody serves on.
_ADDRESS = "127.91.0.7"


@dataclasses.dataclass(frozen=True, slots=True)
class Way:
    """One way of the driver's to serve shares.

    :param name: of the back end, and of the user whose service it is.
    :param servers: whether Manila handles share servers; else one serves all shares.
    :param tests: those that are run if no others are asked for, as a regular expression.
    """

    name: str
    servers: bool
    protocols: str
    tests: str


#: The personas' tests make shares without a share network, which only a site has.
WAYS = {
    "share": Way("cstest_tempest", True, "nfs,cifs", _PLUGIN + r"api\."),
    "site": Way("cstest_tempest_site", False, "cifs", _PLUGIN + r"rbac\."),
}


@dataclasses.dataclass(frozen=True, slots=True)
class World:
    """A running Manila with its back end, and who its administrator is."""

    way: Way
    directory: Path
    identity: keystone.Keystone
    admin: keystone.User


@contextlib.contextmanager
def running(way: Way, directory: Path) -> Iterator[World]:
    """Run all of it; in the end nothing is left."""
    (directory / "keystone").mkdir()
    with contextlib.ExitStack() as undo:
        # One thread: many make users and projects at once.
        identity = undo.enter_context(keystone.running(directory / "keystone", threads=1))
        known = manila_identity.Identity(identity)
        plane = undo.enter_context(
            manila.control_plane(
                directory,
                known,
                {"DEFAULT": {"default_share_type": _TYPE, "default_share_group_type": _TYPE}},
            )
        )
        identity.add_service(manila_identity.KIND, plane.url.rstrip("/"))
        undo.enter_context(manila.service("manila-data", directory, [plane.config]))
        image = undo.enter_context(samba.current_image())
        undo.callback(host.sweep, f"manila-{way.name}", directory / way.name / cifs.STATE)
        made = undo.enter_context(
            backend.running(
                plane,
                way.name,
                lambda place: _options(way, place, image),
                normal_user=True,
                user=way.name,
            )
        )
        client = made.client()
        share_type = client.create_type(
            _TYPE, driver_handles_share_servers=str(way.servers), **_SPECS
        )
        group = {"name": _TYPE, "share_types": [share_type], "is_public": True}
        client.call("POST", "share-group-types", {"share_group_type": group})
        yield World(way, directory, identity, known.admin("harbour-office"))


def _options(way: Way, place: backend.Place, image: str) -> Mapping[str, object]:
    subnet = host.unused_subnet()
    made = {
        **cifs.options(place, subnet, image),
        "container_stack_pool_size_gb": _POOL_GB,
        "container_stack_share_protocols": way.protocols.upper(),
        # It can shrink, which the default can't, and grow while it is used on any host.
        "container_stack_filesystem": "btrfs",
        # Each class of tests has a project of its own, and so a share server.
        "standalone_network_plugin_allowed_ip_ranges": f"{subnet[17]}-{subnet[250]}",
    }
    if way.servers:
        return made
    networks = ("network_api", "standalone")
    return {key: value for key, value in made.items() if not key.startswith(networks)} | {
        "driver_handles_share_servers": False,
        "container_stack_site_addresses": _ADDRESS,
    }


def options(world: World) -> manila.Sections:
    """Return the plugin's part of tempest.conf, which says what the driver does and what not."""
    way = world.way
    return {
        # Those without a role become members; readers are to be no more than that.
        "auth": {"tempest_roles": ""},
        "enforce_scope": {"manila": True},
        "share": {
            "region": "RegionOne",
            "catalog_type": manila_identity.KIND,
            "endpoint_type": "public",
            "max_api_microversion": rest.VERSION,
            "build_interval": 1,
            "build_timeout": 300,
            "default_share_type_name": _TYPE,
            "backend_names": way.name,
            "multi_backend": False,
            # Share networks have Manila's own addresses; there is no Neutron.
            "multitenancy_enabled": way.servers,
            "create_networks_when_multitenancy_enabled": False,
            "enable_protocols": way.protocols,
            "enable_ip_rules_for_protocols": way.protocols,
            "enable_user_rules_for_protocols": "cifs",
            "enable_cert_rules_for_protocols": "",
            "enable_cephx_rules_for_protocols": "",
            "enable_ro_access_level_for_protocols": way.protocols,
            # The driver's names of users are lower-case.
            "username_for_user_rules": "alice",
            "capability_storage_protocol": "NFS_CIFS" if way.servers else "CIFS",
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
            "run_mount_snapshot_tests": way.servers,
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
    way, directory, *words = sys.argv[1:]
    with running(WAYS[way], Path(directory)) as world:
        return tempest.run(prepare(world), world.way.tests, words)


if __name__ == "__main__":
    sys.exit(main())
