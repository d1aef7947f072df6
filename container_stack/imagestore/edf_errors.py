# SPDX-License-Identifier: Apache-2.0
"""What goes wrong between a Datera EDF array and us, as errors of ours."""

import re
import ssl
from collections.abc import Iterator
from typing import Any

import requests

from container_stack import exceptions

#: An array that starts says so with the status 500.
_STARTING = "still initializing"
_FULL = re.compile(
    r"insufficient|no (free )?space|not enough|out of (space|capacity)|(space|capacity) exceeded"
)
#: A plain HTTP server's answer to TLS, as OpenSSL calls it.
_NO_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL")
_MALFORMED = (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema)

_KINDS: dict[int, type[exceptions.ContainerStackError]] = {
    400: exceptions.InvalidRequest,
    401: exceptions.AccessDenied,
    403: exceptions.AccessDenied,
    404: exceptions.NotFound,
    405: exceptions.InvalidRequest,
    409: exceptions.Busy,
    413: exceptions.InvalidRequest,
    422: exceptions.InvalidRequest,
    507: exceptions.NoSpace,
}


class Again(Exception):
    """The same request may succeed in a moment.

    :param lost: it was sent, and nobody knows whether the array obeyed.
    """

    def __init__(self, message: str, *, lost: bool) -> None:
        super().__init__(message)
        self.lost = lost


def nonsense(where: str, why: str) -> exceptions.ArrayUnavailable:
    """Return the error for an answer that can't be an array's."""
    return exceptions.ArrayUnavailable(f"The answer to {where} makes no sense: {why}.")


def from_status(method: str, where: str, status: int, said: str) -> Exception:
    """Return the error that a status other than 2xx stands for.

    :param where: method and address, for the message.
    :param said: the array's own words, without secrets.
    """
    lower = said.lower()
    words = f": {said.rstrip('.')}." if said else "."
    if status in (502, 503, 504) or (status == 500 and _STARTING in lower):
        return Again(f"The array is too busy for {where} ({status}){words}", lost=status != 503)
    if 300 <= status < 400:
        return nonsense(where, f"it redirects ({status}), which no array does; check the address")
    if status in (400, 409, 422, 500, 507) and _FULL.search(lower):
        return exceptions.NoSpace(f"The array has no room for {where}{words}")
    kind = _KINDS.get(status, exceptions.ArrayUnavailable)
    if status == 409 and method == "POST":
        kind = exceptions.AlreadyExists
    return kind(f"The array refuses {where} ({status}){words}")


def from_connection(url: str, exc: BaseException, timeout: float) -> Exception:
    """Return the error for a request that got no answer."""
    if isinstance(exc, _MALFORMED):
        return exceptions.InvalidRequest(f"{url} is no address of an array.")
    causes = list(_causes(exc))
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return exceptions.HostNotReady(
                f"The certificate of {url} isn't trusted: {cause.verify_message}; give the file "
                f"with the CA that signed it, and the address that it is made out to."
            )
        if isinstance(cause, ssl.SSLError) and cause.reason in _NO_TLS:
            return exceptions.HostNotReady(
                f"Nobody speaks TLS at {url}; an array does so on port 7718."
            )
        if isinstance(cause, ConnectionRefusedError):
            return Again(f"Nobody listens at {url}; check the array's address.", lost=False)
        if isinstance(cause, TimeoutError):
            return Again(f"{url} gave no answer within {timeout:g} s.", lost=True)
    return Again(f"The connection to {url} broke ({type(causes[-1]).__name__}).", lost=True)


def message(payload: Any, secrets: tuple[str, ...]) -> str:
    """Return what the array said of an error, short, on one line and without these secrets."""
    parts = []
    if isinstance(payload, dict):
        errors = payload.get("errors")
        listed = errors if isinstance(errors, list) else []
        candidates = [payload.get("message"), *listed]
        parts = [each for each in candidates if isinstance(each, str) and each.strip()]
    text = "; ".join(dict.fromkeys(parts))
    for secret in filter(None, secrets):
        text = text.replace(secret, "***")
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:300]


def _causes(exc: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and what led to it; urllib3 puts some of that among the arguments."""
    seen: set[int] = set()
    pending = [exc]
    while pending:
        current = pending.pop(0)
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        led = [*current.args, getattr(current, "reason", None), current.__cause__]
        pending += [each for each in led if isinstance(each, BaseException)]
        pending.append(current.__context__)
