# SPDX-License-Identifier: Apache-2.0
"""A real Swift: proxy, account and container server, and an object server for every node.

Users come from tempauth. With storlets' middleware in it, it runs storlets as well.
"""

import contextlib
import dataclasses
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import requests

from . import backing, manila, process

_BIN = Path(sys.prefix) / "bin"

#: Filters of the proxy that need no option, in their order; the storlets' place is after tempauth.
_BEFORE = ("catch_errors", "gatekeeper", "healthcheck", "cache", "listing_formats", "bulk")
_AFTER = ("copy", "container-quotas", "account-quotas", "slo", "dlo", "versioned_writes", "symlink")
#: Seconds that a proxy waits for an object server: a storlet may take 40.
_PATIENCE = 60


@dataclasses.dataclass(frozen=True, slots=True)
class User:
    """Somebody with a password of tempauth's."""

    project: str
    name: str
    password: str
    roles: str = ""

    @property
    def account(self) -> str:
        """The account as in its URL."""
        return f"AUTH_{self.project}"

    @property
    def login(self) -> str:
        """What ST_USER is."""
        return f"{self.project}:{self.name}"


#: The account manager, and a user of the account with no right but those that ACLs give him.
MANAGER = User("305f5f3d12834be187238e080b8643e4", "manager", "spinnaker-7", ".admin")
MEMBER = User(MANAGER.project, "member", "halyard-3")
#: The manager of another account.
STRANGER = User("b81c40aa97e5469c8f2d", "stranger", "capstan-5", ".admin")
#: Who deploys images: a user of the provider, whose account keeps the state. What he may do in
#: other accounts their ACLs say.
DEPLOYER = User("storlets", "deployer", "bowsprit-9", ".admin")
#: Who enables accounts.
CHIEF = User(DEPLOYER.project, "chief", "keelson-1", ".admin .reseller_admin")
USERS = (MANAGER, MEMBER, STRANGER, DEPLOYER, CHIEF)


@dataclasses.dataclass(frozen=True, slots=True)
class Node:
    """Where an object server runs.

    :param gateway: the configuration of its storlet gateway; None for Swift alone.
    :param within: a command that runs the command after it on this node.
    :param environment: of the object server; DOCKER_HOST for one.
    """

    name: str
    gateway: Path | None = None
    within: tuple[str, ...] = ()
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class Swift:
    """A running Swift."""

    directory: Path
    port: int
    processes: tuple[process.Process, ...]

    @property
    def auth_url(self) -> str:
        """What ST_AUTH is."""
        return f"http://127.0.0.1:{self.port}/auth/v1.0"

    def url(self, account: str) -> str:
        """Return an account's URL."""
        return f"http://127.0.0.1:{self.port}/v1/{account}"

    def environment(self, user: User) -> dict[str, str]:
        """Return the variables by which a client of Swift knows who calls."""
        return {"ST_AUTH": self.auth_url, "ST_USER": user.login, "ST_KEY": user.password}

    def session(self, user: User) -> requests.Session:
        """Return a session with the user's token."""
        session = requests.Session()
        answer = session.get(
            self.auth_url, headers={"X-Auth-User": user.login, "X-Auth-Key": user.password}
        )
        answer.raise_for_status()
        session.headers["X-Auth-Token"] = answer.headers["X-Auth-Token"]
        return session

    def process(self, name: str) -> process.Process:
        """Return one of its servers: "proxy", or "object-" and a node's name."""
        return next(each for each in self.processes if each.name == name)


@contextlib.contextmanager
def running(directory: Path, nodes: Sequence[Node] = (Node("only"),)) -> Iterator[Swift]:
    """Run Swift with a replica on each node; the proxy runs on the first one."""
    backing.require_packages({"memcached": "memcached"})
    ports = {name: process.free_port() for name in ("proxy", "account", "container", "memcached")}
    ports |= {f"object-{node.name}": process.free_port() for node in nodes}
    etc = directory / "etc"
    etc.mkdir()
    _make_rings(etc, nodes, ports)
    _write_common(etc, ports)
    servers = [
        _server("account", "account", directory, ports["account"], Node("account")),
        _server("container", "container", directory, ports["container"], Node("container")),
        *(
            _server(name, "object", directory, ports[name], node)
            for node in nodes
            for name in [f"object-{node.name}"]
        ),
        _proxy(directory, ports, nodes[0]),
    ]
    with contextlib.ExitStack() as undo:
        options = ("-u", "nobody", "-l", "127.0.0.1", "-p", str(ports["memcached"]), "-U", "0")
        cache = process.Process("memcached", ["memcached", *options], directory)
        processes = tuple(undo.enter_context(each) for each in (cache, *servers))
        for name, port in ports.items():
            process.wait_for(name, lambda port=port: process.listens(port), processes=processes)
        yield Swift(directory, ports["proxy"], processes)


def _make_rings(etc: Path, nodes: Sequence[Node], ports: Mapping[str, int]) -> None:
    # In a process of its own: Swift's modules bring eventlet with them.
    devices = {
        "account": [("account", ports["account"])],
        "container": [("container", ports["container"])],
        "object": [(node.name, ports[f"object-{node.name}"]) for node in nodes],
    }
    words = [f"{ring}:{name}:{port}" for ring, each in devices.items() for name, port in each]
    script = Path(__file__).with_name("swift_rings.py")
    argv = [sys.executable, "-I", str(script), str(etc), *words]
    result = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert result.returncode == 0, f"No rings:\n{result.stdout}\n{result.stderr}"


def _write_common(etc: Path, ports: Mapping[str, int]) -> None:
    hashing = {"swift_hash_path_prefix": "anchor", "swift_hash_path_suffix": "buoy"}
    policy = {"name": "default", "default": "yes"}
    manila.write_config(etc / "swift.conf", {"swift-hash": hashing, "storage-policy:0": policy})
    # By this one storlets' middleware fetches storlets and their dependencies.
    manila.write_config(
        etc / "internal-client.conf",
        {
            "DEFAULT": {"swift_dir": etc},
            "pipeline:main": {"pipeline": "catch_errors proxy-server"},
            "app:proxy-server": {"use": "egg:swift#proxy", "account_autocreate": "true"},
            "filter:catch_errors": {"use": "egg:swift#catch_errors"},
        },
    )


def _server(name: str, kind: str, directory: Path, port: int, node: Node) -> process.Process:
    devices = directory / "devices"
    (devices / node.name).mkdir(parents=True)
    filters = ["healthcheck"] + (["storlet_handler"] if node.gateway else [])
    sections = {
        "DEFAULT": {"devices": devices, "mount_check": "false"},
        "pipeline:main": {"pipeline": " ".join([*filters, f"{kind}-server"])},
        f"app:{kind}-server": {"use": f"egg:swift#{kind}"},
        "filter:healthcheck": {"use": "egg:swift#healthcheck"},
    }
    return _process(name, kind, directory, port, node, sections)


def _proxy(directory: Path, ports: Mapping[str, int], node: Node) -> process.Process:
    storlets = ["storlet_handler"] if node.gateway else []
    pipeline = [*_BEFORE, "tempauth", *storlets, *_AFTER, "proxy-server"]
    users = {f"user_{each.project}_{each.name}": f"{each.password} {each.roles}" for each in USERS}
    sections = {
        "DEFAULT": {},
        "pipeline:main": {"pipeline": " ".join(pipeline)},
        "app:proxy-server": {
            "use": "egg:swift#proxy",
            "account_autocreate": "true",
            "allow_account_management": "true",
            "node_timeout": _PATIENCE,
            "recoverable_node_timeout": _PATIENCE,
            "conn_timeout": 5,
        },
        **{
            f"filter:{name}": {"use": f"egg:swift#{name.replace('-', '_')}"}
            for name in (*_BEFORE, *_AFTER)
        },
        "filter:cache": {
            "use": "egg:swift#memcache",
            "memcache_servers": f"127.0.0.1:{ports['memcached']}",
        },
        "filter:versioned_writes": {
            "use": "egg:swift#versioned_writes",
            "allow_object_versioning": "true",
        },
        "filter:tempauth": {"use": "egg:swift#tempauth", **users},
    }
    return _process("proxy", "proxy", directory, ports["proxy"], node, sections)


def _process(
    name: str,
    kind: str,
    directory: Path,
    port: int,
    node: Node,
    sections: dict[str, dict[str, object]],
) -> process.Process:
    """Return one of Swift's own servers, not yet started; it serves in one process."""
    etc = directory / "etc"
    sections["DEFAULT"] |= {
        "bind_ip": "127.0.0.1",
        "bind_port": port,
        "workers": 0,
        "user": "root",
        "swift_dir": etc,
    }
    if node.gateway:
        sections["filter:storlet_handler"] = {
            "use": "egg:storlets#storlet_handler",
            "execution_server": kind,
            "storlet_container": "storlet",
            "storlet_dependency": "dependency",
            "storlet_logcontainer": "log",
            "storlet_gateway_module": "docker",
            "storlet_gateway_conf": node.gateway,
            "internal_client_conf_path": etc / "internal-client.conf",
        }
    config = etc / f"{name}.conf"
    manila.write_config(config, sections)
    argv = [*node.within, str(_BIN / f"swift-{kind}-server"), str(config), "--verbose"]
    environment = {"PYTHONDONTWRITEBYTECODE": "1", **node.environment}
    return process.Process(name, argv, directory, environment=environment)
