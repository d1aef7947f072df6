# SPDX-License-Identifier: Apache-2.0
"""A real Glance: its API under gunicorn, with MariaDB, without Keystone."""

import contextlib
import dataclasses
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import requests

from . import backing, image_rest, manila, process

#: Bytes that all images of one project together may have.
QUOTA = 100 * 1024**2

_PASTE = """
[composite:glance-api]
paste.composite_factory = glance.api:root_app_factory
/: api

[composite:api]
paste.composite_factory = glance.api:pipeline_factory
# Whoever calls says who he is: for the loopback address only.
default = versionnegotiation context rootapp

[composite:rootapp]
paste.composite_factory = glance.api:root_app_factory
/: apiversions
/v2: apiv2app

[app:apiversions]
paste.app_factory = glance.api.versions:create_resource

[app:apiv2app]
paste.app_factory = glance.api.v2.router:API.factory

[filter:versionnegotiation]
paste.filter_factory = glance.api.middleware.version_negotiation:VersionNegotiationFilter.factory

[filter:context]
paste.filter_factory = glance.api.middleware.context:ContextMiddleware.factory
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Glance:
    """A running Glance.

    :param log: what Glance says.
    """

    directory: Path
    log: Path
    port: int
    api: process.Process

    @property
    def config(self) -> Path:
        """Its configuration file."""
        return self.directory / "glance-api.conf"

    def client(self, project: str = "sailors") -> image_rest.Client:
        """Return a project's client."""
        return image_rest.Client(f"http://127.0.0.1:{self.port}", project, self.api)

    def worker(self) -> int:
        """Return the process that serves the requests."""
        return int(re.findall(r"Booting worker with pid: (\d+)", self.api.log.read_text())[-1])

    def kill_worker(self) -> None:
        """Kill the process that serves the requests, and wait until another one does."""
        killed = self.worker()
        os.kill(killed, 9)
        process.wait_for("another worker", lambda: self.worker() != killed)
        self.wait_until_ready()

    def said(self, words: str) -> list[str]:
        """Return the lines of the log that have these words."""
        return [line for line in self.log.read_text().splitlines() if words in line]

    def wait_until_ready(self) -> None:
        """Wait until the API answers."""
        process.wait_for("Glance's API", self._answers, processes=[self.api])

    def _answers(self) -> bool:
        with contextlib.suppress(requests.RequestException):
            return requests.get(f"http://127.0.0.1:{self.port}/", timeout=5).status_code == 300
        return False


@contextlib.contextmanager
def running(
    directory: Path, backends: Mapping[str, tuple[str, Mapping[str, object]]]
) -> Iterator[Glance]:
    """Run Glance with these stores, the first of which is the default.

    :param backends: the type and the options of each, by name.
    """
    backing.require_packages()
    port, log = process.free_port(), directory / "glance.log"
    with contextlib.ExitStack() as undo:
        database = undo.enter_context(backing.database(directory, "glance"))
        _configure(directory, port, log, database, backends)
        config = f"--config-file={directory}/glance-api.conf"
        _run(str(Path(sys.prefix) / "bin/glance-manage"), config, "db_sync")
        api = undo.enter_context(_api(directory, port))
        glance = Glance(directory, log, port, api)
        glance.wait_until_ready()
        yield glance


def _api(directory: Path, port: int) -> process.Process:
    argv = [
        *(sys.executable, "-m", "gunicorn", "glance.wsgi.api:application"),
        *(f"--bind=127.0.0.1:{port}", "--workers=1", "--threads=8", "--timeout=0"),
        "--no-control-socket",
    ]
    environment = {"OS_GLANCE_CONFIG_DIR": str(directory), "PYTHONDONTWRITEBYTECODE": "1"}
    return process.Process("glance-api", argv, directory, environment=environment)


def _configure(
    directory: Path,
    port: int,
    log: Path,
    database: str,
    backends: Mapping[str, tuple[str, Mapping[str, object]]],
) -> None:
    paste, staging, tasks = directory / "paste.ini", directory / "staging", directory / "tasks"
    paste.write_text(_PASTE)
    for path in (staging, tasks):
        path.mkdir()
    common = {
        "DEFAULT": {
            "debug": True,
            "log_file": log,
            "enabled_backends": ",".join(f"{name}:{kind}" for name, (kind, _) in backends.items()),
            "enabled_import_methods": "[glance-direct,copy-image]",
            "worker_self_reference_url": f"http://127.0.0.1:{port}",
            "show_multiple_locations": True,
            "user_storage_quota": f"{QUOTA}B",
        },
        "database": {"connection": database},
        "glance_store": {"default_backend": next(iter(backends))},
        "os_glance_staging_store": {"filesystem_store_datadir": staging},
        "os_glance_tasks_store": {"filesystem_store_datadir": tasks},
        "paste_deploy": {"config_file": paste},
    }
    stores = {name: options for name, (_kind, options) in backends.items()}
    manila.write_config(directory / "glance-api.conf", common, stores)


def _run(*argv: str) -> None:
    result = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert result.returncode == 0, f"{argv[0]} failed:\n{result.stdout}\n{result.stderr}"
