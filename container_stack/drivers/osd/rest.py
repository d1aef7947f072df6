# SPDX-License-Identifier: Apache-2.0
"""All of the interface: a socket for each driver, one for the cluster, and TCP where it is wanted.

Below a state directory: ``driver/<driver>.sock`` and ``cluster/osd.sock``. Over TCP the same stands
at ``https://host:port/driver/<driver>/v1/…`` and ``https://host:port/cluster/v1/…``.
"""

import contextlib
import dataclasses
import os
import socket
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self

from container_stack.drivers.osd import api, cluster, drivers, figures, pages, servers, tls
from container_stack.volumes import ownership, registry, service

#: Of a path that reads, which reads from devices or servers all the same.
_SLOW = ("/usage/", "/usedsize/", "/stats/", "/metrics", "/activity")
#: The socket behind TLS: the daemon's own, for nobody else.
_INNER_MODE = 0o600


@dataclasses.dataclass(frozen=True, slots=True)
class Tcp:
    """How to be reached over TCP: with TLS and a token, or not at all.

    :param certificate: path of a PEM file with its chain; ``key`` of its private key.
    :param token: that clients bring as ``Authorization: Bearer TOKEN``.
    :param readable: show without it what the web page shows.
    """

    host: str
    port: int
    certificate: str
    key: str
    token: str = dataclasses.field(repr=False)
    readable: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """Where and to whom.

    :param group: whom the sockets belong to; "" leaves that to the process.
    :param threads: of each socket for what is quick; ``slow_threads`` for what waits for devices.
    :param cluster_id: "" where this host stands alone.
    """

    state_dir: str
    group: str = ""
    threads: int = 4
    slow_threads: int = 8
    cluster_id: str = ""
    tcp: Tcp | None = None


class Rest:
    """The interface of one daemon.

    :param services: by the drivers' names.
    :param backends: what each driver's backend is called, where that isn't its own name.
    :param add: makes one more driver, and calls :meth:`serve`.
    :param more: falcon resources that the cluster's socket serves, too, by path: /metrics.
    :param inherited: sockets that listen already, by path, as systemd hands them over.
    """

    def __init__(
        self,
        services: Mapping[str, service.VolumeService],
        remembered: registry.Registry,
        owner: ownership.Ownership,
        settings: Settings,
        *,
        backends: Mapping[str, str] | None = None,
        add: drivers.Add | None = None,
        more: Mapping[str, object] | None = None,
        inherited: Mapping[str, socket.socket] | None = None,
    ) -> None:
        self._settings = settings
        self._inherited = inherited or {}
        self._nodes = cluster.Cluster(settings.cluster_id, remembered, owner)
        known = drivers.Drivers(services, backends or {}, add)
        #: Applications by the path below which TCP serves them.
        self.applications: dict[str, servers.Application] = {
            f"/driver/{name}": api.driver(each, remembered, self._nodes)
            for name, each in services.items()
        }
        shown = {**pages.routes(), **figures.routes(services, self._nodes)}
        self.applications["/cluster"] = api.nodes(self._nodes, known, {**shown, **(more or {})})
        self._undo = contextlib.ExitStack()
        self._front: tls.Front | None = None

    @property
    def port(self) -> int:
        """The TCP port; 0 while there is none."""
        return self._front.port if self._front else 0

    def start(self) -> Self:
        """Serve, in threads.

        :raises HostNotReady: a socket, the port or the certificate can't be used; nothing serves.
        """
        with contextlib.ExitStack() as undo:
            for name, application in self.applications.items():
                undo.callback(self._server(application, self._path(name)).start().stop)
            if self._settings.tcp:
                self._serve_tcp(self._settings.tcp, undo)
            self._undo = undo.pop_all()
        return self

    def serve(self, of: service.VolumeService) -> None:
        """Serve one more driver until the stop.

        :raises HostNotReady: its socket can't be made.
        """
        name = f"/driver/{of.driver}"
        application = api.driver(of, self._nodes.registry, self._nodes)
        self._undo.callback(self._server(application, self._path(name)).start().stop)
        self.applications[name] = application

    def stop(self) -> None:
        """Finish what was asked for, for some seconds, and serve no more; idempotent."""
        self._undo.close()
        self._front = None

    def _path(self, name: str) -> str:
        if name == "/cluster":
            return cluster_socket(self._settings.state_dir)
        return driver_socket(self._settings.state_dir, name.removeprefix("/driver/"))

    def _server(self, application: servers.Application, path: str) -> servers.Server:
        return servers.Server(
            Local(application),
            path,
            group=self._settings.group,
            threads=self._settings.threads,
            slow_threads=self._settings.slow_threads,
            is_slow=is_slow,
            is_instant=self._is_instant,
            inherited=self._inherited.get(path),
        )

    def _is_instant(self, method: str, path: str) -> bool:
        """Tell whether a request takes one row of a file."""
        return self._nodes.registry.local and method == "GET" and api.is_of_one_volume(path)

    def _serve_tcp(self, tcp: Tcp, undo: contextlib.ExitStack) -> None:
        inner = servers.Server(
            tls.Guard(
                Below(self.applications),
                tcp.token,
                pages.is_readable if tcp.readable else pages.is_public,
            ),
            os.path.join(self._settings.state_dir, "cluster", "tls.sock"),
            mode=_INNER_MODE,
            threads=self._settings.threads,
            slow_threads=self._settings.slow_threads,
            is_slow=is_slow,
        )
        undo.callback(inner.start().stop)
        front = tls.Front(inner.path, tcp.host, tcp.port, tcp.certificate, tcp.key)
        undo.callback(front.start().stop)
        self._front = front


class Local:
    """A WSGI application that a browser may only read.

    Who tunnels a socket to his browser would let every site that he visits send requests there,
    without a token. Browsers say of all that change something where it comes from.
    """

    def __init__(self, application: servers.Application) -> None:
        self._application = application

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        """Answer as WSGI wants it."""
        if "HTTP_ORIGIN" not in environ:
            return self._application(environ, start)
        text = b"Browsers may only read here.\n"
        start("403 Forbidden", [("Content-Type", "text/plain; charset=utf-8")])
        return [text]


class Below:
    """Several WSGI applications, each below a path of its own; / leads to the web page."""

    def __init__(self, applications: Mapping[str, servers.Application]) -> None:
        self._applications = applications

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        """Answer as WSGI wants it."""
        path = environ["PATH_INFO"]
        if path == "/":
            start("302 Found", [("Location", "/cluster/"), ("Content-Length", "0")])
            return []
        for base, application in list(self._applications.items()):
            if path.startswith(base + "/"):
                environ["SCRIPT_NAME"] = environ.get("SCRIPT_NAME", "") + base
                environ["PATH_INFO"] = path[len(base) :]
                return application(environ, start)
        text = b"404 page not found\n"
        start("404 Not Found", [("Content-Type", "text/plain; charset=utf-8")])
        return [text]


def driver_socket(state_dir: str, driver: str) -> str:
    """Return the path of a driver's socket."""
    return os.path.join(state_dir, "driver", f"{driver}.sock")


def cluster_socket(state_dir: str) -> str:
    """Return the path of the cluster's socket."""
    return os.path.join(state_dir, "cluster", "osd.sock")


def is_slow(method: str, path: str) -> bool:
    """Tell whether a request waits for devices or servers: it gets threads of its own kind."""
    return servers.changes(method, path) or any(part in path for part in _SLOW)
