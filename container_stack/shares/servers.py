# SPDX-License-Identifier: Apache-2.0
"""Share servers: one container each, with nothing in it but its own shares.

All that makes a server is in a label of its container, which the engine can't change later. A
server that got a further address has a record beside it, written before the address is given.
"""

import contextlib
import dataclasses
import logging
import os
from collections.abc import Collection, Sequence

from container_stack import exceptions
from container_stack.host import containers, locks, records
from container_stack.shares import (
    container,
    directories,
    model,
    protocol,
    protocols,
    remains,
    roster,
    security,
    wiring,
)

LOG = logging.getLogger(__name__)


class ShareServers:
    """Makes, finds and removes share servers; every method is idempotent.

    :param owner: the back end that these servers belong to; others' are never touched.
    :param tree: the directory below which each server has the directory of its mounts.
    :param changed: what servers are to be that got further addresses.
    """

    def __init__(
        self,
        engine: containers.Engine,
        wires: wiring.Wiring,
        object_locks: locks.ObjectLocks,
        settings: container.Settings,
        *,
        owner: str,
        tree: str,
        changed: records.Records,
    ) -> None:
        self._engine = engine
        self._wires = wires
        self._locks = object_locks
        self._settings = settings
        self._changed = changed
        self._roster = roster.Roster(engine, changed, owner=owner)
        self._remains = remains.Remains(engine, wires, object_locks, self._roster, changed, tree)

    def create(self, spec: model.ServerSpec, login: security.Login | None = None) -> model.Server:
        """Make a server and return it when it answers clients.

        :param login: who may have it join its directory, if it has one.
        :raises AlreadyExists: a server with this id exists and is another one.
        :raises NotFound: the image is missing; the text says how to get it.
        """
        with self._locks.hold(f"server-{spec.id}"):
            with contextlib.suppress(exceptions.NotFound):
                server = self.get(spec.id)
                if server.state in ("active", "stopped"):
                    if server.spec != spec:
                        raise exceptions.AlreadyExists(
                            f"Share server {spec.id} exists with another address or network."
                        )
                    return self._started(server)
                self._remains.remove(server.spec)
            with contextlib.ExitStack() as undo:
                undo.callback(self._remains.remove, spec)
                server = self._make(spec, login)
                undo.pop_all()
        LOG.info("Created share server %(id)s at %(ip)s", {"id": spec.id, "ip": spec.address})
        return server

    def join(self, server_id: str, interface: model.Interface) -> model.Server:
        """Give a server one more address, while its clients go on working, and return it.

        Another address that it may have had in this subnet is taken away.

        :raises NotFound: there is none with this id.
        :raises InvalidRequest: it lives in a subnet that overlaps; nothing was changed.
        :raises Busy: the address or the subnet is taken; nothing was changed.
        """
        with self._locks.hold(f"server-{server_id}"):
            server = self._started(self.get(server_id))
            if interface in server.spec.interfaces:
                return server
            spec = server.spec.joined(interface)
            with contextlib.ExitStack() as undo:
                undo.callback(self._leave, server.spec, interface, server.container_id)
                self._changed.write(server_id, {"spec": spec.to_json()})
                server = self._served(model.Server(spec, "active", server.container_id))
                undo.pop_all()
        LOG.info("Share server %(id)s is at %(ip)s", {"id": server_id, "ip": interface.address})
        return server

    def replace(self, spec: model.ServerSpec) -> model.Server:
        """Make the container of a server again, at other addresses, with its users and rules.

        Its clients lose their connections. If the new container can't start, it is there
        nevertheless, stopped, and is started when it is needed.

        :raises NotFound: there is none with this id.
        """
        with self._locks.hold(f"server-{spec.id}"):
            old = self.get(spec.id)
            self._engine.remove(old.container_id)
            self._wires.release(old.spec)
            self._changed.remove(spec.id)
            container_id = self._create(spec, "")
            server = self._started(model.Server(spec, "stopped", container_id))
        LOG.info("Share server %(id)s moved to %(ip)s", {"id": spec.id, "ip": spec.address})
        return server

    def delete(self, server_id: str, login: security.Login | None = None) -> None:
        """Remove a server, its network if it was the last on it, and its users; if it exists.

        :param login: who may take it out of its directory; without, its account stays there.
        """
        with self._locks.hold(f"server-{server_id}"):
            try:
                server = self.get(server_id)
            except exceptions.NotFound:
                return
            self._roster.rename(server, roster.DELETING)
            self._leave_directory(server, login)
            self._remains.remove(server.spec)
        LOG.info("Deleted share server %(id)s", {"id": server_id})

    def get(self, server_id: str) -> model.Server:
        """Return a server as it is now.

        :raises NotFound: there is none with this id.
        """
        return self._roster.server(self._roster.container(server_id))

    def list(self) -> Sequence[model.Server]:
        """Return every server of this owner, by id, in one call to the engine."""
        return self._roster.list()

    def running(self, server_id: str) -> model.Server:
        """Return a server that runs and is on its network, starting it if it doesn't.

        :raises NotFound: there is none with this id.
        """
        found = self._roster.container(server_id)
        server = self._roster.server(found)
        if server.state == "active" and self._wires.complete(server.spec, found):
            return server
        with self._locks.hold(f"server-{server_id}"):
            return self._started(self.get(server_id))

    def recover(self, serving: Collection[str]) -> tuple[str, ...]:
        """Remove what crashes left half-made or half-deleted; return the ids of those servers.

        :param serving: the ids of servers that have shares: of such a server the users are kept
            even if its container is gone.
        """
        half_made = [each for each in self.list() if each.state in roster.HALF_MADE]
        removed = [each.id for each in half_made if self._remains.undo(each, wait=True)]
        self._remains.sweep(serving)
        return tuple(removed)

    def keep(self) -> None:
        """Start servers that have stopped, and remove what is half-made: call it every minute.

        Engines start containers again that end by themselves. Docker 20.10 leaves those stopped
        that ran when dockerd was killed; and what was being made then nobody could undo. What
        somebody works on is left to him. What fails is warned of, the rest goes on.
        """
        try:
            for server in self.list():
                self._keep(server)
            self._wires.keep()
        except exceptions.ContainerStackError as exc:
            LOG.warning("Could not look after share servers: %(why)s", {"why": exc})

    def _keep(self, server: model.Server) -> None:
        try:
            if server.state == "stopped":
                self.running(server.id)
            elif server.state in roster.HALF_MADE:
                self._remains.undo(server, wait=False)
        except exceptions.ContainerStackError as exc:
            LOG.warning(
                "Could not bring back share server %(id)s: %(why)s", {"id": server.id, "why": exc}
            )

    def directory(self, server_id: str) -> str:
        """Return the directory on the host in which the server's shares are mounted."""
        return self._remains.directory(server_id)

    def speaking(self, server: model.Server, name: str) -> protocol.Protocol:
        """Return what serves this protocol in a server.

        :raises NotSupported: the server doesn't speak it.
        """
        speaks = protocols.get(name, server.spec.users)
        if name not in container.spoken(self._engine.inspect(server.container_id).labels):
            raise exceptions.NotSupported(f"Share server {server.id} doesn't speak {name}.")
        return speaks(self._engine, server.container_id)

    def _make(self, spec: model.ServerSpec, login: security.Login | None) -> model.Server:
        self._changed.remove(spec.id)
        container_id = self._create(spec, roster.CREATING)
        self._engine.start(container_id)
        server = model.Server(spec, "active", container_id)
        with contextlib.ExitStack() as undo:
            if spec.users:
                self._wires.connect(spec, self._engine.inspect(container_id))
                joining = (self._engine, server, login, self._settings.trust)
                directories.join(*joining)
                undo.callback(directories.leave, *joining)
            self._served(server)
            self._roster.rename(server, "")
            undo.pop_all()
        return server

    def _leave_directory(self, server: model.Server, login: security.Login | None) -> None:
        if server.spec.users is None:
            return
        try:
            server = self._started(server)
        except exceptions.ContainerStackError as exc:
            directories.report(server.spec, str(exc))
        else:
            directories.leave(self._engine, server, login, self._settings.trust)

    def _create(self, spec: model.ServerSpec, suffix: str) -> str:
        labels = self._roster.labels(spec.id)
        self._engine.create_volume(remains.state_volume(spec.id), labels)
        self._make_directory(spec.id)
        wanted = container.spec(
            self._settings,
            name=roster.PREFIX + spec.id + suffix,
            labels={**labels, "container_stack.spec": spec.to_json()},
            shares_directory=self.directory(spec.id),
            state_volume=remains.state_volume(spec.id),
            users=spec.users,
            account=security.account(spec.id) if spec.users else None,
        )
        try:
            with self._wires.attached(wanted, spec) as wired:
                return self._engine.create(wired)
        except exceptions.NotFound as exc:
            raise exceptions.HostNotReady(
                f"{exc} Make it by `container-stack image build samba`."
            ) from exc

    def _make_directory(self, server_id: str) -> None:
        directory = self.directory(server_id)
        os.makedirs(directory, exist_ok=True)
        # Root in the container is nobody special here, and must get in whatever our umask is.
        os.chmod(directory, 0o755)  # noqa: S103

    def _started(self, server: model.Server) -> model.Server:
        if server.state != "active":
            LOG.warning("Share server %(id)s was stopped; starting it", {"id": server.id})
            self._engine.start(server.container_id)
        return self._served(model.Server(server.spec, "active", server.container_id))

    def _served(self, server: model.Server) -> model.Server:
        found = self._engine.inspect(server.container_id)
        self._wires.connect(server.spec, found)
        for name in container.spoken(found.labels):
            speaks = protocols.get(name, server.spec.users)
            speaks(self._engine, found.id).wait_ready(self._settings.start_timeout)
        return server

    def _leave(self, spec: model.ServerSpec, interface: model.Interface, container_id: str) -> None:
        """Undo a join: the server is what it was, but for another address in the same subnet."""
        also = tuple(each for each in spec.also if each.subnet.id != interface.subnet.id)
        self._wires.leave(spec, interface, container_id)
        kept = dataclasses.replace(spec, also=also)
        self._changed.write(spec.id, {"spec": kept.to_json()})
