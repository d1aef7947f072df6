# SPDX-License-Identifier: Apache-2.0
"""One request to a Datera EDF array and its answer, both bounded in time and size.

What the array says is data: an answer that is too long or no JSON becomes an error of ours.
"""

import http.cookiejar
import json
import logging
import os
import ssl
import time
from collections.abc import Mapping
from typing import Any

import requests
import requests.adapters
import urllib3.exceptions

from container_stack import exceptions
from container_stack.imagestore import edf_errors
from container_stack.imagestore import edf_model as model

LOG = logging.getLogger(__name__)

#: Connections kept for reuse; more callers than that get connections of their own.
POOL_SIZE = 64
#: Bytes that an answer may have; the longest page of app instances takes a tenth of that.
LONGEST = 32 * 1024**2
_CHUNK = 64 * 1024
_HEADERS = {
    "Accept": "application/json",
    "Accept-Encoding": "identity",
    "Content-Type": "application/json; charset=utf-8",
    "Datera-Driver": "container-stack",
    "User-Agent": "container-stack",
}


class Wire:
    """Connections to an array, opened when needed; threads may share them, forks must not.

    :raises HostNotReady: the CA file can't be read.
    """

    def __init__(self, endpoint: model.Endpoint) -> None:
        self._url = endpoint.url
        self._timeout = endpoint.timeout
        self._session = requests.Session()
        # An array is never behind a proxy, and REQUESTS_CA_BUNDLE would overrule the CA file.
        self._session.trust_env = False
        self._session.verify = _trusted(endpoint)
        self._session.cookies.set_policy(http.cookiejar.DefaultCookiePolicy(allowed_domains=[]))
        self._session.headers.update(_HEADERS)
        self._session.mount(f"{self._url}/", requests.adapters.HTTPAdapter(pool_maxsize=POOL_SIZE))

    def close(self) -> None:
        self._session.close()

    def exchange(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str],
        params: Mapping[str, str] | None = None,
        body: object = None,
    ) -> tuple[int, Any]:
        """Send a request once; return the status and the JSON, or None where that is none.

        :raises Again: there was no answer.
        """
        start = time.monotonic()
        outcome: int | str = "no answer"
        try:
            with self._session.request(
                method,
                self._url + path,
                params=params,
                data=None if body is None else json.dumps(body),
                headers=headers,
                timeout=self._timeout,
                stream=True,
                allow_redirects=False,
            ) as response:
                text = _read(response, start + self._timeout)
                outcome = response.status_code
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as exc:
            raise edf_errors.from_connection(self._url, exc, self._timeout) from exc
        finally:
            taken = round((time.monotonic() - start) * 1000)
            LOG.debug(
                "%(method)s %(path)s: %(status)s in %(ms)s ms",
                {"method": method, "path": path, "status": outcome, "ms": taken},
            )
        return response.status_code, _parsed(text)


def _trusted(endpoint: model.Endpoint) -> str | bool:
    """Return what requests checks certificates by."""
    if not endpoint.verify:
        if endpoint.url.startswith("https:"):
            LOG.warning(
                "Whoever answers at %(url)s is taken for the array: its certificate isn't "
                "checked. Give its CA instead.",
                {"url": endpoint.url},
            )
        return False
    if endpoint.ca_file:
        try:
            ssl.create_default_context(cafile=endpoint.ca_file)
        except OSError as exc:
            raise exceptions.HostNotReady(
                f"The CA file {endpoint.ca_file} can't be used ({exc}); it must be a readable "
                f"file of certificates in PEM form."
            ) from exc
        return endpoint.ca_file
    # The system's own authorities, to which an operator adds; requests brings a list instead.
    paths = ssl.get_default_verify_paths()
    return next(
        (path for path in (paths.cafile, paths.capath) if path and os.path.exists(path)), True
    )


def _read(response: requests.Response, deadline: float) -> bytes:
    """Return the whole body; a slow one ends at the deadline, as by :func:`time.monotonic`."""
    declared = response.headers.get("Content-Length", "")
    body = bytearray()
    while piece := response.raw.read1(_CHUNK, decode_content=False):
        body += piece
        if len(body) > LONGEST:
            raise edf_errors.nonsense(
                f"{response.request.method} {response.request.path_url}",
                f"it is longer than {LONGEST // 1024**2} MiB",
            )
        if time.monotonic() > deadline:
            raise TimeoutError("the answer is too slow")
    if declared.isdecimal() and len(body) < int(declared):
        raise ConnectionError("the answer ends too early")
    return bytes(body)


def _parsed(text: bytes) -> Any:
    if not text.strip():
        return {}
    try:
        return json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError):
        return None


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number")
