# SPDX-License-Identifier: Apache-2.0
"""Connections of swiftclient's, which no two threads may use at once."""

import collections
import contextlib
from collections.abc import Iterator
from typing import Any

from swiftclient import client
from swiftclient import exceptions as swift_exceptions

from container_stack import exceptions
from container_stack.drivers import swift_errors, swift_login

#: Times that a request is repeated, after 0.5, 1, 2 and 4 seconds.
RETRIES = 4
#: Connections kept for the next requests.
IDLE = 16


class Connections:
    """Each request borrows one; threads may share them."""

    def __init__(self, credentials: swift_login.Credentials, session: Any) -> None:
        # Otherwise swiftclient logs how tokens begin.
        client.logger_settings["reveal_sensitive_prefix"] = 0
        self._credentials = credentials
        self._session = session
        self._idle: collections.deque[Any] = collections.deque(maxlen=IDLE)

    @contextlib.contextmanager
    def request(
        self, what: str, url: str, conflict: type[exceptions.ContainerStackError]
    ) -> Iterator[Any]:
        """Lend a connection to an account, and let only errors of ours out.

        :param what: the request, for messages.
        :param conflict: what it means that a precondition failed.
        """
        with swift_errors.translated(what, conflict):
            try:
                swift = self._idle.pop()
            except IndexError:
                swift = self._connect(url)
            try:
                yield swift
            except swift_exceptions.ClientException:
                self._idle.append(swift)
                raise
            except BaseException:
                # Half an answer may be on its way.
                swift.close()
                raise
            self._idle.append(swift)

    def _connect(self, url: str) -> Any:
        return client.Connection(
            session=self._session,
            os_options={"object_storage_url": url},
            retries=RETRIES,
            starting_backoff=0.5,
            cacert=self._credentials.ca_file or None,
            timeout=self._credentials.timeout,
        )
