# SPDX-License-Identifier: Apache-2.0
"""Our errors in Nova's words, so that Nova does with them what it should."""

import contextlib
from collections.abc import Iterator
from typing import Any

from nova import exception

from container_stack import exceptions
from container_stack.servers import model


@contextlib.contextmanager
def translated(instance: Any = None) -> Iterator[None]:
    """Raise the core's errors as Nova's."""
    try:
        yield
    except exceptions.ContainerStackError as exc:
        raise of(exc, instance) from exc


def of(exc: exceptions.ContainerStackError, instance: Any = None) -> Exception:
    """Return Nova's error for one of ours; its text reaches the end user where Nova lets it."""
    if isinstance(exc, model.ServerNotFound):
        found: Exception = exception.InstanceNotFound(instance_id=_uuid(instance))
        return found
    if isinstance(exc, exceptions.EngineUnavailable):
        return _with_text(exception.HypervisorUnavailable, exc)
    if isinstance(exc, exceptions.InvalidRequest):
        # Of a build: not tried on another host.
        return _with_text(exception.InvalidInput, exc)
    if isinstance(exc, exceptions.NoSpace):
        return _with_text(exception.ComputeResourcesUnavailable, exc)
    return _with_text(exception.NovaException, exc)


def refused(exc: exceptions.ContainerStackError, image_id: str) -> Exception:
    """Return Nova's error for an image that nobody can boot from, here or elsewhere."""
    made: Exception = exception.ImageUnacceptable(image_id=image_id, reason=str(exc))
    return made


def _with_text(error: Any, exc: exceptions.ContainerStackError) -> Exception:
    made: Exception = error(reason=str(exc), message=str(exc))
    return made


def _uuid(instance: Any) -> str:
    return "unknown" if instance is None else str(instance.uuid)
