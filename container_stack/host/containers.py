# SPDX-License-Identifier: Apache-2.0
"""Containers, and the networks and volumes they use, through the Docker Engine's own API.

No privilege of this process is used: whoever may open the engine's socket is as good as root.
"""

import builtins
import contextlib
import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from container_stack import exceptions
from container_stack.host import (
    engine_client,
    engine_config,
    engine_events,
    engine_exec,
    engine_json,
    engine_networks,
    engine_talk,
)
from container_stack.host.engine_model import TLS as TLS
from container_stack.host.engine_model import Container as Container
from container_stack.host.engine_model import ContainerSpec as ContainerSpec
from container_stack.host.engine_model import Device as Device
from container_stack.host.engine_model import Event as Event
from container_stack.host.engine_model import ExecResult as ExecResult
from container_stack.host.engine_model import Limits as Limits
from container_stack.host.engine_model import Mount as Mount
from container_stack.host.engine_model import Network as Network
from container_stack.host.engine_model import Subnet as Subnet
from container_stack.host.engine_model import Volume as Volume

LOG = logging.getLogger(__name__)

DEFAULT_URL = "unix:///var/run/docker.sock"
#: Seconds that a removal which somebody else began may take.
REMOVAL = 10.0
#: Seconds that the engine may keep silent while it stores what a container has, or is given.
COMMIT_PATIENCE = 600.0

Labels = engine_networks.Labels


class Engine(engine_networks.Surroundings):
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
                config = engine_config.container_config(spec, client.api)
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

    def restart(self, container: str, timeout: int = 10) -> None:
        """Stop it as :meth:`stop` does if it runs, and start it, in one call."""
        with self._connection.use(timeout + 60.0) as client:
            client.restart(container, timeout=timeout)

    def pause(self, container: str) -> None:
        """Let none of its processes run on; idempotent.

        :raises Busy: it doesn't run.
        """
        self._freeze("pause", container, "already paused")

    def unpause(self, container: str) -> None:
        """Let its processes run on; idempotent."""
        self._freeze("unpause", container, "is not paused")

    def _freeze(self, call: str, container: str, done: str) -> None:
        try:
            with self._connection.use() as client:
                getattr(client, call)(container)
        except exceptions.ContainerStackError as exc:
            if done not in str(exc):
                raise

    def update(self, container: str, limits: Limits) -> None:
        """Change what it may take, at once if it runs; what is None stays.

        :raises InvalidRequest: the engine, or the kernel, refuses it.
        """
        with self._connection.use() as client:
            client.update_limits(container, engine_config.limits(limits))

    def stats(self, container: str) -> Mapping[str, Any]:
        """Return what it takes just now, as the engine's API words it; little if it is stopped."""
        with self._connection.use() as client:
            taken: Mapping[str, Any] = client.stats(container, stream=False, one_shot=True)
            return taken

    def commit(
        self, container: str, *, changes: Sequence[str] = (), comment: str = "", pause: bool = True
    ) -> str:
        """Make an image, without a name, of what a container's root holds; return its id.

        Mounts aren't part of that.

        :param changes: Dockerfile lines, as for an import.
        :param pause: it stands still meanwhile, if it runs.
        """
        with self._connection.use(COMMIT_PATIENCE) as client:
            made = client.commit(
                container, message=comment, pause=pause, changes="\n".join(changes) or None
            )
        image_id: str = made["Id"]
        LOG.info("Committed container %(name)s", {"name": container})
        return image_id

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

    def layers(self, container: str) -> Mapping[str, str]:
        """Return the host's directories that a container's root is made of.

        As {"LowerDir": "/one:/two", "UpperDir": ..., "WorkDir": ...} of overlayfs; empty where the
        engine's storage has no such directories.
        """
        with self._connection.use() as client:
            told = client.inspect_container(container).get("GraphDriver") or {}
            return dict(told.get("Data") or {}) if told.get("Name") == "overlay2" else {}

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

    def put_archive(self, container: str, path: str, tar: bytes | Iterable[bytes]) -> None:
        """Unpack a tar archive in a directory of the container, which needn't run.

        :param tar: whole, or in any pieces; then it fits any memory.
        :raises NotFound: the container or the directory is missing.
        :raises InvalidRequest: its root is read-only and ``path`` is on no writable mount.
        """
        with self._connection.use(COMMIT_PATIENCE) as client:
            client.put_archive(container, path, tar)

    def get_archive(self, container: str, path: str) -> Iterator[bytes]:
        """Yield a tar archive of a file or directory of the container.

        :raises NotFound: the container or the path is missing.
        """
        yield from self._connection.chunks(lambda client: client.get_archive(container, path)[0])

    def events(
        self, labels: Labels | None = None, since: float | None = None
    ) -> engine_events.Events:
        """Return what happens to containers with these labels, from now on.

        :param since: seconds since 1970: what happened from then on comes first. An event at
            that very time comes again.
        """
        filters = {**engine_json.label_filter(labels or {}), "type": ["container"]}
        start = None if since is None else engine_json.since(since)
        with self._connection.use() as client:
            return engine_events.Events(
                self._connection.url, client.events(start, None, filters, decode=True)
            )
