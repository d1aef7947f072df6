# SPDX-License-Identifier: Apache-2.0
"""The daemon, put together from its configuration; everything decided is decided elsewhere."""

import concurrent.futures
import contextlib
import difflib
import logging
import os
import socket
import threading
from collections.abc import Mapping
from typing import Any

from container_stack import exceptions, plugins
from container_stack.cmd.osd import housekeeping, state, unready
from container_stack.conf import osd as conf
from container_stack.drivers import docker_uses, docker_volume
from container_stack.drivers.osd import metrics, rest
from container_stack.host import containers, propagation
from container_stack.rootwrap import executor
from container_stack.volumes import backend, ownership, registry, service, sql

LOG = logging.getLogger(__name__)


class Daemon:
    """All drivers of this host, with their REST sockets and their sockets for Docker.

    A driver that isn't ready is tried again and again, and hinders no other.

    :param inherited: listening sockets that a service manager made, by path.
    """

    def __init__(
        self, settings: conf.Settings, inherited: Mapping[str, socket.socket] | None = None
    ) -> None:
        self.settings = settings
        self.state_dir = os.path.realpath(settings.state_dir)
        self._inherited = inherited or {}
        self._lock = threading.RLock()
        self._undo = contextlib.ExitStack()
        #: All drivers' services, and those that are served.
        self._services: dict[str, service.VolumeService] = {}
        self._ready: dict[str, service.VolumeService] = {}
        self._unready: dict[str, unready.Unready] = {}
        self._backends: dict[str, str] = {}
        self._plugins: list[docker_volume.DockerVolumes] = []
        self._engine = containers.Engine(settings.docker_url)

    def start(self) -> None:
        """Serve, in threads.

        :raises InvalidRequest: the configuration can't be meant.
        :raises HostNotReady: what the operator has to do first.
        :raises Busy: another daemon has the state directory.
        """
        with contextlib.ExitStack() as undo:
            self._prepare(undo)
            for driver in self.settings.drivers:
                self._services[driver.name] = self._service(driver)
            self._owner.start(self._fence)
            undo.callback(self._leave)
            failed = self._start_services()
            undo.callback(self._stop_services)
            self._rest = self._serve(undo)
            undo.callback(self._stop_waiting)
            for name, exc in failed.items():
                self._wait_for(name, exc)
            for each in list(self._ready.values()):
                self._plug(each, undo)
            self._reconcile(undo)
            keeper = housekeeping.Housekeeping(
                self.settings, self._registry, self._ready, self._retry
            )
            keeper.start()
            undo.callback(keeper.stop)
            self._undo = undo.pop_all()

    def stop(self) -> None:
        """Finish what was asked for, for some seconds, and end; what is mounted stays so."""
        self._undo.close()

    def add(self, name: str, options: Mapping[str, str]) -> None:
        """Have one more driver, until the stop.

        :raises InvalidRequest: it can't be meant.
        :raises AlreadyExists: there is one of the name.
        :raises HostNotReady: what the operator has to do first.
        """
        driver = conf.driver(name, options)
        with self._lock:
            if name in self._services:
                raise exceptions.AlreadyExists(f"There is a driver {name} already.")
            made = self._service(driver)
            self._services[name] = made
            try:
                made.start()
            except BaseException:
                del self._services[name]
                raise
            self._begin(made)

    # Parts ----------------------------------------------------------------------------------

    def _prepare(self, undo: contextlib.ExitStack) -> None:
        """Take the state directory, and open what all drivers share."""
        if not self.settings.drivers:
            raise exceptions.InvalidRequest("The configuration names no drivers.")
        state.make(self.state_dir)
        undo.callback(os.close, state.only(os.path.join(self.state_dir, "daemon.lock")))
        if self.settings.plugins:
            mounts = os.path.join(self.state_dir, "mounts")
            propagation.check(mounts, propagation.engine_pid(self.settings.docker_url))
        helper = self.settings.root_helper
        self._executor = executor.Executor(helper, state_dir=self.state_dir)
        undo.callback(self._executor.close)
        self._registry: registry.Registry = sql.open(self.settings.registry, wait=False)
        undo.callback(self._registry.close)
        self._owner = self._ownership()

    def _ownership(self) -> ownership.Ownership:
        cluster = self.settings.cluster
        if cluster is None:
            return ownership.Alone(self._registry, self.settings.node_id)
        # Imported late: it brings much that a host alone doesn't need.
        from container_stack.volumes.cluster import opening

        place = opening.Place(
            cluster.nodeid,
            self.state_dir,
            helper=self.settings.root_helper,
            engine_url=self.settings.docker_url if self.settings.plugins else "",
            cluster_id=cluster.clusterid,
            management_ip=cluster.management_ip,
            data_ip=cluster.data_ip,
        )
        url = cluster.coordination or f"file://{self.state_dir}/locks/cluster"
        return opening.open_(url, self._registry, place, lease=cluster.lease)

    def _service(self, driver: conf.Driver) -> service.VolumeService:
        made = load(driver.backend)
        known = getattr(made, "SETTINGS", None)
        if known is not None:
            conf.check_known(f"drivers: {driver.name}", driver.settings, known)
        options = backend.Options(
            name=driver.name,
            executor=self._executor,
            directory=os.path.join(self.state_dir, "backends", driver.name),
            settings=driver.settings,
            node_id=self.settings.node_id,
        )
        self._backends[driver.name] = driver.backend
        return service.VolumeService(
            driver.name, made(options), self._registry, self._owner, state_dir=self.state_dir
        )

    def _start_services(self) -> dict[str, exceptions.ContainerStackError]:
        """Start all drivers, side by side; return what those say that aren't ready.

        :raises ContainerStackError: none is.
        """
        failed: dict[str, exceptions.ContainerStackError] = {}
        with concurrent.futures.ThreadPoolExecutor(len(self._services)) as pool:
            begun = {name: pool.submit(each.start) for name, each in self._services.items()}
        for name, each in begun.items():
            try:
                each.result()
                self._ready[name] = self._services[name]
            except exceptions.ContainerStackError as exc:
                failed[name] = exc
        if not self._ready:
            name, error = next(iter(failed.items()))
            raise exceptions.HostNotReady(f"Driver {name} isn't ready: {error}") from error
        return failed

    def _serve(self, undo: contextlib.ExitStack) -> rest.Rest:
        tcp = self.settings.listen
        made = rest.Rest(
            self._ready,
            self._registry,
            self._owner,
            rest.Settings(
                self.state_dir,
                group=self.settings.group,
                threads=self.settings.threads,
                slow_threads=self.settings.threads,
                cluster_id=self.settings.cluster.clusterid if self.settings.cluster else "",
                tcp=rest.Tcp(
                    tcp.address,
                    tcp.port,
                    tcp.cert,
                    tcp.key,
                    state.token(tcp.token_file),
                    tcp.readable,
                )
                if tcp
                else None,
            ),
            backends=self._backends,
            add=self.add,
            more={"/metrics": metrics.Metrics(self._ready, self._registry, self._owner)},
            inherited={path: each.dup() for path, each in self._inherited.items()},
        )
        made.start()
        undo.callback(made.stop)
        return made

    def _plug(self, made: service.VolumeService, undo: contextlib.ExitStack) -> None:
        """Let Docker have a driver."""
        if not self.settings.plugins:
            return
        path = self.settings.plugin_socket(made.driver)
        handed = self._inherited.get(path)
        plugin = docker_volume.DockerVolumes(
            made,
            path,
            os.path.join(self.state_dir, "mounts", made.driver),
            engine=self._engine,
            group=self.settings.group,
            inherited=handed.dup() if handed else None,
        )
        plugin.start()
        undo.callback(plugin.stop)
        self._plugins.append(plugin)

    def _reconcile(self, undo: contextlib.ExitStack) -> None:
        """See again and again that Docker's uses are what its containers have."""
        if self.settings.plugins:
            reconciler = docker_uses.Reconciler(self._engine, self._plugins)
            # The engine may be starting, and waiting for us: nobody waits for it here.
            threading.Thread(target=reconciler.start, name="reconcile", daemon=True).start()
            undo.callback(reconciler.stop)

    # Drivers that aren't ready --------------------------------------------------------------

    def _wait_for(self, name: str, exc: exceptions.ContainerStackError) -> None:
        LOG.error("Driver %(driver)s isn't ready: %(why)s", {"driver": name, "why": exc})
        stand_in = unready.Unready(name, str(exc))
        paths = [rest.driver_socket(self.state_dir, name)]
        if self.settings.plugins:
            paths.append(self.settings.plugin_socket(name))
        stand_in.start(paths, self.settings.group, self._inherited)
        self._unready[name] = stand_in

    def _retry(self) -> None:
        """Try those that weren't ready once more."""
        for name, stand_in in list(self._unready.items()):
            try:
                self._services[name].start()
            except exceptions.ContainerStackError as exc:
                stand_in.why = str(exc)
                continue
            with self._lock:
                stand_in.stop()
                del self._unready[name]
                self._begin(self._services[name])
            LOG.info("Driver %(driver)s is ready", {"driver": name})

    def _begin(self, made: service.VolumeService) -> None:
        self._ready[made.driver] = made
        self._rest.serve(made)
        self._plug(made, self._undo)

    # The end --------------------------------------------------------------------------------

    def _stop_waiting(self) -> None:
        for each in self._unready.values():
            each.stop()

    def _stop_services(self) -> None:
        for each in self._services.values():
            each.stop()

    def _fence(self) -> None:
        for each in list(self._services.values()):
            each.fence()

    def _leave(self) -> None:
        if any(each.uses() for each in self._services.values()):
            LOG.info("Volumes stay mounted; the next daemon finds them.")
        else:
            self._owner.stop()


def load(name: str) -> Any:
    """Return a backend's class, or what else makes one of its Options.

    :raises InvalidRequest: there is none of the name; the nearest is told.
    """
    known = plugins.names(plugins.VOLUME_BACKENDS)
    if name not in known:
        near = difflib.get_close_matches(name, known, 1, 0.5)
        there = f"did you mean {near[0]}?" if near else f"there are {', '.join(known) or 'none'}."
        raise exceptions.InvalidRequest(f"There is no backend {name[:40]!r}; {there}")
    return plugins.load(plugins.VOLUME_BACKENDS, name)
