# SPDX-License-Identifier: Apache-2.0
"""Tempest beside a cloud of real services: its configuration, what is left out, and its run."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from . import keystone, manila

#: Tests that run at once. More make Keystone wait for its database.
CONCURRENCY = 2
_PROGRAM = Path(sys.prefix) / "bin/tempest"
_SERVICES = ("cinder", "glance", "horizon", "manila", "neutron", "nova", "swift")


def common(
    identity: keystone.Keystone,
    admin: keystone.User,
    *services: str,
    lock_path: Path,
    networks: bool,
) -> manila.Sections:
    """Return what tempest.conf says of every cloud.

    :param services: those that there are.
    :param networks: whether each project gets a network of Neutron's.
    """
    as_admin = identity.environment(admin)
    return {
        "oslo_concurrency": {"lock_path": lock_path},
        "auth": {
            "admin_username": as_admin["OS_USERNAME"],
            "admin_password": as_admin["OS_PASSWORD"],
            "admin_project_name": as_admin["OS_PROJECT_NAME"],
            "admin_domain_name": "Default",
            "use_dynamic_credentials": True,
            "tempest_roles": "member",
            "create_isolated_networks": networks,
        },
        "identity": {"auth_version": "v3", "uri_v3": identity.url},
        "service_available": {name: name in services for name in _SERVICES},
    }


def excluded(path: Path) -> Iterator[str]:
    """Yield the patterns in a file of tests that are left out, each below the reason."""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            yield line


def prepare(directory: Path, leave_out: Path, *parts: manila.Sections) -> Path:
    """Make tempest's directory with a tempest.conf of these parts, and return it."""
    made = directory / "tempest"
    _call(directory, directory, "init", str(made))
    manila.write_config(made / "etc/tempest.conf", *parts)
    (made / "excluded").write_text("".join(f"{each}\n" for each in excluded(leave_out)))
    return made


def run(directory: Path, tests: str, words: Sequence[str]) -> int:
    """Run the tests; tempest's exit code tells whether all that ran passed.

    :param directory: as prepared.
    :param tests: a regular expression, which one in ``words`` replaces.
    """
    asked = ["run", f"--regex={tests}", "--exclude-list=excluded", f"--concurrency={CONCURRENCY}"]
    return _call(directory, directory.parent, *asked, *words)


def _call(directory: Path, home: Path, *words: str) -> int:
    environment = {**os.environ, "HOME": str(home)}
    argv = [str(_PROGRAM), *words]
    return subprocess.run(argv, cwd=directory, env=environment, check=False).returncode
