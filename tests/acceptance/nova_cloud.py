# SPDX-License-Identifier: Apache-2.0
"""A small cloud of real services: Keystone, Placement, Glance, Neutron, Nova and Heat.

Nova's compute services are apart: see :mod:`.nova_compute`.
"""

import concurrent.futures
import contextlib
import dataclasses
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import requests

from . import backing, keystone, manila, nova_config, nova_network, process

_BIN = Path(sys.prefix) / "bin"
_SERVICES = ("placement", "glance", "neutron", "nova", "heat")
#: Type in the catalogue, by the service that answers.
_CATALOGUE = {
    "placement": ("placement", ""),
    "glance": ("image", ""),
    "neutron": ("network", ""),
    "nova": ("compute", "/v2.1"),
    "heat": ("orchestration", "/v1/%(tenant_id)s"),
}
_WSGI = {
    "placement": "placement.wsgi.api",
    "glance": "glance.wsgi.api",
    "neutron": "neutron.wsgi.api",
    "nova": "nova.wsgi.osapi_compute",
    "heat": "heat.wsgi.api",
}
#: Roles of who starts servers, of who may do all, and of who speaks for users.
MEMBER, ADMIN, SERVICE = "member", "admin", "service"


@dataclasses.dataclass(frozen=True, slots=True)
class Cloud:
    """Everything but a compute service.

    :param config: nova.conf, the part that all of Nova's services share.
    :param processes: must all run as long as the cloud does.
    """

    backing: nova_config.Backing
    keystone: keystone.Keystone
    config: Path
    processes: tuple[process.Process, ...]

    @property
    def directory(self) -> Path:
        """All that the services write is below it."""
        return self.backing.directory

    def manage(self, *words: str) -> str:
        """Run a command of nova-manage and return what it says."""
        return _run("nova-manage", f"--config-file={self.config}", *words)

    def user(self, name: str, project: str, role: str = MEMBER) -> keystone.User:
        """Return a user with a role in a project, made if need be."""
        return self.keystone.add_user(name, f"{name}-tar-and-oakum", project, role)


@contextlib.contextmanager
def running(
    directory: Path,
    options: Mapping[str, manila.Sections] | None = None,
    keystone_threads: int = 4,
) -> Iterator[Cloud]:
    """Run the cloud.

    :param options: more of a service's configuration, by the service's name.
    :param keystone_threads: one, where many make users and projects at once.
    """
    backing.require_packages()
    for name in ("keystone", *_SERVICES):
        (directory / name).mkdir()
    with contextlib.ExitStack() as undo:
        pool = undo.enter_context(concurrent.futures.ThreadPoolExecutor())
        names = ("keystone", *_SERVICES, "serialproxy")
        ports = {name: process.free_port() for name in names}
        starting = keystone.running(directory / "keystone", ports["keystone"], keystone_threads)
        identity = pool.submit(undo.enter_context, starting)
        broker = undo.enter_context(backing.broker(directory))
        databases = undo.enter_context(backing.databases(directory, *nova_config.DATABASES))
        base = nova_config.Backing(directory, databases, broker, ports)
        _write(base, options or {})
        schemas = [pool.submit(_make_schema, chain) for chain in _schemas(base)]
        _make_accounts(base, identity.result())
        for each in schemas:
            each.result()
        process.wait_for("RabbitMQ", lambda: process.listens(backing.port_of(broker)))
        started = [_started(each, undo) for each in (*_apis(base), *_daemons(base))]
        for name in _SERVICES:
            _wait_for(name, base.url(name), started)
        yield Cloud(base, identity.result(), directory / "nova/nova.conf", tuple(started))


def _write(base: nova_config.Backing, more: Mapping[str, manila.Sections]) -> None:
    made: Mapping[str, manila.Sections] = {
        "placement/placement.conf": nova_config.placement(base),
        "glance/glance-api.conf": nova_config.glance(base),
        "neutron/neutron.conf": nova_config.neutron(base, nova_network.MECHANISM),
        "nova/nova.conf": nova_config.nova(base),
        "heat/heat.conf": nova_config.heat(base),
    }
    for name, sections in made.items():
        service, _, _ = name.partition("/")
        manila.write_config(base.directory / name, sections, more.get(service, {}))
    shutil.copy(nova_config.ETC / "nova/api-paste.ini", base.directory / "nova")
    for name in ("images", "staging", "tasks"):
        (base.directory / "glance" / name).mkdir()
    nova_network.install(base.directory / "neutron")


def _schemas(base: nova_config.Backing) -> Iterator[Sequence[Sequence[str]]]:
    """Yield the commands that make the tables; one sequence needn't wait for another."""
    nova = str(base.directory / "nova/nova.conf")
    yield [(sys.executable, "-m", "acceptance.nova_schema", nova, base.databases["nova_cell0"])]
    neutron = f"--config-file={base.directory}/neutron/neutron.conf"
    yield [("neutron-db-manage", neutron, "upgrade", "heads")]
    placement = f"--config-file={base.directory}/placement/placement.conf"
    glance = f"--config-file={base.directory}/glance/glance-api.conf"
    heat = f"--config-file={base.directory}/heat/heat.conf"
    yield (
        ("placement-manage", placement, "db", "sync"),
        ("glance-manage", glance, "db_sync"),
        ("heat-manage", heat, "db_sync"),
    )


def _make_schema(chain: Sequence[Sequence[str]]) -> None:
    for words in chain:
        _run(*words)


def _make_accounts(base: nova_config.Backing, identity: keystone.Keystone) -> None:
    for name in _SERVICES:
        for role in (ADMIN, SERVICE):
            identity.add_user(name, nova_config.PASSWORD, nova_config.PROJECT, role)
        kind, path = _CATALOGUE[name]
        identity.add_service(kind, base.url(name) + path)


def _apis(base: nova_config.Backing) -> Iterator[process.Process]:
    for name, module in _WSGI.items():
        home = base.directory / name
        # Some take the words of the command line for their own, so that gunicorn's are in a file.
        # It hides its command line and environment; its name is to tell whose it is.
        (home / "gunicorn.conf.py").write_text(
            f"wsgi_app = '{module}:application'\nbind = '127.0.0.1:{base.ports[name]}'\n"
            f"proc_name = '{home}'\nthreads = 8\ntimeout = 0\ncontrol_socket_disable = True\n"
            "accesslog = '-'\n",
            encoding="utf-8",
        )
        # Heat knows none of them, but that its home is here.
        environment = {
            f"OS_{name.upper()}_CONFIG_DIR": str(home),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": str(home),
        }
        if name == "neutron":
            environment["OS_NEUTRON_CONFIG_FILES"] = "neutron.conf"
        argv = [sys.executable, "-m", "gunicorn"]
        yield process.Process(f"{name}-api", argv, home, environment=environment)


def _daemons(base: nova_config.Backing) -> Iterator[process.Process]:
    for service, names in (
        ("nova", ("conductor", "scheduler", "serialproxy")),
        ("heat", ("engine",)),
    ):
        home = base.directory / service
        for name in names:
            argv = [str(_BIN / f"{service}-{name}"), f"--config-file={home}/{service}.conf"]
            yield process.Process(f"{service}-{name}", argv, home)


def _started(service: process.Process, undo: contextlib.ExitStack) -> process.Process:
    """Start a service, which is killed in the end: most take long to say good-bye."""
    undo.callback(service.kill)
    service.start()
    return service


def _wait_for(name: str, url: str, processes: Sequence[process.Process]) -> None:
    def answers() -> bool:
        with contextlib.suppress(requests.RequestException):
            return requests.get(url, timeout=30).status_code < 500
        return False

    process.wait_for(name, answers, timeout=180, processes=processes)


def _run(program: str, *words: str) -> str:
    argv = [str(_BIN / program), *words]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    result = subprocess.run(argv, capture_output=True, text=True, env=environment, check=False)
    said = f"{result.stdout}\n{result.stderr[-4000:]}"
    assert result.returncode == 0, f"{' '.join(argv)} failed:\n{said}"
    return result.stdout
