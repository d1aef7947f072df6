# SPDX-License-Identifier: Apache-2.0
"""Answers as bytes, and what becomes of errors: short texts, never a traceback."""

import contextlib
import logging
import uuid
from collections.abc import Iterable, Iterator

import falcon

from container_stack import exceptions
from container_stack.drivers.osd import forms

LOG = logging.getLogger(__name__)

#: Of all answers, as in the original, whose clients look at nothing but the body.
TEXT = "text/plain; charset=utf-8"

_STATUS = (
    (exceptions.InvalidRequest, falcon.HTTP_400),
    (exceptions.NotFound, falcon.HTTP_404),
    (exceptions.NotSupported, falcon.HTTP_501),
)


class Refused(exceptions.ContainerStackError):
    """What was asked for can't be had; the text says what and why."""


def put(response: falcon.Response, answer: forms.Json) -> None:
    """Answer with JSON."""
    response.data = forms.encode(answer)


def put_list(response: falcon.Response, answer: Iterable[forms.Json]) -> None:
    """Answer with a JSON list, which may be long."""
    response.data = forms.encode_list(answer)


def say(response: falcon.Response, status: str, text: str) -> None:
    """Answer with one line."""
    response.status = status
    response.content_type = TEXT
    response.data = f"{text}\n".encode("utf-8", "replace")


@contextlib.contextmanager
def failing(what: str) -> Iterator[None]:
    """Say what couldn't be had when a driver refuses.

    :raises Refused: for any error of ours.
    """
    try:
        yield
    except exceptions.ContainerStackError as exc:
        raise Refused(f"{what}: {exc}") from exc


def refuse(
    request: falcon.Request, response: falcon.Response, exc: Exception, _params: object
) -> None:
    """Answer with an error that no resource has put into words."""
    if isinstance(exc, falcon.HTTPRouteNotFound):
        say(response, falcon.HTTP_404, "404 page not found")
    elif isinstance(exc, falcon.HTTPError):
        response.set_headers(exc.headers or {})
        say(response, falcon.code_to_http_status(exc.status_code), exc.title or "Bad request")
    elif isinstance(exc, Refused):
        say(response, falcon.HTTP_400, str(exc))
    elif isinstance(exc, exceptions.ContainerStackError):
        found = (status for kind, status in _STATUS if isinstance(exc, kind))
        say(response, next(found, falcon.HTTP_503), str(exc))
    else:
        mark = uuid.uuid4().hex[:12]
        LOG.error(
            "Failed to answer %(method)s %(path)s (%(mark)s)",
            {"method": request.method, "path": request.path, "mark": mark},
            exc_info=exc,
        )
        say(response, falcon.HTTP_500, f"Something went wrong; the daemon's log has it as {mark}.")
