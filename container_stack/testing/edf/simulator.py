# SPDX-License-Identifier: Apache-2.0
"""A simulated Datera EDF array, as a context manager.

::

    with simulator.Simulator(directory) as array:
        client = edf.Client(edf.Endpoint(**array.endpoint_kwargs))

It speaks what Datera's public client and drivers expect (REST v2.1, v2.2, and what changed with
software 3.3), and exports sparse files through a real iSCSI target. Needs the extra
``simulator``, and for iSCSI Debian's tgt.
"""

import contextlib
import ipaddress
import os
import socket
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from container_stack import exceptions
from container_stack.host import attach, locks
from container_stack.testing.edf import access, array, exports, faults

#: Seconds that a key lives.
KEY_LIFETIME = 900.0
#: Requests that are served at once.
THREADS = 16


class Simulator:
    """One array; what it has outlives it in its directory.

    :param directory: made if need be.
    :param target: ``tgt`` exports volumes by iSCSI; ``file`` leaves them to the attacher of that
        name.
    :param tls: with a certificate of its own, made out to ``address``; see :attr:`ca_file`.
    :param port: 0 means any that is free.
    :param capacity: bytes that volumes may have in all.
    :param latency: seconds for which what was changed is in transit.
    :param control: let everybody arm faults by POST to /control/faults.
    """

    def __init__(
        self,
        directory: Path | str,
        *,
        target: str = "tgt",
        tls: bool = True,
        address: str = "127.0.0.1",
        port: int = 0,
        login: str = "admin",
        password: str = "password",
        capacity: int = 1024**4,
        sw_version: str = "2.2.0",
        latency: float = 0.02,
        key_lifetime: float = KEY_LIFETIME,
        control: bool = False,
    ) -> None:
        self.directory = Path(directory)
        self.address = address
        self.port = port
        self.login = login
        self.password = password
        self.ca_file = str(self.directory / "ca.pem") if tls else ""
        self._tls = tls
        self._control = control
        self.directory.mkdir(parents=True, exist_ok=True)
        settings = array.Settings(sw_version, capacity, latency)
        self._array = array.Array(self.directory, settings, _exports(target, self.directory))
        self._keys = access.Keys(login, password, key_lifetime)
        self.faults = faults.Faults(self._keys.expire, self._array.interrupt, self._array.targets)
        self._array.full = lambda: self.faults.full
        self._undo = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as undo:
            undo.callback(os.close, locks.lock(str(self.directory / "lock"), wait=False))
            undo.callback(self._array.targets.stop)
            undo.callback(self._array.copies.settle)
            self._array.start()
            self._serve(undo)
            self._undo = undo.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._undo.close()

    @property
    def endpoint_kwargs(self) -> dict[str, Any]:
        """Arguments of :class:`container_stack.imagestore.edf.Endpoint`."""
        return {
            "address": self.address,
            "port": self.port,
            "login": self.login,
            "password": self.password,
            "ca_file": self.ca_file,
        }

    @property
    def options(self) -> attach.Options:
        """Options for attachers; the one named ``file`` needs them."""
        return attach.Options(directory=str(self.directory))

    def app_instances(self) -> list[dict[str, Any]]:
        """Return what is known of each app instance, of every tenant."""
        return list(self._array.records.instances.values())

    def settle(self) -> None:
        """Wait until snapshots are whole, as who writes to volumes' files himself has to."""
        self._array.copies.settle()

    def _serve(self, undo: contextlib.ExitStack) -> None:
        try:
            from cheroot import wsgi

            from container_stack.testing.edf import rest
        except ImportError as exc:
            raise exceptions.HostNotReady(
                f"The simulator needs {exc.name}: pip install 'container-stack[simulator]'."
            ) from exc
        api = rest.Api(self._array, self._keys, self.faults, control=self._control)
        self.port = self.port or _free_port(self.address)
        server = wsgi.Server(
            (self.address, self.port), api, numthreads=THREADS, request_queue_size=64
        )
        server.shutdown_timeout = 1
        server.expiration_interval = 0.05  # by which a stop is noticed
        if self._tls:
            server.ssl_adapter = _certificate(self.directory, self.address)
        try:
            server.prepare()
        except OSError as exc:
            raise exceptions.Busy(f"{self.address}:{self.port} can't be used: {exc}.") from exc
        thread = threading.Thread(target=server.serve, name="edf-simulator", daemon=True)
        thread.start()
        undo.callback(thread.join, 10)
        undo.callback(server.stop)


def _exports(target: str, directory: Path) -> exports.Exports:
    if target == "file":
        return exports.NoExports()
    if target == "tgt":
        from container_stack.testing.edf import tgt

        return tgt.Targets(directory)
    raise exceptions.InvalidRequest(f"There is no target {target!r}; there are tgt and file.")


def _free_port(address: str) -> int:
    """Return a port that nobody listens at.

    Not left to cheroot: one that it finds can't be bound again for a minute after it stopped.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, 0), family=family) as found:
        return int(found.getsockname()[1])


def _certificate(directory: Path, address: str) -> Any:
    """Return what makes the server speak TLS, with a new certificate of the old authority."""
    import trustme
    from cheroot.ssl import builtin

    public, private = directory / "ca.pem", directory / "ca.key"
    if public.exists() and private.exists():
        # Clients that trusted it before a restart trust it now.
        authority = trustme.CA.from_pem(public.read_bytes(), private.read_bytes())
    else:
        authority = trustme.CA()
        _write_secret(private, authority.private_key_pem.bytes())
        public.write_bytes(authority.cert_pem.bytes())
    issued = authority.issue_cert(*_names(address))
    chain, key = directory / "server.pem", directory / "server.key"
    chain.write_bytes(b"".join(each.bytes() for each in issued.cert_chain_pems))
    _write_secret(key, issued.private_key_pem.bytes())
    return builtin.BuiltinSSLAdapter(str(chain), str(key))


def _write_secret(path: Path, text: bytes) -> None:
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(text)


def _names(address: str) -> list[str]:
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(address)
        return [address]
    return [address, socket.gethostname()]
