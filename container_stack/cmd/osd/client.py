# SPDX-License-Identifier: Apache-2.0
"""The REST API from a client's side, over a Unix socket.

It sends what the original's client sent, so that it works with the original's daemon, too.
"""

import http.client
import json
import socket
import time
import urllib.parse
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from container_stack import exceptions

#: Seconds that the daemon may think about a request: as long as Docker gives it.
PATIENCE = 120.0


class Client:
    """Talks to the daemon by one of its sockets.

    :param path: of the socket.
    :param timeout: seconds that an answer may take.
    """

    def __init__(self, path: str, timeout: float = PATIENCE) -> None:
        self._path = path
        self._timeout = timeout

    def call(
        self, method: str, route: str, body: object = None, query: Iterable[tuple[str, str]] = ()
    ) -> Any:
        """Return what an answer says, parsed.

        :param query: pairs, in their order.
        :raises ServiceUnavailable: nobody answers.
        :raises InvalidRequest: the daemon refuses; the text is its own.
        """
        pairs = urllib.parse.urlencode(list(query))
        url = f"{route}?{pairs}" if pairs else route
        data = None if body is None else json.dumps(body)
        headers = {"Content-Type": "application/json"} if data else {}
        connection = _Connection(self._path, self._timeout)
        try:
            connection.request(method, url, data, headers)
            answer = connection.getresponse()
            return _parsed(answer.status, answer.read())
        except (OSError, http.client.HTTPException) as exc:
            raise exceptions.ServiceUnavailable(self._trouble(exc)) from exc
        finally:
            connection.close()

    def done(
        self, method: str, route: str, body: object = None, query: Iterable[tuple[str, str]] = ()
    ) -> dict[str, Any]:
        """Return what an answer says that may also say ``error``.

        :raises ServiceUnavailable: nobody answers.
        :raises InvalidRequest: it does.
        """
        answer = self.call(method, route, body, query)
        if not isinstance(answer, dict):
            raise exceptions.ServiceUnavailable("The daemon's answer isn't understood.")
        nested = answer.get("volume_response")
        error = answer.get("error") or (isinstance(nested, dict) and nested.get("error"))
        if error:
            raise exceptions.InvalidRequest(str(error))
        return answer

    def volumes(self, route: str, query: Sequence[tuple[str, str]] = ()) -> list[dict[str, Any]]:
        """Return a list of volumes; one that is null is empty."""
        answer = self.call("GET", route, query=query)
        if not isinstance(answer or [], list):
            raise exceptions.ServiceUnavailable("The daemon's answer isn't understood.")
        return answer or []

    def _trouble(self, exc: Exception) -> str:
        if isinstance(exc, FileNotFoundError):
            return f"There is no socket {self._path}: no daemon serves this driver."
        if isinstance(exc, PermissionError):
            return f"This user may not use {self._path}; its group may."
        if isinstance(exc, TimeoutError):
            return f"The daemon at {self._path} didn't answer in {self._timeout:g} s."
        return f"The daemon at {self._path} doesn't answer: {exc or type(exc).__name__}."


def wait_for(path: str, ended: Callable[[], int | None], patience: float = PATIENCE) -> None:
    """Wait until a daemon that was just started answers at a socket.

    :param ended: tells whether it has ended: not None.
    :raises ServiceUnavailable: it has, or doesn't answer.
    """
    end = time.monotonic() + patience
    while True:
        try:
            Client(path, PATIENCE).call("GET", "/v1/drivers")
            return
        except exceptions.ServiceUnavailable:
            if ended() is not None or time.monotonic() > end:
                raise
        time.sleep(0.05)


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _parsed(status: int, data: bytes) -> Any:
    text = data.decode("utf-8", "replace").strip()
    try:
        answer = json.loads(text) if text else {}
    except ValueError:
        answer = None
    if status < http.client.BAD_REQUEST:
        if answer is None:
            raise exceptions.ServiceUnavailable("The daemon's answer isn't understood.")
        return answer
    said = answer.get("error") if isinstance(answer, dict) else text
    raise exceptions.InvalidRequest(str(said or f"The daemon answers {status}.")[:2000])
