# SPDX-License-Identifier: Apache-2.0
"""The databases and the message broker below the services, private to these tests."""

import contextlib
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from . import process

_BROKER = "/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server"
_NEEDED = {
    "mariadb-install-db": "mariadb-server",
    "mariadbd": "mariadb-server",
    "epmd": "rabbitmq-server",
    "rabbitmqctl": "rabbitmq-server",
    "sudo": "sudo",
    "visudo": "sudo",
    "dockerd": "docker.io",
    "smbclient": "smbclient",
}
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def require_packages(needed: Mapping[str, str] = _NEEDED) -> None:
    """Fail with the cure when a Debian package is missing: nothing here is ever skipped.

    :param needed: programs, with the package that has each.
    """
    missing = {
        package
        for program, package in needed.items()
        if shutil.which(program, path=_SYSTEM_PATH) is None
    }
    assert not missing, (
        "The acceptance tests run real services. Install them with: "
        f"apt-get install -y --no-install-recommends {' '.join(sorted(missing))}"
    )


@contextlib.contextmanager
def database(directory: Path, name: str) -> Iterator[str]:
    """Run MariaDB and yield the SQLAlchemy URL of an empty database of this name."""
    with databases(directory, name) as urls:
        yield urls[name]


@contextlib.contextmanager
def databases(directory: Path, *names: str) -> Iterator[Mapping[str, str]]:
    """Run MariaDB and yield the SQLAlchemy URLs of empty databases, by name.

    SQLite won't do: Manila 23 and Glance 33 lock themselves out of it.
    """
    data, port = directory / "mariadb", process.free_port()
    _quietly(
        "mariadb-install-db",
        "--no-defaults",
        "--user=root",
        f"--datadir={data}",
        "--auth-root-authentication-method=normal",
        "--skip-test-db",
    )
    setup = directory / "mariadb.sql"
    setup.write_text(
        "".join(
            f"CREATE DATABASE {name} CHARACTER SET utf8mb3;\n"
            f"CREATE USER {name}@127.0.0.1 IDENTIFIED BY '{name}';\n"
            f"GRANT ALL ON {name}.* TO {name}@127.0.0.1;\n"
            for name in names
        )
    )
    # It lives for minutes: durability is of no use to it, and flushing takes half the time.
    argv = [
        "mariadbd",
        "--no-defaults",
        "--user=root",
        f"--datadir={data}",
        f"--socket={directory}/mariadb.sock",
        f"--pid-file={directory}/mariadb.pid",
        "--bind-address=127.0.0.1",
        f"--port={port}",
        "--skip-name-resolve",
        "--max-connections=400",
        "--innodb-flush-log-at-trx-commit=0",
        "--innodb-flush-method=nosync",
        f"--init-file={setup}",
    ]
    with contextlib.ExitStack() as undo:
        undo.callback(shutil.rmtree, data, ignore_errors=True)
        server = undo.enter_context(process.Process("mariadb", argv, directory))
        process.wait_for("MariaDB", lambda: process.listens(port), processes=[server])
        yield {
            name: f"mysql+pymysql://{name}:{name}@127.0.0.1:{port}/{name}?charset=utf8"
            for name in names
        }


@contextlib.contextmanager
def broker(directory: Path) -> Iterator[str]:
    """Start RabbitMQ and yield its URL; it answers some seconds later."""
    [program] = Path("/").glob(_BROKER.lstrip("/"))
    names, port = process.free_port(), process.free_port()
    data = directory / "rabbitmq"
    data.mkdir()
    (data / "enabled_plugins").write_text("[].\n")
    environment = {
        "ERL_EPMD_PORT": str(names),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_HOME_DIR": str(directory),
        "RABBITMQ_NODENAME": "acceptance@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(process.free_port()),
        "RABBITMQ_MNESIA_BASE": str(data),
        "RABBITMQ_LOG_BASE": str(data),
        "RABBITMQ_LOGS": "-",
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(data / "enabled_plugins"),
        # Files that aren't there: the machine's own configuration must not count.
        "RABBITMQ_CONFIG_FILE": str(data / "none"),
        "RABBITMQ_CONF_ENV_FILE": str(data / "none.env"),
    }
    with contextlib.ExitStack() as undo:
        undo.callback(shutil.rmtree, data, ignore_errors=True)
        # RabbitMQ would start this one itself, detached, and leave it behind.
        epmd = ["epmd", "-port", str(names), "-address", "127.0.0.1"]
        undo.enter_context(process.Process("epmd", epmd, directory))
        process.wait_for("epmd", lambda: process.listens(names))
        undo.enter_context(
            process.Process("rabbitmq", [str(program)], directory, environment=environment)
        )
        yield f"rabbit://guest:guest@127.0.0.1:{port}/"


def port_of(url: str) -> int:
    """Return the port in a service's URL."""
    return int(url.rpartition(":")[2].partition("/")[0])


def _quietly(*argv: str) -> None:
    result = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert result.returncode == 0, f"{argv[0]} failed:\n{result.stdout}\n{result.stderr}"
