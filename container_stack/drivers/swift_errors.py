# SPDX-License-Identifier: Apache-2.0
"""What goes wrong between Swift, Keystone and us, as errors of ours."""

import contextlib
import ssl
from collections.abc import Iterator

import requests
import urllib3
from keystoneauth1 import exceptions as keystone_exceptions
from swiftclient import exceptions as swift_exceptions

from container_stack import exceptions
from container_stack.drivers import swift_body

_KINDS: dict[int, type[exceptions.ContainerStackError]] = {
    401: exceptions.AccessDenied,
    403: exceptions.AccessDenied,
    404: exceptions.NotFound,
    409: exceptions.Busy,
    413: exceptions.NoSpace,
    507: exceptions.NoSpace,
    408: exceptions.ServiceUnavailable,
    429: exceptions.ServiceUnavailable,
    498: exceptions.ServiceUnavailable,
    499: exceptions.ServiceUnavailable,
}
_WORDS = {
    exceptions.AccessDenied: "refuses this user",
    exceptions.NotFound: "doesn't have what is asked for with",
    exceptions.Busy: "finds something else, or not all of it, for",
    exceptions.NoSpace: "has no room, by a quota or on its disks, for",
    exceptions.InvalidRequest: "refuses",
    exceptions.ServiceUnavailable: "fails at",
    exceptions.AlreadyExists: "has another already, for",
}
_REFUSED = (
    keystone_exceptions.Unauthorized,
    keystone_exceptions.Forbidden,
    keystone_exceptions.MissingAuthMethods,
)
_CATALOGUE = (keystone_exceptions.EndpointNotFound, keystone_exceptions.EmptyCatalog)
_LOST = (OSError, requests.RequestException, urllib3.exceptions.HTTPError)


@contextlib.contextmanager
def translated(
    what: str, conflict: type[exceptions.ContainerStackError] = exceptions.Busy
) -> Iterator[None]:
    """Let only errors of ours out.

    :param what: the request, for messages: "PUT docker_images/a.tar".
    :param conflict: what it means that a precondition failed.
    """
    try:
        yield
    except swift_body.SourceFailed as exc:
        raise (exc.__cause__ or exc) from None
    except swift_exceptions.ClientException as exc:
        raise _from_status(what, exc, conflict) from exc
    except _REFUSED as exc:
        raise exceptions.AccessDenied(
            "The login is refused; check the user's name, project, domains and password."
        ) from exc
    except _CATALOGUE as exc:
        raise exceptions.HostNotReady(
            "The catalogue has no object-store there; check OS_REGION_NAME and OS_INTERFACE."
        ) from exc
    except keystone_exceptions.ClientException as exc:
        raise _from_login(exc) from exc
    except _LOST as exc:
        raise _from_connection(what, exc) from exc


def _from_status(
    what: str,
    exc: swift_exceptions.ClientException,
    conflict: type[exceptions.ContainerStackError],
) -> exceptions.ContainerStackError:
    status = exc.http_status
    if status is None:
        # swiftclient's own: it can't repeat a request whose body came from a generator.
        return exceptions.ServiceUnavailable(f"Swift broke off {what}; try again.")
    kind = conflict if status == 412 else _KINDS.get(status)
    if kind is None:
        kind = exceptions.InvalidRequest if 400 <= status < 500 else exceptions.ServiceUnavailable
    said = _said(exc.http_response_content) if status == 400 else ""
    return kind(f"Swift {_WORDS[kind]} {what} ({status}){said}.")


def _from_login(exc: Exception) -> exceptions.ContainerStackError:
    if isinstance(exc, keystone_exceptions.SSLError):
        return _untrusted("the login", exc)
    status = getattr(exc, "http_status", None)
    if isinstance(exc, keystone_exceptions.HttpError) and status and status < 500:
        return exceptions.InvalidRequest(
            f"The login is malformed ({status}); check OS_AUTH_URL and that the user's and "
            f"project's domains are given."
        )
    return exceptions.ServiceUnavailable(
        f"The login gets no usable answer ({type(exc).__name__}); check the address."
    )


def _from_connection(what: str, exc: Exception) -> exceptions.ContainerStackError:
    if isinstance(exc, requests.exceptions.SSLError | ssl.SSLError):
        return _untrusted(what, exc)
    return exceptions.ServiceUnavailable(
        f"Swift gave no whole answer to {what} ({type(exc).__name__})."
    )


def _untrusted(what: str, exc: Exception) -> exceptions.ContainerStackError:
    if "certificate" not in str(exc).lower():
        return exceptions.ServiceUnavailable(f"TLS broke off at {what}.")
    return exceptions.HostNotReady(
        f"The certificate met at {what} isn't trusted; give the file with the CA that signed it "
        f"as OS_CACERT, and the address that it is made out to."
    )


def _said(body: bytes | str | None) -> str:
    """Return what Swift said, on one line; nothing when that is a page for browsers."""
    text = body.decode("utf-8", "replace") if isinstance(body, bytes) else body or ""
    if text.lstrip().startswith("<"):
        return ""
    line = " ".join("".join(each if each.isprintable() else " " for each in text).split())
    return f": {line[:200].rstrip('.')}" if line else ""
