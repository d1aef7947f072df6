# SPDX-License-Identifier: Apache-2.0
"""Connections to a Docker Engine on another host by the system's own ssh.

Its keys, agent, known hosts and configuration are used, and nothing is ever asked. The host's
user must be able to run ``docker system dial-stdio``. The SDK has the like, but starts an ssh for
each request, and waits for ever for a host that keeps silent.
"""

import contextlib
import dataclasses
import math
import re
import shutil
import socket
import subprocess
import tempfile
import urllib.parse
from typing import IO, Any, Self

import docker.transport
import urllib3.connection
import urllib3.connectionpool

from container_stack import exceptions

#: Seconds after which ssh itself gives up a host that has gone silent: interval times count.
ALIVE = ("-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=4")
COMMAND = ("docker", "system", "dial-stdio")
#: Seconds that ssh may take to end when the other side has closed.
GRACE = 2.0

_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_HOST = re.compile(r"[A-Za-z0-9_:][A-Za-z0-9_.:%-]*")

#: Those that may still run; each ends when its connection is closed.
_processes: "list[subprocess.Popen[bytes]]" = []


@dataclasses.dataclass(frozen=True, slots=True)
class Host:
    """Where ssh goes.

    :param user: None is the one that ssh's configuration says, and so for ``port``.
    """

    name: str
    user: str | None
    port: int | None

    @classmethod
    def of(cls, url: str) -> Self:
        """Return the host of ssh://[user@]host[:port].

        :raises InvalidRequest: it is no such URL.
        """
        with contextlib.suppress(ValueError):
            parts = urllib.parse.urlsplit(url)
            rest = parts.path.strip("/") or parts.query or parts.fragment or parts.password
            user, host, port = parts.username, parts.hostname or "", parts.port
            named = _HOST.fullmatch(host) and (user is None or _USER.fullmatch(user))
            if parts.scheme == "ssh" and named and not rest:
                return cls(host, user, port)
        raise exceptions.InvalidRequest(
            f"{url!r} is no Docker Engine; give ssh://user@host:port, and keys to ssh itself."
        )

    def argv(self, timeout: float) -> list[str]:
        """Return the command that connects to the engine there."""
        return [
            *("ssh", "-T", "-o", "BatchMode=yes", *ALIVE),
            *("-o", f"ConnectTimeout={max(1, math.ceil(timeout))}"),
            *(("-l", self.user) if self.user else ()),
            *(("-p", str(self.port)) if self.port else ()),
            *("--", self.name, *COMMAND),
        ]


class Socket(socket.socket):
    """A socket with an ssh at its other end.

    When that closes before it has sent anything, what ssh complained of is raised.
    """

    _process: "subprocess.Popen[bytes]"
    _complaints: IO[bytes]
    _heard = False

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        """Receive bytes, as any socket does."""
        data = b""
        # An ssh that ends leaves unread what it was sent.
        with contextlib.suppress(ConnectionResetError):
            data = super().recv(size, flags)
        self._check(len(data))
        return data

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0, /) -> int:
        """Receive bytes into a buffer, as any socket does."""
        count = 0
        with contextlib.suppress(ConnectionResetError):
            count = super().recv_into(buffer, nbytes, flags)
        self._check(count)
        return count

    def _check(self, received: int) -> None:
        if not received and not self._heard:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(GRACE)
            raise ConnectionResetError(f"ssh says: {self._complaint()}")
        self._heard = True

    def _complaint(self) -> str:
        self._complaints.seek(0)
        lines = self._complaints.read(65536).decode(errors="replace").splitlines()
        return next((line.strip() for line in reversed(lines) if line.strip()), "nothing")[:300]


def dial(url: str, timeout: float | None) -> Socket:
    """Return a connection to the engine; whether it works shows when it is used.

    :param timeout: seconds for each wait.
    :raises OSError: there is no ssh here.
    """
    _reap()
    if shutil.which("ssh") is None:
        # A missing file would be taken for a missing socket.
        raise OSError("there is no ssh on this host: install openssh-client")
    argv = Host.of(url).argv(timeout or 60.0)
    ours, theirs = socket.socketpair()
    sock = Socket(fileno=ours.detach())
    with theirs, contextlib.ExitStack() as undo:
        undo.enter_context(sock)
        sock._complaints = tempfile.TemporaryFile()  # noqa: SIM115
        line = theirs.fileno()
        # In a session of its own, so that Ctrl-C is for us alone.
        sock._process = subprocess.Popen(
            argv, stdin=line, stdout=line, stderr=sock._complaints, start_new_session=True
        )
        _processes.append(sock._process)
        sock.settimeout(timeout)
        undo.pop_all()
    return sock


class Adapter(docker.transport.UnixHTTPAdapter):
    """Gives the SDK's requests connections of ours, and keeps up to ``size`` for reuse."""

    def __init__(self, url: str, size: int) -> None:
        super().__init__("http+unix:///", max_pool_size=size)
        self._url = url
        self._size = size

    def get_connection(self, url: Any, proxies: Any = None) -> Any:
        with self.pools.lock:
            if self._url not in self.pools:
                self.pools[self._url] = _Pool(self._url, self._size)
            return self.pools[self._url]


class _Pool(urllib3.connectionpool.HTTPConnectionPool):
    def __init__(self, url: str, size: int) -> None:
        super().__init__("localhost", maxsize=size)
        self._url = url

    def _new_conn(self) -> Any:
        return _Connection(self._url)


class _Connection(urllib3.connection.HTTPConnection):
    def __init__(self, url: str) -> None:
        super().__init__("localhost")
        self._url = url

    def connect(self) -> None:
        timeout: Any = self.timeout
        self.sock = dial(self._url, timeout)


def _reap() -> None:
    """Forget those that have ended, which lets the kernel forget them too."""
    for process in list(_processes):
        if process.poll() is not None:
            with contextlib.suppress(ValueError):
                _processes.remove(process)
