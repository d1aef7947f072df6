# SPDX-License-Identifier: Apache-2.0
"""A daemon's REST interface over directories, and a client of it."""

import contextlib
import dataclasses
import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from container_stack.drivers.osd import rest
from container_stack.rootwrap import executor
from container_stack.testing import memory_volumes
from container_stack.volumes import backend, ownership, registry, service, sql

NODE = "node-a"


@dataclasses.dataclass
class World:
    """What a daemon has.

    :param keepers: the backends, by their drivers' names.
    """

    state_dir: Path
    registry: registry.Registry
    owner: ownership.Ownership
    keepers: Mapping[str, backend.Backend]
    services: dict[str, service.VolumeService]
    rest: rest.Rest

    def driver(self, name: str) -> "Client":
        """Return a client of a driver's socket."""
        return Client(unix(rest.driver_socket(str(self.state_dir), name)))

    def cluster(self) -> "Client":
        """Return a client of the cluster's socket."""
        return Client(unix(rest.cluster_socket(str(self.state_dir))))


class Client:
    """Speaks HTTP by one connection.

    :param base: put before each path.
    """

    def __init__(
        self,
        connection: http.client.HTTPConnection,
        base: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.connection = connection
        self._base = base
        self._headers = dict(headers or {})

    def raw(self, method: str, path: str, body: bytes | None = None) -> tuple[int, str, bytes]:
        """Return an answer's status, type and bytes."""
        try:
            self.connection.request(method, self._base + path, body, self._headers)
            answer = self.connection.getresponse()
            return answer.status, answer.getheader("Content-Type") or "", answer.read()
        except BaseException:
            self.connection.close()
            raise

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """Return what an answer says: what its JSON holds, or its text; its status must be 200."""
        status, answer = self.status(method, path, body)
        assert status == 200, (status, answer)
        return answer

    def status(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """Return an answer's status, and what it says."""
        sent = None if body is None else json.dumps(body).encode()
        status, _, got = self.raw(method, path, sent)
        try:
            return status, json.loads(got)
        except ValueError:
            return status, got.decode()

    def create(self, name: str, **spec: Any) -> str:
        """Make a volume in the seed's words, and return its id."""
        made = self.ask(
            "POST", "/v1/volumes", {"locator": {"Name": name}, "spec": {"Size": 2**20, **spec}}
        )
        assert made["error"] == "", made
        return str(made["id"])


class _Unix(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def unix(path: str) -> http.client.HTTPConnection:
    """Return a connection to a unix socket."""
    return _Unix(path)


def tls(port: int, authority: str) -> http.client.HTTPConnection:
    """Return a connection to a TCP port of this host, which has to prove who it is."""
    context = ssl.create_default_context(cafile=authority)
    return http.client.HTTPSConnection("127.0.0.1", port, timeout=60, context=context)


@contextlib.contextmanager
def world(
    state_dir: Path,
    keepers: Mapping[str, type[memory_volumes.MemoryVolumes]],
    *,
    node_id: str = NODE,
    cluster_id: str = "",
    tcp: rest.Tcp | None = None,
    **named: Any,
) -> Iterator[World]:
    """Serve drivers, by the classes of their backends."""
    with contextlib.ExitStack() as undo:
        state_dir.mkdir(parents=True, exist_ok=True)
        volumes = sql.open(f"sqlite:///{state_dir / 'osd.sqlite'}")
        undo.callback(volumes.close)
        owner = ownership.Alone(volumes, node_id)
        made = {
            name: keeper(
                backend.Options(
                    name=name,
                    executor=executor.Executor(),
                    directory=str(state_dir / "backends" / name),
                )
            )
            for name, keeper in keepers.items()
        }
        services = {
            name: service.VolumeService(name, each, volumes, owner, state_dir=str(state_dir))
            for name, each in made.items()
        }
        for each in services.values():
            each.start()
        settings = rest.Settings(str(state_dir), cluster_id=cluster_id, tcp=tcp)
        served = rest.Rest(services, volumes, owner, settings, **named).start()
        undo.callback(served.stop)
        yield World(state_dir, volumes, owner, made, services, served)


def change(client: Client, volume_id: str, **what: Any) -> dict[str, Any]:
    """Ask for a change in the seed's words, and return the answer."""
    found: dict[str, Any] = client.ask("PUT", f"/v1/volumes/{volume_id}", what)
    return found


def inspect(client: Client, volume_id: str) -> dict[str, Any]:
    """Return a volume in the seed's words."""
    (found,) = client.ask("GET", f"/v1/volumes/{volume_id}")
    return dict(found)


def until(true: Any) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class hanging:  # noqa: N801 - read as a statement
    """Let a step of a backend wait until the end of the block; what waits is listed."""

    def __init__(self, world: World, driver: str, step: str) -> None:
        self._keeper: Any = world.keepers[driver]
        self._step = step
        self._end = threading.Event()
        self._hung: list[str] = []

    def __enter__(self) -> list[str]:
        def hook(step: str, volume_id: str) -> None:
            if step == self._step:
                self._hung.append(volume_id)
                self._end.wait(60)

        self._keeper.hook = hook
        return self._hung

    def __exit__(self, *_what: object) -> None:
        self._end.set()
