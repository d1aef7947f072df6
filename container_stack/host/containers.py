# SPDX-License-Identifier: Apache-2.0
"""Containers, and the networks and volumes they use, through the Docker Engine's own API.

No privilege of this process is used: whoever may open the engine's socket is as good as root.
"""

import builtins
import contextlib
import ipaddress
import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from container_stack import exceptions
from container_stack.host import (
    engine_client,
    engine_events,
    engine_exec,
    engine_json,
    engine_talk,
)
from container_stack.host.engine_model import TLS as TLS
from container_stack.host.engine_model import Container as Container
from container_stack.host.engine_model import ContainerSpec as ContainerSpec
from container_stack.host.engine_model import Event as Event
from container_stack.host.engine_model import ExecResult as ExecResult
from container_stack.host.engine_model import Mount as Mount
from container_stack.host.engine_model import Network as Network
from container_stack.host.engine_model import Subnet as Subnet
from container_stack.host.engine_model import Volume as Volume

LOG = logging.getLogger(__name__)

DEFAULT_URL = "unix:///var/run/docker.sock"
#: Seconds that a removal which somebody else began may take.
REMOVAL = 10.0

Labels = Mapping[str, str | None]


class Engine:
    """One Docker Engine. Containers are named by id or by name, everywhere.

    Nothing is contacted before the first call. Threads may share an engine, and so may a
    process and the children it forks. Every method may raise :class:`EngineUnavailable`.

    :param url: unix:///path, ssh://user@host:port, by the system's own ssh, or tcp://host:port,
        which without ``tls`` hands root to everybody.
    :param timeout: seconds that the engine may keep silent in one call.
    """

    def __init__(
        self, url: str = DEFAULT_URL, *, tls: TLS | None = None, timeout: float = 60.0
    ) -> None:
        self._connection = engine_client.Connection(url, tls, timeout)

    @property
    def connection(self) -> engine_client.Connection:
        """What :mod:`container_stack.host.images` shares with this."""
        return self._connection

    def close(self) -> None:
        """Close idle connections; the engine stays usable."""
        self._connection.close()

    def version(self) -> Mapping[str, Any]:
        """Return the engine's versions, as {"Version": "20.10.24", "ApiVersion": "1.41", ...}."""
        with self._connection.use() as client:
            versions: Mapping[str, Any] = client.version()
            return versions

    def info(self) -> Mapping[str, Any]:
        """Return what the engine tells of itself, as {"Driver": "overlay2", ...}."""
        with self._connection.use() as client:
            told: Mapping[str, Any] = client.info()
            return told

    # Containers

    def create(self, spec: ContainerSpec) -> str:
        """Make a container, without starting it, and return its id.

        :raises NotFound: the image is missing; the text names it.
        :raises AlreadyExists: the name is taken.
        :raises InvalidRequest: the engine refuses the spec, as a bind of a missing directory.
        """
        try:
            with self._connection.use() as client:
                config = engine_json.container_config(spec, client.api)
                created = client.create_container_from_config(config, spec.name)
        except exceptions.NotFound as exc:
            raise exceptions.NotFound(
                f"Container {spec.name} needs image {spec.image}: {exc}"
            ) from exc
        container_id: str = created["Id"]
        LOG.info("Created container %(name)s", {"name": spec.name})
        return container_id

    @contextlib.contextmanager
    def creating(self, spec: ContainerSpec) -> Iterator[str]:
        """Create a container and lend its id; it goes again if the body fails, as in starting it.

        It is not started here, so that files can be put into it first.
        """
        container_id = self.create(spec)
        try:
            yield container_id
        except BaseException:
            self.remove(container_id)
            raise

    def run(self, spec: ContainerSpec) -> str:
        """Create and start a container and return its id; if the start fails, nothing remains."""
        with self.creating(spec) as container_id:
            self.start(container_id)
        return container_id

    def start(self, container: str) -> None:
        """Start it; idempotent.

        :raises Busy: a fixed address is taken.
        """
        with self._connection.use() as client:
            client.start(container)

    def stop(self, container: str, timeout: int = 10) -> None:
        """End it by its stop signal and after so many seconds by SIGKILL; idempotent."""
        with self._connection.use(timeout + 30.0) as client:
            client.stop(container, timeout=timeout)

    def kill(self, container: str, signal: str = "KILL") -> None:
        """Send a signal to its process 1.

        :raises Busy: it doesn't run.
        """
        with self._connection.use() as client:
            client.kill(container, signal)

    def remove(self, container: str, *, force: bool = True, volumes: bool = True) -> None:
        """Remove it and return when it is gone; idempotent.

        :param force: kill it if it runs.
        :param volumes: its anonymous volumes too; named volumes always stay.
        :raises Busy: it runs, and force isn't given.
        """
        try:
            with contextlib.suppress(exceptions.NotFound), self._connection.use() as client:
                client.remove_container(container, v=volumes, force=force)
                LOG.info("Removed container %(name)s", {"name": container})
        except exceptions.Busy as exc:
            if "already in progress" not in str(exc):
                raise
            self._await_removal(container)

    def _await_removal(self, container: str) -> None:
        deadline = time.monotonic() + REMOVAL
        while time.monotonic() < deadline:
            try:
                self.inspect(container)
            except exceptions.NotFound:
                return
            time.sleep(0.05)
        raise exceptions.Busy(f"Container {container} is being removed by somebody else.")

    def rename(self, container: str, name: str) -> None:
        """Give it another name, in one step.

        :raises AlreadyExists: another container has the name.
        """
        with self._connection.use() as client:
            client.rename(container, name)

    def inspect(self, container: str) -> Container:
        """Return what it is now."""
        with self._connection.use() as client:
            return engine_json.inspected_container(client.inspect_container(container))

    def list(self, labels: Labels | None = None) -> builtins.list[Container]:
        """Return all containers with these labels, running or not, by one HTTP call.

        :param labels: a value of None admits any.
        """
        with self._connection.use() as client:
            found = client.containers(all=True, filters=engine_json.label_filter(labels or {}))
            return [engine_json.listed_container(each) for each in found]

    def processes(
        self, container: str, columns: str = "pid,args", *, environment: bool = False
    ) -> builtins.list[str]:
        """Return its processes, one line each, as ``ps`` on the engine's host sees them.

        What they call themselves is theirs to choose.

        :param columns: of ps, PID among them.
        :param environment: behind the arguments of each.
        :raises Busy: it doesn't run.
        """
        options = "axeww" if environment else "axww"
        with self._connection.use() as client:
            found = client.top(container, f"{options} -o {columns}")["Processes"]
            return [" ".join(each) for each in found or ()]

    def exec(
        self,
        container: str,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        timeout: float = 30.0,
        environment: Mapping[str, str] | None = None,
        user: str | None = None,
    ) -> ExecResult:
        """Run a command in a running container and return its exit code and output.

        A failing command raises nothing: look at the exit code.

        :param argv: visible to all processes of the container: give secrets by ``stdin``.
        :param timeout: seconds for everything. Then the command and its children are killed, for
            which the container needs busybox.
        :param user: None is the container's.
        :raises CommandFailed: it overran (``timed_out``), or its container went away.
        :raises Busy: the container doesn't run.
        """
        return engine_exec.run(
            self._connection,
            container,
            argv,
            stdin=stdin,
            timeout=timeout,
            environment=environment or {},
            user=user,
        )

    def talk(
        self, container: str, argv: Sequence[str], *, user: str | None = None
    ) -> contextlib.AbstractContextManager[engine_talk.Conversation]:
        """Run a command in a running container that answers each line with one.

        It must end with its input, for nothing else ends it but the container.

        :raises Busy: the container doesn't run.
        """
        return engine_talk.open_(self._connection, container, argv, user)

    def logs(self, container: str, tail: int | None = None) -> bytes:
        """Return what it wrote to stdout and stderr, or the last ``tail`` lines of that."""
        with self._connection.use() as client:
            written: bytes = client.logs(container, tail="all" if tail is None else tail)
            return written

    def put_archive(self, container: str, path: str, tar: bytes) -> None:
        """Unpack a tar archive in a directory of the container, which needn't run.

        :raises NotFound: the container or the directory is missing.
        :raises InvalidRequest: its root is read-only and ``path`` is on no writable mount.
        """
        with self._connection.use() as client:
            client.put_archive(container, path, tar)

    def get_archive(self, container: str, path: str) -> Iterator[bytes]:
        """Yield a tar archive of a file or directory of the container.

        :raises NotFound: the container or the path is missing.
        """
        with self._connection.use() as client:
            chunks, _ = client.get_archive(container, path)
            yield from chunks

    def events(
        self, labels: Labels | None = None, since: float | None = None
    ) -> engine_events.Events:
        """Return what happens to containers with these labels, from now on.

        :param since: seconds since 1970: what happened from then on comes first. An event at
            that very time comes again.
        """
        filters = {**engine_json.label_filter(labels or {}), "type": ["container"]}
        # Rounded down, so that nothing is lost.
        start = None if since is None else f"{math.floor(since * 1e6) / 1e6:.6f}"
        with self._connection.use() as client:
            return engine_events.Events(
                self._connection.url, client.events(start, None, filters, decode=True)
            )

    # Volumes

    def create_volume(self, name: str, labels: Mapping[str, str] | None = None) -> Volume:
        """Make a volume and return it; idempotent: one that exists keeps its own labels."""
        with self._connection.use() as client:
            made = client.create_volume(name, labels=dict(labels or {}))
            return Volume(made["Name"], made["Labels"] or {})

    def remove_volume(self, name: str) -> None:
        """Remove a volume with all it holds; idempotent.

        :raises Busy: a container uses it, running or not.
        """
        with contextlib.suppress(exceptions.NotFound), self._connection.use() as client:
            client.remove_volume(name)

    def list_volumes(self, labels: Labels | None = None) -> builtins.list[Volume]:
        """Return the volumes with these labels; a value of None admits any."""
        with self._connection.use() as client:
            found = client.volumes(filters=engine_json.label_filter(labels or {}))["Volumes"]
            return [Volume(each["Name"], each["Labels"] or {}) for each in found or ()]

    # Networks

    def create_network(
        self,
        name: str,
        subnets: Sequence[Subnet],
        *,
        mtu: int | None = None,
        bridge: str | None = None,
        labels: Mapping[str, str] | None = None,
        internal: bool = False,
    ) -> str:
        """Make a network over a Linux bridge and return its id.

        :param subnets: at most one IPv4 and one IPv6; needed, because an engine left to itself
            runs out of subnets at some thirty networks.
        :param bridge: the name that the Linux bridge gets.
        :param internal: no way out of the host.
        :raises AlreadyExists: the name is taken.
        :raises Busy: another network has overlapping subnets, or the bridge's name.
        """
        if not subnets:
            raise exceptions.InvalidRequest(f"Network {name} needs a subnet; name one.")
        for subnet in subnets:
            _check_cidr(subnet.cidr)
        config = engine_json.network_config(
            name, subnets, mtu=mtu, bridge=bridge, labels=labels or {}, internal=internal
        )
        with self._connection.use() as client:
            network_id: str = client.create_network(**config)["Id"]
        LOG.info("Created network %(name)s", {"name": name})
        return network_id

    def remove_network(self, name: str) -> None:
        """Remove a network; idempotent.

        :raises Busy: a running container is on it.
        """
        with contextlib.suppress(exceptions.NotFound), self._connection.use() as client:
            client.remove_network(name)
            LOG.info("Removed network %(name)s", {"name": name})

    def inspect_network(self, name: str) -> Network:
        """Return a network, by name or id."""
        with self._connection.use() as client:
            return engine_json.network(client.inspect_network(name))

    def list_networks(self, labels: Labels | None = None) -> builtins.list[Network]:
        """Return the networks with these labels; a value of None admits any."""
        with self._connection.use() as client:
            found = client.networks(filters=engine_json.label_filter(labels or {}))
            return [engine_json.network(each) for each in found]

    def connect(
        self,
        network: str,
        container: str,
        *,
        address4: str | None = None,
        address6: str | None = None,
    ) -> None:
        """Connect a container, running or not, to one more network.

        :raises AlreadyExists: it is on the network.
        :raises Busy: the address is taken.
        """
        with self._connection.use() as client:
            client.connect_container_to_network(
                container, network, ipv4_address=address4, ipv6_address=address6
            )

    def disconnect(self, network: str, container: str) -> None:
        """Take a container off a network; idempotent."""
        try:
            with contextlib.suppress(exceptions.NotFound), self._connection.use() as client:
                client.disconnect_container_from_network(container, network, force=True)
        except exceptions.ContainerStackError as exc:
            if "is not connected to" not in str(exc):
                raise


def _check_cidr(cidr: str) -> None:
    try:
        ipaddress.ip_network(cidr)
    except ValueError as exc:
        raise exceptions.InvalidRequest(f"{cidr!r} is no subnet: {exc}.") from exc
