# SPDX-License-Identifier: Apache-2.0
"""Requests to a Datera EDF array: keys, which live 15 minutes, and repetitions."""

import dataclasses
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from container_stack import exceptions
from container_stack.imagestore import edf_errors, edf_wire
from container_stack.imagestore import edf_model as model

LOG = logging.getLogger(__name__)
T = TypeVar("T")

#: REST versions that this client speaks, the best first.
VERSIONS = ("v2.2", "v2.1")


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """What to send.

    :param path: below the version, as /app_instances.
    :param tenant: on whose behalf; empty: the endpoint's.
    :param secret: the body holds one; what the array says about it is kept quiet.
    """

    method: str
    path: str
    body: Mapping[str, Any] | None = None
    params: Mapping[str, str] | None = None
    tenant: str = ""
    secret: bool = False

    @property
    def title(self) -> str:
        return f"{self.method} {self.path}"


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """What came: the data, and with a list also which part of it that is."""

    data: Any
    metadata: Any = None


@dataclasses.dataclass(frozen=True, slots=True)
class Key:
    """What a login gave.

    :param version: of the REST interface; each login asks, since arrays get updates.
    """

    token: str = dataclasses.field(repr=False)
    version: str


class _State:
    """What one process has open."""

    def __init__(self, endpoint: model.Endpoint) -> None:
        self.wire = edf_wire.Wire(endpoint)
        self.lock = threading.Lock()
        self.changing = threading.Lock()
        self.key: Key | None = None


class Connection:
    """One array. Nothing is opened before the first request; threads and forks may share it.

    :raises InvalidRequest: the endpoint's tenant is malformed.
    """

    def __init__(self, endpoint: model.Endpoint) -> None:
        self._endpoint = endpoint
        self._tenant = endpoint.tenant_path
        # By process: a child must not write to its parent's sockets, nor wait for a lock that
        # one of the parent's threads held.
        self._states: dict[int, _State] = {}

    def close(self) -> None:
        """Close the idle connections and forget the key; the next request opens new ones."""
        state = self._states.pop(os.getpid(), None)
        if state is not None:
            state.wire.close()

    def login(self) -> Key:
        """Get a new key.

        :raises AccessDenied: the array refuses the login.
        """
        return self._repeat(lambda: self._renew(self._state().key))

    def key(self) -> Key:
        """Return the key in use; log in if there is none."""
        return self._repeat(self._key)

    def changing(self) -> threading.Lock:
        """Return a lock for what must read from the array before it writes."""
        return self._state().changing

    def request(self, request: Request, find: Callable[[], Answer | None] | None = None) -> Answer:
        """Send a request until it is answered, and return the answer.

        :param find: looks for what a POST of ours may have made, when its answer was lost and
            when the array says that there is such a thing already; returns None when there is
            nothing, or another's.
        """

        def once() -> Answer:
            try:
                return self._authenticated(request)
            except (edf_errors.Again, exceptions.AlreadyExists) as exc:
                untouched = isinstance(exc, edf_errors.Again) and not exc.lost
                found = None if find is None or untouched else find()
                if found is None:
                    raise
                return found

        return self._repeat(once)

    def _repeat(self, once: Callable[[], T]) -> T:
        """Call until it succeeds or the endpoint's patience ends."""
        pause = self._endpoint.retry_interval
        left = self._endpoint.retry_attempts
        deadline = time.monotonic() + self._endpoint.operation_timeout
        while True:
            try:
                return once()
            except edf_errors.Again as exc:
                if left <= 0 or time.monotonic() + pause >= deadline:
                    raise exceptions.ArrayUnavailable(str(exc)) from exc
                LOG.debug("Repeating that in %(pause)s s: %(why)s", {"pause": pause, "why": exc})
            left -= 1
            time.sleep(pause)

    def _authenticated(self, request: Request) -> Answer:
        key = self._key()
        status, payload = self._send(request, key)
        if status == 401:
            LOG.debug("The key has expired")
            key = self._renew(key)
            status, payload = self._send(request, key)
        secrets = (key.token, self._endpoint.password)
        payload = _checked(request, status, payload, secrets)
        return Answer(payload.get("data"), payload.get("metadata"))

    def _send(self, request: Request, key: Key) -> tuple[int, Any]:
        return self._state().wire.exchange(
            request.method,
            f"/{key.version}{request.path}",
            headers={"Auth-Token": key.token, "tenant": request.tenant or self._tenant},
            params=request.params,
            body=request.body,
        )

    # Keys ----------------------------------------------------------------------------------

    def _key(self) -> Key:
        return self._state().key or self._renew(None)

    def _renew(self, refused: Key | None) -> Key:
        """Return a key other than this one; of many threads that ask, one logs in."""
        state = self._state()
        if not state.lock.acquire(timeout=self._endpoint.timeout):
            raise edf_errors.Again(f"The login at {self._endpoint.url} is slow.", lost=False)
        try:
            if state.key is None or state.key is refused:
                state.key = None
                state.key = self._log_in()
            return state.key
        finally:
            state.lock.release()

    def _log_in(self) -> Key:
        known = self._ask_versions()
        version = next((each for each in VERSIONS if each in known), None)
        if version is None:
            raise exceptions.NotSupported(
                f"The array at {self._endpoint.url} speaks {', '.join(known) or 'nothing'}; "
                f"{' or '.join(VERSIONS)} is needed."
            )
        body = {"name": self._endpoint.login, "password": self._endpoint.password}
        request = Request("PUT", "/login", body, secret=True)
        status, payload = self._state().wire.exchange(
            "PUT", f"/{version}/login", headers={}, body=body
        )
        if status in (401, 403):
            raise exceptions.AccessDenied(
                f"The array at {self._endpoint.url} refuses the login {self._endpoint.login}; "
                f"check its name and password."
            )
        token = _checked(request, status, payload).get("key")
        if not (isinstance(token, str) and token and token.isascii() and token.isprintable()):
            raise edf_errors.nonsense(request.title, "it has no key")
        return Key(token, version)

    def _ask_versions(self) -> tuple[str, ...]:
        request = Request("GET", "/api_versions")
        status, payload = self._state().wire.exchange("GET", request.path, headers={})
        if status in (400, 404):
            # v2.1 came before this question.
            return ("v2.1",)
        known = _checked(request, status, payload).get("api_versions")
        if not isinstance(known, list) or not all(isinstance(each, str) for each in known):
            raise edf_errors.nonsense(request.title, "it has no list of versions")
        return tuple(known)

    def _state(self) -> _State:
        pid = os.getpid()
        return self._states.get(pid) or self._states.setdefault(pid, _State(self._endpoint))


def _checked(
    request: Request, status: int, payload: Any, secrets: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Return a good answer; raise what another stands for."""
    if not 200 <= status < 300:
        said = "" if request.secret else edf_errors.message(payload, secrets)
        raise edf_errors.from_status(request.method, request.title, status, said)
    if not isinstance(payload, dict):
        raise edf_errors.nonsense(request.title, "it is no JSON object")
    return payload
