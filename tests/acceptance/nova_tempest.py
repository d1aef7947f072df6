# SPDX-License-Identifier: Apache-2.0
"""Tempest's tests of the compute API against the cloud of these tests.

Run by ``tools/run-tempest.sh`` as ``python -m acceptance.nova_tempest DIRECTORY [ARG...]``; more
arguments go to ``tempest run``.
"""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from . import manila, nova_cloud, nova_world

#: Names of tests that are left out, each below the reason.
EXCLUDED = Path(__file__).with_name("nova-tempest-excluded.txt")
_TESTS = r"^tempest\.api\.compute\."
_PROGRAM = Path(sys.prefix) / "bin/tempest"


def options(world: nova_world.World, other_image: str) -> manila.Sections:
    """Return tempest.conf."""
    admin = world.cloud.keystone.environment(world.admin.user)
    return {
        "oslo_concurrency": {"lock_path": world.cloud.directory / "tempest-locks"},
        "auth": {
            "admin_username": admin["OS_USERNAME"],
            "admin_password": admin["OS_PASSWORD"],
            "admin_project_name": admin["OS_PROJECT_NAME"],
            "admin_domain_name": "Default",
            "use_dynamic_credentials": True,
            "tempest_roles": nova_cloud.MEMBER,
            "create_isolated_networks": True,
        },
        "identity": {"auth_version": "v3", "uri_v3": world.cloud.keystone.url},
        "compute": {
            "image_ref": world.image,
            "image_ref_alt": other_image,
            "flavor_ref": world.flavors["small"],
            "flavor_ref_alt": world.flavors["large"],
            "min_compute_nodes": 2,
            "build_timeout": 300,
            "max_microversion": "latest",
            # No guest writes a disk's label here; how long a shelved server keeps its host.
            "shelved_offload_time": 0,
        },
        "compute-feature-enabled": {
            "attach_encrypted_volume": False,
            "change_password": False,
            "config_drive": True,
            "console_output": True,
            "live_migration": False,
            "metadata_service": False,
            "rescue": True,
            "resize": True,
            "serial_console": True,
            "shelve_migrate": False,
            "suspend": False,
            "swap_volume": False,
            "vnc_console": False,
        },
        "network": {"public_network_id": "", "floating_network_name": ""},
        "network-feature-enabled": {"floating_ips": False, "ipv6": True},
        "validation": {"run_validation": False},
        "image": {"container_formats": "docker"},
        "service_available": {
            "cinder": False,
            "glance": True,
            "horizon": False,
            "neutron": True,
            "nova": True,
            "swift": False,
        },
    }


def excluded() -> Iterator[str]:
    """Yield the patterns of the tests that are left out."""
    for line in EXCLUDED.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            yield line


def run(world: nova_world.World, words: Sequence[str]) -> int:
    """Run the tests and return their exit code."""
    directory = world.cloud.directory / "tempest"
    environment = {**os.environ, "HOME": str(world.cloud.directory)}
    _tempest(["init", str(directory)], world.cloud.directory, environment)
    other = world.user.type(
        f"docker save {world.reference} | openstack image create hello-again --container-format "
        "docker --disk-format raw -f value -c id"
    ).strip()
    for image in (world.image, other):
        world.admin.sdk.image.update_image(image, visibility="public")
    manila.write_config(directory / "etc/tempest.conf", options(world, other))
    (directory / "excluded").write_text("\n".join(excluded()) + "\n")
    asked = ["run", f"--regex={_TESTS}", "--exclude-list=excluded", "--concurrency=2", *words]
    return _tempest(asked, directory, environment)


def _tempest(words: Sequence[str], directory: Path, environment: dict[str, str]) -> int:
    return subprocess.run(
        [str(_PROGRAM), *words], cwd=directory, env=environment, check=False
    ).returncode


def main() -> int:
    directory = Path(sys.argv[1])
    with nova_world.running(directory) as world:
        return run(world, sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
