# SPDX-License-Identifier: Apache-2.0
"""The connection to a Docker Engine: made when needed, shared by threads, new in a forked child.

Every error of the SDK, of HTTP and of sockets becomes one of ours here, in :func:`translated`.
"""

import contextlib
import contextvars
import os
import ssl
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from typing import Any

import docker
import docker.errors
import docker.tls
import docker.transport
import requests
import requests.adapters
import urllib3.exceptions

from container_stack import exceptions
from container_stack.host import engine_model as model
from container_stack.host import engine_ssh

#: Connections kept for reuse; more callers than that get connections of their own.
POOL_SIZE = 64
#: Seconds to wait for an answer, where a call needs another patience than the engine's usual.
_PATIENCE: contextvars.ContextVar[float | None] = contextvars.ContextVar("patience", default=None)

#: The lowest version that the SDK accepts; the engine's own follows at once.
FIRST_API = "1.24"

_APIClient: Any = docker.APIClient

_TAKEN = ("already in use by container", "already exists")
#: What the engine calls failures of its own, and are the input's.
_MALFORMED = (
    *("processing tar", "invalid tar header", "unexpected eof", "archive/tar"),
    # The directory that an archive is unpacked in, from which something is missing.
    "docker-import-",
)
_HELD = ("address already in use", "pool overlaps", "has active endpoints", "is in use")


class Connection:
    """One engine. Nothing is opened before :meth:`use`.

    :param url: unix:///path, tcp://host:port or ssh://user@host:port.
    :param timeout: seconds that the engine may keep silent.
    :raises InvalidRequest: the URL is none of these, or TLS is asked of another than tcp://.
    """

    def __init__(self, url: str, tls: model.TLS | None, timeout: float) -> None:
        _check_url(url, tls)
        self.url = url
        self.tls = tls
        self.timeout = timeout
        self._clients: dict[int, Client] = {}
        # One lock a process: a child must not wait for a lock that its parent's thread held.
        self._locks: dict[int, threading.Lock] = {}

    @contextlib.contextmanager
    def use(self, patience: float | None = None) -> Iterator[Any]:
        """Lend the :class:`Client` for one or more calls and translate what they raise.

        It isn't typed: the SDK has no types and the stubs for it have gaps and errors.

        :param patience: seconds that the engine may keep silent in these calls.
        """
        token = _PATIENCE.set(patience)
        try:
            with translated(self.url):
                yield self._client()
        finally:
            _PATIENCE.reset(token)

    def chunks(
        self, ask: Callable[[Any], Iterator[bytes]], patience: float | None = None
    ) -> Iterator[bytes]:
        """Yield what the engine answers in pieces; any thread may go on reading, or leave off.

        :param ask: is called with the :class:`Client` and returns the pieces.
        """
        with self.use(patience) as client:
            pieces = ask(client)
        with translated(self.url):
            yield from pieces

    def close(self) -> None:
        """Close the idle connections; the next use opens new ones."""
        client = self._clients.pop(os.getpid(), None)
        if client is not None:
            client.close()

    def _client(self) -> "Client":
        pid = os.getpid()
        client = self._clients.get(pid)
        if client is None:
            with self._locks.setdefault(pid, threading.Lock()):
                client = self._clients.get(pid) or Client(self.url, self.tls, self.timeout)
                self._clients = {pid: client}
        return client


def _check_url(url: str, tls: model.TLS | None) -> None:
    parts = urllib.parse.urlsplit(url)
    if parts.scheme in ("unix", "ssh") and tls:
        raise exceptions.InvalidRequest(f"TLS needs an engine at tcp://, not {url}.")
    if parts.scheme == "ssh":
        engine_ssh.Host.of(url)
        return
    where = {"unix": parts.path, "tcp": parts.netloc and parts.port}
    if not where.get(parts.scheme):
        raise exceptions.InvalidRequest(
            f"{url!r} is no Docker Engine; give unix:///path, tcp://host:port or "
            "ssh://user@host:port."
        )


class Client(_APIClient):  # type: ignore[misc]
    """The SDK's low-level client, which really reuses its connections."""

    _custom_adapter: requests.adapters.HTTPAdapter

    def __init__(self, url: str, tls: model.TLS | None, timeout: float) -> None:
        # A version, so that the SDK doesn't ask for it before the adapter is changed.
        # It has its own idea of ssh:// and needs another library for that.
        known = "http://localhost:1" if url.startswith("ssh:") else url
        super().__init__(known, version=FIRST_API, timeout=timeout, tls=_tls_config(tls))
        # An engine is never behind a proxy, and reading the environment costs each request.
        self.trust_env = False
        if url.startswith("unix:"):
            path = urllib.parse.urlsplit(url).path
            self._custom_adapter = _UnixAdapter(f"http+unix://{path}", max_pool_size=POOL_SIZE)
            self.mount("http+docker://", self._custom_adapter)
        elif url.startswith("ssh:"):
            self._custom_adapter = engine_ssh.Adapter(url, POOL_SIZE)
            self.base_url = "http+docker://localhost"
            self.mount("http+docker://", self._custom_adapter)
        else:
            adapter = requests.adapters.HTTPAdapter(pool_maxsize=POOL_SIZE)
            self.mount(self.base_url, adapter)
        self._version = self._retrieve_server_version()

    @property
    def api(self) -> tuple[int, ...]:
        """The version that this client speaks, as (1, 41)."""
        return tuple(int(part) for part in self.api_version.split("."))

    def save_images(self, names: list[str], chunk_size: int) -> Iterator[bytes]:
        """Return a tar archive of several images; the SDK itself can save only one."""
        answer = self._get(self._url("/images/get"), params={"names": names}, stream=True)
        self._raise_for_status(answer)
        return _pieces(answer, chunk_size)

    def update_limits(self, container: str, limits: dict[str, Any]) -> None:
        """Change a container's limits; the SDK itself knows some of them only."""
        answer = self._post_json(self._url("/containers/{0}/update", container), data=limits)
        self._raise_for_status(answer)

    def _url(self, pathfmt: str, *args: Any, **kwargs: Any) -> str:
        for arg in args:
            # The engine would clean the path and do something else, somewhere else.
            if not {"", ".", ".."}.isdisjoint(str(arg).split("/")):
                raise exceptions.InvalidRequest(f"{arg!r} is no name or id.")
        url: str = super()._url(pathfmt, *args, **kwargs)
        return url

    def _set_request_timeout(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        kwargs.setdefault("timeout", _PATIENCE.get() or self.timeout)
        return kwargs


def _pieces(answer: requests.Response, chunk_size: int) -> Iterator[bytes]:
    with answer:
        yield from answer.iter_content(chunk_size)


class _UnixAdapter(docker.transport.UnixHTTPAdapter):
    """Keeps one pool for the socket.

    The SDK's adapter keeps a pool for each whole URL, the 25 latest: connections are hardly ever
    reused, and with many threads a pool is closed while somebody uses it.
    """

    def get_connection(self, url: Any, proxies: Any = None) -> Any:
        return super().get_connection("http+docker://localhost", proxies)


def _tls_config(tls: model.TLS | None) -> docker.tls.TLSConfig | bool:
    if tls is None:
        return False
    pair = (tls.client_cert, tls.client_key or tls.client_cert) if tls.client_cert else None
    return docker.tls.TLSConfig(client_cert=pair, ca_cert=tls.ca_cert, verify=tls.verify)


@contextlib.contextmanager
def translated(url: str) -> Iterator[None]:
    """Turn whatever the SDK, HTTP or a socket raises in the body into an error of ours."""
    try:
        yield
    except docker.errors.APIError as exc:
        raise api_error(exc.status_code or 500, exc.explanation or str(exc)) from exc
    except (docker.errors.NullResource, docker.errors.TLSParameterError) as exc:
        raise exceptions.InvalidRequest(f"{exc}") from exc
    except docker.errors.InvalidVersion as exc:
        raise exceptions.NotSupported(f"The Docker Engine at {url} is too old: {exc}") from exc
    except (
        docker.errors.DockerException,
        requests.RequestException,
        urllib3.exceptions.HTTPError,
        OSError,
    ) as exc:
        raise exceptions.EngineUnavailable(_why_unavailable(url, exc)) from exc


def api_error(status: int, message: str) -> exceptions.ContainerStackError:
    """Return our error for an answer of the engine's.

    :param status: HTTP's; 500 stands for errors inside a stream.
    """
    said = message.strip().rstrip(".")
    lower = said.lower()
    if "no space left" in lower or "disk quota exceeded" in lower:
        return exceptions.NoSpace(f"The Docker Engine's disk is full: {said}.")
    if any(words in lower for words in _HELD):
        return exceptions.Busy(f"{said}.")
    if status == 500 and any(words in lower for words in _MALFORMED):
        return exceptions.InvalidRequest(f"The archive is no good: {said}.")
    if "no such image" in lower or "failed to get digest" in lower:
        return exceptions.NotFound(f"{said}; import, load or build it first.")
    if any(words in lower for words in _TAKEN):
        return exceptions.AlreadyExists(f"{said}.")
    kinds: dict[int, type[exceptions.ContainerStackError]] = {
        400: exceptions.InvalidRequest,
        403: exceptions.InvalidRequest,
        404: exceptions.NotFound,
        409: exceptions.Busy,
        501: exceptions.NotSupported,
        503: exceptions.EngineUnavailable,
    }
    if status in kinds:
        return kinds[status](f"{said}.")
    return exceptions.ContainerStackError(f"The Docker Engine failed ({status}): {said}.")


def _why_unavailable(url: str, exc: BaseException) -> str:
    causes = list(_causes(exc))
    for kind, text in (
        (
            FileNotFoundError,
            "There is no Docker Engine at {url}; start dockerd or correct the URL.",
        ),
        (
            PermissionError,
            "This user may not open {url}; add it to the group docker (which makes it as good as "
            "root) and restart this service.",
        ),
        (ConnectionRefusedError, "No Docker Engine listens at {url}; start dockerd."),
        (
            ssl.SSLError,
            "TLS with the Docker Engine at {url} failed ({cause}); check the certificates.",
        ),
        (
            (requests.Timeout, urllib3.exceptions.TimeoutError, TimeoutError),
            "The Docker Engine at {url} gave no answer in time; look at dockerd's log.",
        ),
    ):
        for cause in causes:
            if isinstance(cause, kind):
                return text.format(url=url, cause=cause)
    return f"The Docker Engine at {url} went away ({causes[-1]}); is dockerd running?"


def _causes(exc: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and what led to it; urllib3 puts some of that among the arguments."""
    seen: set[int] = set()
    while exc is not None and id(exc) not in seen:
        seen.add(id(exc))
        yield exc
        yield from (each for each in exc.args if isinstance(each, OSError))
        exc = exc.__cause__ or exc.__context__
