# SPDX-License-Identifier: Apache-2.0
"""Somebody who uses the cloud, by the ``openstack`` command and by its SDK."""

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openstack
from openstack import connection

from . import keystone, nova_cloud, process

_PROGRAM = Path(sys.prefix) / "bin/openstack"
#: Seconds for a server to get anywhere, on a machine that does much else.
PATIENCE = 180


@dataclasses.dataclass(frozen=True, slots=True)
class User:
    """A user with a directory for his files."""

    cloud: nova_cloud.Cloud
    user: keystone.User
    directory: Path
    sdk: connection.Connection

    def run(self, *words: str, stdin: str | bytes | None = None) -> Any:
        """Run an ``openstack`` command and return what it says, as from ``-f json``."""
        result = subprocess.run(
            [str(_PROGRAM), *words, "-f", "json"],
            input=stdin,
            capture_output=True,
            cwd=self.directory,
            env=self._environment(),
            check=False,
        )
        said = f"openstack {' '.join(words)}: {result.stdout!r}\n{result.stderr.decode()}"
        assert result.returncode == 0, said
        return json.loads(result.stdout) if result.stdout.strip() else None

    def type(self, line: str) -> str:
        """Type a line into a shell, as documented, and return what it writes."""
        result = subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", line],
            capture_output=True,
            text=True,
            cwd=self.directory,
            env=self._environment(),
            check=False,
        )
        assert result.returncode == 0, f"{line}\n{result.stdout}\n{result.stderr}"
        return result.stdout

    def server(self, server_id: str) -> Any:
        """Return a server as the API shows it; None when there is none."""
        return self.sdk.compute.find_server(server_id, ignore_missing=True)

    def create(self, name: str, image: str, flavor: str, network: str, **more: Any) -> Any:
        """Ask for a server and return it, building."""
        asked = {"networks": [{"uuid": network}], **more}
        return self.sdk.compute.create_server(name=name, image_id=image, flavor_id=flavor, **asked)

    def settled(self, server_id: str, *wanted: str) -> Any:
        """Wait until a server has one of these states and no task, and return it.

        ``ERROR`` ends the waiting too.
        """

        def look() -> Any:
            found = self.sdk.compute.get_server(server_id)
            done = found.status in (*wanted, "ERROR") and not found.task_state
            return found if done else None

        found = process.wait_for(
            f"server {server_id} to be {' or '.join(wanted)}",
            look,
            timeout=PATIENCE,
            processes=self.cloud.processes,
        )
        assert found.status in wanted, f"{found.status}: {found.fault}"
        return found

    def delete(self, server_id: str) -> None:
        """Delete a server and wait until it is gone."""
        self.sdk.compute.delete_server(server_id, ignore_missing=True)
        process.wait_for(
            f"the end of server {server_id}",
            lambda: self.server(server_id) is None,
            timeout=PATIENCE,
            processes=self.cloud.processes,
        )

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": f"{_PROGRAM.parent}:{os.environ['PATH']}",
            "HOME": str(self.directory),
            "LC_ALL": "C.UTF-8",
            "DOCKER_HOST": os.environ.get("DOCKER_HOST", ""),
            "OS_COMPUTE_API_VERSION": "2.96",
            **self.cloud.keystone.environment(self.user),
        }


@contextlib.contextmanager
def acting(
    cloud: nova_cloud.Cloud, name: str, project: str, role: str = nova_cloud.MEMBER
) -> Iterator[User]:
    """Make a user, who is logged in."""
    user = cloud.user(name, project, role)
    directory = cloud.directory / f"home-{name}"
    directory.mkdir()
    sdk = openstack.connect(
        load_yaml_config=False,
        load_envvars=False,
        auth={
            "auth_url": cloud.keystone.url,
            "username": user.name,
            "password": user.password,
            "project_name": project,
            "user_domain_id": "default",
            "project_domain_id": "default",
        },
        region_name="RegionOne",
        compute_default_microversion="2.96",
    )
    with contextlib.closing(sdk):
        yield User(cloud, user, directory, sdk)
