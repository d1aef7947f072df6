# SPDX-License-Identifier: Apache-2.0
"""The core's errors as Manila's, so that Manila does with them what it should."""

import contextlib
from collections.abc import Iterator

from manila import exception

from container_stack import exceptions
from container_stack.shares import model


@contextlib.contextmanager
def translated(share_id: str | None = None) -> Iterator[None]:
    """Raise the core's errors as Manila's."""
    try:
        yield
    except exceptions.PossibleDataLoss as exc:
        raise exception.ShareShrinkingPossibleDataLoss(share_id=share_id) from exc
    except model.ShareNotFound as exc:
        raise exception.ShareResourceNotFound(share_id=share_id) from exc
    except model.SnapshotNotFound as exc:
        raise exception.SnapshotResourceNotFound(name=str(exc)) from exc
    except exceptions.InvalidRequest as exc:
        raise exception.InvalidInput(reason=str(exc)) from exc
    except exceptions.ContainerStackError as exc:
        raise exception.ShareBackendException(msg=str(exc)) from exc
