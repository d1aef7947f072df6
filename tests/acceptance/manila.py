# SPDX-License-Identifier: Apache-2.0
"""A real Manila: API and scheduler once, and a share service for every back end."""

import configparser
import contextlib
import dataclasses
import subprocess
import sys
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

import requests

from . import backing, process, rest

#: Manila's name of the host that its share services run on.
HOST = "cstest"
Sections = Mapping[str, Mapping[str, object]]

_BIN = Path(sys.prefix) / "bin"
_ETC = Path(sys.prefix) / "etc/manila"
#: Finds what was made for these tests, and leaves no compiled files beside it.
_ENVIRONMENT = {"PYTHONPATH": str(Path(__file__).parents[1]), "PYTHONDONTWRITEBYTECODE": "1"}


class Authentication(Protocol):
    """How Manila knows who calls; the place where Keystone joins."""

    def options(self) -> Sections:
        """Return what goes into manila.conf."""

    def token(self, project: str) -> str:
        """Return what a request of this project carries."""


class NoAuthentication:
    """Everyone is an administrator of the project that he names."""

    def options(self) -> Sections:
        return {"DEFAULT": {"auth_strategy": "noauthv2"}}

    def token(self, project: str) -> str:
        return f"admin:{project}"


@dataclasses.dataclass(frozen=True, slots=True)
class ControlPlane:
    """Manila without a share service.

    :param config: the file with the options that all its services share.
    :param processes: API and scheduler.
    """

    directory: Path
    config: Path
    url: str
    authentication: Authentication
    processes: tuple[process.Process, ...]

    def client(self, project: str, *services: process.Process) -> rest.Client:
        """Return a client of a project; when it waits in vain it shows the services' logs."""
        token = self.authentication.token(project)
        return rest.Client(self.url, token, (*self.processes, *services))

    def publish(self) -> None:
        """Have the back ends tell the scheduler what they have; by themselves they do each minute.

        Until then the scheduler only subtracts: what was deleted is no space to it.
        """
        requests.post(f"{self.url}publish", timeout=60).raise_for_status()


@contextlib.contextmanager
def control_plane(
    directory: Path,
    authentication: Authentication | None = None,
    more: Sections = types.MappingProxyType({}),
) -> Iterator[ControlPlane]:
    """Run database, broker, API and scheduler.

    :param more: options that all of Manila's services share.
    """
    authentication = authentication or NoAuthentication()
    backing.require_packages()
    port, conf = process.free_port(), directory / "manila.conf"
    with contextlib.ExitStack() as undo:
        broker = undo.enter_context(backing.broker(directory))
        database = undo.enter_context(backing.database(directory, "manila"))
        write_config(conf, _common(directory, broker, database), authentication.options(), more)
        _make_schema(conf)
        process.wait_for("RabbitMQ", lambda: process.listens(backing.port_of(broker)))
        scheduler = service("manila-scheduler", directory, [conf])
        api = process.Process(
            "manila-api",
            [sys.executable, "-m", "acceptance.api_server", str(port), f"--config-file={conf}"],
            directory,
            environment=_ENVIRONMENT,
        )
        processes = tuple(undo.enter_context(each) for each in (scheduler, api))
        process.wait_for("Manila's API", lambda: process.listens(port), processes=processes)
        url = f"http://127.0.0.1:{port}/v2/"
        yield ControlPlane(directory, conf, url, authentication, processes)


def service(
    program: str,
    directory: Path,
    configs: list[Path],
    *,
    name: str | None = None,
    identity: process.Identity = process.ROOT,
) -> process.Process:
    """Return one of Manila's own daemons, not yet started."""
    argv = [str(_BIN / program), *(f"--config-file={path}" for path in configs)]
    return process.Process(
        name or program, argv, directory, environment=_ENVIRONMENT, identity=identity
    )


def share_service_options(name: str, directory: Path, backend: Mapping[str, object]) -> Sections:
    """Return the options of a share service with one back end, in the section ``name``."""
    return {
        "DEFAULT": {
            "host": HOST,
            "enabled_share_backends": name,
            "state_path": directory / "state",
        },
        "oslo_concurrency": {"lock_path": directory / "locks"},
        name: backend,
    }


def write_config(path: Path, *parts: Sections) -> None:
    """Write a configuration file of these parts; a later part adds to an earlier one."""
    parser = configparser.RawConfigParser(default_section="no defaults")
    for part in parts:
        for section, options in part.items():
            if not parser.has_section(section):
                parser.add_section(section)
            for option, value in options.items():
                parser.set(section, option, str(value))
    with path.open("w", encoding="utf-8") as file:
        parser.write(file)


def _common(directory: Path, broker: str, database: str) -> Sections:
    return {
        "DEFAULT": {
            "my_ip": "127.0.0.1",
            "transport_url": broker,
            "state_path": directory / "state",
            "api_paste_config": _ETC / "api-paste.ini",
            "rootwrap_config": _ETC / "rootwrap.conf",
            "enabled_share_protocols": "NFS,CIFS,CEPHFS",
            # Seconds. A back end tells the scheduler what it has this often.
            "periodic_interval": 2,
            "periodic_fuzzy_delay": 0,
            "report_interval": 2,
            "default_log_levels": "container_stack=DEBUG,amqp=WARN,oslo.messaging=WARN,"
            "oslo_messaging=WARN,oslo_policy=ERROR,sqlalchemy=WARN,urllib3=WARN",
        },
        "database": {"connection": database},
        "oslo_concurrency": {"lock_path": directory / "locks"},
    }


def _make_schema(conf: Path) -> None:
    argv = [str(_BIN / "manila-manage"), f"--config-file={conf}", "db", "sync"]
    result = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert result.returncode == 0, f"No schema:\n{result.stdout}\n{result.stderr}"
