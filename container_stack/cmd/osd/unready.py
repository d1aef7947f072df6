# SPDX-License-Identifier: Apache-2.0
"""What is answered for a driver that isn't ready: an error at once, where silence would be worse.

The engine waits for a plugin that says nothing, and its own start waits with it.
"""

import contextlib
import json
import logging
import socket
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from container_stack import exceptions
from container_stack.drivers.osd import servers

LOG = logging.getLogger(__name__)


class Unready:
    """Stands at a driver's sockets until it is ready.

    :param name: of the driver.
    :param why: it isn't; the error that is told.
    """

    def __init__(self, name: str, why: str) -> None:
        self.why = why
        self._name = name
        self._undo = contextlib.ExitStack()

    def start(
        self, paths: Iterable[str], group: str, inherited: Mapping[str, socket.socket]
    ) -> None:
        """Answer at sockets.

        :raises HostNotReady: one can't be made; nothing answers.
        """
        with contextlib.ExitStack() as undo:
            for path in paths:
                handed = inherited.get(path)
                server = servers.Server(
                    self,
                    path,
                    group=group,
                    threads=1,
                    slow_threads=1,
                    inherited=handed.dup() if handed else None,
                )
                undo.callback(server.start().stop)
            self._undo = undo.pop_all()

    def stop(self) -> None:
        """Make room; idempotent."""
        self._undo.close()

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        """Answer as WSGI wants it, in the form of who asks."""
        said = str(exceptions.ServiceUnavailable(f"Driver {self._name} isn't ready: {self.why}"))
        path = environ["PATH_INFO"]
        if path == "/Plugin.Activate":
            status, answer = "200 OK", json.dumps({"Implements": ["VolumeDriver"]})
        elif path.startswith("/VolumeDriver."):
            status, answer = "200 OK", json.dumps({"Err": said})
        else:
            status, answer = "503 Service Unavailable", f"{said}\n"
        data = answer.encode()
        kind = "application/json" if status.startswith("200") else "text/plain; charset=utf-8"
        start(status, [("Content-Type", kind), ("Content-Length", str(len(data)))])
        return [data]
