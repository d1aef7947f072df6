# SPDX-License-Identifier: Apache-2.0
"""MariaDB and PostgreSQL of a test's own: Debian's, on loopback, under a user without rights.

They live for minutes and promise nothing about power cuts; kill -9 loses nothing, though.
"""

import contextlib
import itertools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import sqlalchemy as sa

#: Who a server runs as when the tests run as root, which PostgreSQL refuses.
_NOBODY = 65534
_USER, _PASSWORD = "osd", "cstest-secret"
_POSTGRESQL = "/usr/lib/postgresql/*/bin/postgres"


class Server:
    """A database server that can be frozen, killed, and started again.

    :param words: run it, such as ``ip netns exec NAME``.
    """

    def __init__(self, directory: Path, host: str, words: Sequence[str] = ()) -> None:
        self.directory = directory
        self.host = host
        self.port = _free_port()
        self._words = tuple(words)
        self._names = itertools.count()
        self._process: subprocess.Popen[bytes] | None = None
        self.prepare()

    #: SQLAlchemy's name of the kind, and the database that is there from the beginning.
    dialect = ""
    first = ""
    #: What ends it in order, without waiting for its clients.
    ends_on = signal.SIGTERM

    def prepare(self) -> None:
        """Make an empty server, once."""
        raise NotImplementedError

    def command(self) -> list[str]:
        """Return what runs it."""
        raise NotImplementedError

    def url(self, name: str) -> str:
        """Return the URL of a database."""
        return f"{self.dialect}://{_USER}:{_PASSWORD}@{self.host}:{self.port}/{name}"

    def database(self) -> str:
        """Make an empty database and return its URL."""
        name = f"cstest{next(self._names)}"
        self._execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with open(self.directory / "server.log", "ab") as log:
            self._process = subprocess.Popen(
                [*self._words, *_as_nobody(), *self.command()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                start_new_session=True,
            )
        end = time.monotonic() + 90
        while True:
            try:
                return self._execute("SELECT 1")
            except sa.exc.SQLAlchemyError:
                if self._process.poll() is not None or time.monotonic() > end:
                    said = (self.directory / "server.log").read_text(errors="replace")
                    raise RuntimeError(f"{self.dialect} didn't start: {said[-3000:]}") from None
                time.sleep(0.1)

    def kill(self) -> None:
        """End it as a crash does; :meth:`start` brings it back."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it in order."""
        self._end(self.ends_on)

    def freeze(self) -> None:
        """Let it answer nobody, while connections remain."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it answer again."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        if self._process is not None:
            for pid in (self._process.pid, *_children(self._process.pid)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)

    def _end(self, number: int) -> None:
        if self._process is None:
            return
        self.thaw()
        if number == signal.SIGKILL:
            self._signal(number)
        else:
            self._process.send_signal(number)
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
            self._process.wait()
        self._process = None

    def _execute(self, statement: str) -> None:
        engine = sa.create_engine(
            sa.make_url(self.url(self.first)), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool
        )
        with engine.connect() as connection:
            connection.execute(sa.text(statement))


class MariaDB(Server):
    """MariaDB, or what Debian says it is."""

    dialect, first = "mysql+pymysql", "mysql"

    def prepare(self) -> None:
        made = [
            *("mariadb-install-db", "--no-defaults", f"--datadir={self.directory}/data"),
            *("--auth-root-authentication-method=normal", "--skip-test-db"),
        ]
        _run([*_as_nobody(), *made], self.directory)
        (self.directory / "first.sql").write_text(
            f"CREATE USER IF NOT EXISTS {_USER}@'%' IDENTIFIED BY '{_PASSWORD}';\n"
            f"GRANT ALL ON *.* TO {_USER}@'%';\n"
        )

    def command(self) -> list[str]:
        return [
            *(_program("mariadbd"), "--no-defaults", f"--datadir={self.directory}/data"),
            *(f"--socket={self.directory}/socket", f"--pid-file={self.directory}/pid"),
            *(f"--bind-address={self.host}", f"--port={self.port}", "--skip-name-resolve"),
            *("--innodb-flush-log-at-trx-commit=2", f"--init-file={self.directory}/first.sql"),
        ]


class PostgreSQL(Server):
    """PostgreSQL."""

    dialect, first, ends_on = "postgresql+psycopg", "postgres", signal.SIGINT

    def prepare(self) -> None:
        secret = self.directory / "secret"
        secret.write_text(_PASSWORD)
        made = [
            *(str(Path(_postgres()).parent / "initdb"), "-D", f"{self.directory}/data"),
            *("-U", _USER, f"--pwfile={secret}", "--auth=scram-sha-256", "-E", "UTF8"),
            *("--locale=C.UTF-8", "--no-sync"),
        ]
        _run([*_as_nobody(), *made], self.directory)
        with open(self.directory / "data" / "pg_hba.conf", "a", encoding="ascii") as file:
            file.write("host all all 0.0.0.0/0 scram-sha-256\n")

    def command(self) -> list[str]:
        settings = {
            "listen_addresses": self.host,
            "port": self.port,
            "unix_socket_directories": self.directory,
            "fsync": "off",
        }
        words = [f"-c{key}={value}" for key, value in settings.items()]
        return [_postgres(), "-D", f"{self.directory}/data", *words]


KINDS = {"mariadb": MariaDB, "postgresql": PostgreSQL}


@contextlib.contextmanager
def running(kind: str, host: str = "127.0.0.1", words: Sequence[str] = ()) -> Iterator[Server]:
    """Run a server as long as the context lasts.

    :param kind: a key of :data:`KINDS`.
    :param host: the address on which it listens.
    :param words: as :class:`Server` has them.
    """
    # Not below pytest's directory, which lets nobody else in.
    directory = Path(tempfile.mkdtemp(prefix=f"cstest-{kind}-", dir="/var/tmp"))
    try:
        if os.geteuid() == 0:
            os.chown(directory, _NOBODY, _NOBODY)
        server = KINDS[kind](directory, host, words)
        try:
            server.start()
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(directory)


def _as_nobody() -> list[str]:
    if os.geteuid() != 0:
        return []
    return ["setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups"]


def _run(argv: Sequence[str], directory: Path) -> None:
    result = subprocess.run(argv, cwd=directory, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(f"{argv} failed: {result.stdout[-1500:]} {result.stderr[-1500:]}")


def _program(name: str) -> str:
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if not found:
        raise RuntimeError(f"Install {name}.")
    return found


def _postgres() -> str:
    found = sorted(Path("/").glob(_POSTGRESQL.lstrip("/")))
    if not found:
        raise RuntimeError("Install postgresql.")
    return str(found[-1])


def _children(pid: int) -> list[int]:
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
            if int(fields[1]) == pid:
                found.append(int(name))
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
