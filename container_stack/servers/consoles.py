# SPDX-License-Identifier: Apache-2.0
"""Serial consoles: a TCP port for each server, behind which a shell in it waits.

Who connects gets a shell with a terminal of its own, as often as he connects; what checks that he
may is in front of the port, as nova-serialproxy is. So the address must be one that only that
reaches. A server keeps its port as long as it has a directory, also when this process is started
again: whoever was told of it connects again.
"""

import contextlib
import logging
import os
import select
import socket
import threading
from collections.abc import Callable

from container_stack import exceptions
from container_stack.host import containers, records
from container_stack.servers import model, shells

LOG = logging.getLogger(__name__)

#: Shells that one server may have at a time.
SHELLS = 4


class Consoles:
    """The consoles of all servers of this host.

    :param directory: for notes of which server has which port.
    :param address: to listen at.
    :param ports: the first port, and the one behind the last.
    :param container: tells the name of a server's container; raises :class:`ServerNotFound`.
    """

    def __init__(
        self,
        engine: containers.Engine,
        directory: str,
        container: Callable[[str], str],
        *,
        address: str = "127.0.0.1",
        ports: tuple[int, int] = (10000, 20000),
        shell: str = "/bin/sh",
    ) -> None:
        self._engine = engine
        self._records = records.Records(directory)
        self._container = container
        self._address, self._ports, self._shell = address, ports, shell
        self._guard = threading.Lock()
        self._listeners: dict[str, _Listener] = {}

    def port(self, server_id: str) -> int:
        """Return the port of a server's console, which answers from now on; idempotent.

        :raises NoSpace: all ports are taken.
        :raises ServerNotFound: there is no such server.
        """
        self._container(model.check_id(server_id))
        with self._guard:
            listener = self._listeners.get(server_id)
            if listener is None:
                listener = self._listen(server_id)
            return listener.port

    def start(self) -> None:
        """Let the consoles that there were before answer again; forget those of servers gone."""
        for server_id in self._records.names():
            try:
                self.port(server_id)
            except model.ServerNotFound:
                self.remove(server_id)
            except exceptions.ContainerStackError as exc:
                LOG.warning(
                    "Server %(id)s has no console for now: %(why)s", {"id": server_id, "why": exc}
                )

    def remove(self, server_id: str) -> None:
        """End a server's console and all its shells, and give its port back; idempotent."""
        with self._guard:
            listener = self._listeners.pop(server_id, None)
            self._records.remove(server_id)
        if listener is not None:
            listener.close()

    def close(self) -> None:
        """End all consoles; their servers keep the ports."""
        with self._guard:
            listeners, self._listeners = list(self._listeners.values()), {}
        for listener in listeners:
            listener.close()

    def _listen(self, server_id: str) -> "_Listener":
        sock = self._bound(server_id)
        with contextlib.ExitStack() as undo:
            undo.callback(sock.close)
            port = sock.getsockname()[1]
            self._records.write(server_id, {"port": port})
            undo.pop_all()
        serve = shells.Shells(self._engine, lambda: self._container(server_id), self._shell)
        listener = self._listeners[server_id] = _Listener(sock, serve)
        LOG.info("Server %(id)s has its console at port %(port)s", {"id": server_id, "port": port})
        return listener

    def _bound(self, server_id: str) -> socket.socket:
        known = self._records.read(server_id) or {}
        others = {each.get("port") for each in self._records.all().values()}
        first, end = self._ports
        wanted = [known["port"]] if first <= known.get("port", -1) < end else []
        for port in [*wanted, *(each for each in range(first, end) if each not in others)]:
            with contextlib.suppress(OSError):
                return socket.create_server((self._address, port), family=self._family())
        raise exceptions.NoSpace(
            f"No port from {first} to {end - 1} is free at {self._address} for a serial console."
        )

    def _family(self) -> socket.AddressFamily:
        return socket.AF_INET6 if ":" in self._address else socket.AF_INET


class _Listener:
    """One server's port."""

    def __init__(self, sock: socket.socket, serve: shells.Shells) -> None:
        self.port: int = sock.getsockname()[1]
        self._sock = sock
        self._serve = serve
        self._wake, self._waker = os.pipe2(os.O_CLOEXEC)
        self._slots = threading.BoundedSemaphore(SHELLS)
        self._thread = threading.Thread(target=self._run, name=f"console-{self.port}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        os.close(self._waker)
        self._thread.join()
        self._serve.close()
        self._sock.close()
        os.close(self._wake)

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        while True:
            ready = dict(poll.poll())
            if self._wake in ready:
                return
            with contextlib.suppress(OSError):
                self._accept(self._sock.accept()[0])

    def _accept(self, peer: socket.socket) -> None:
        if not self._slots.acquire(blocking=False):
            with peer:
                peer.sendall(f"This server has {SHELLS} consoles open already.\r\n".encode())
            return
        threading.Thread(target=self._talk, args=(peer,), name="console", daemon=True).start()

    def _talk(self, peer: socket.socket) -> None:
        try:
            with peer:
                self._serve.run(peer)
        finally:
            self._slots.release()
