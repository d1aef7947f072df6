# SPDX-License-Identifier: Apache-2.0
"""What happens in a Docker Engine, while it happens."""

import contextlib
from typing import Any, Self

from container_stack import exceptions
from container_stack.host import engine_client, engine_json
from container_stack.host import engine_model as model


class Events:
    """Events as they happen; ends when it is closed, which any thread may do.

    Iterating raises :class:`EngineUnavailable` when the engine goes away: ask again, with
    ``since`` the time of the last event.
    """

    def __init__(self, url: str, stream: Any) -> None:
        self._url = url
        self._stream = stream
        self._closed = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> model.Event:
        try:
            with engine_client.translated(self._url):
                return engine_json.event(next(self._stream))
        except StopIteration:
            # The SDK makes no difference between an end and a loss.
            if self._closed:
                raise
        raise exceptions.EngineUnavailable(
            f"The Docker Engine at {self._url} stopped telling events; is dockerd running?"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop waiting, and close the connection; idempotent."""
        if not self._closed:
            self._closed = True
            with contextlib.suppress(OSError):
                self._stream.close()
