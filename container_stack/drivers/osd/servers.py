# SPDX-License-Identifier: Apache-2.0
"""WSGI applications on unix sockets, with threads for what is slow and others for what isn't."""

import collections
import contextlib
import grp
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Self

from waitress import server as waitress_server
from waitress import task as waitress_task
from waitress import wasyncore

from container_stack import exceptions

LOG = logging.getLogger(__name__)

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
#: Says something of a request's method and path.
Is = Callable[[str, str], bool]

#: Bytes of a request.
LARGEST_BODY, LARGEST_HEADER = 2**20, 2**16
#: Bytes of an answer that is sent at once, when it is whole.
SMALL = 2**15
#: Who may connect: the owner and the group.
MODE = 0o660


def changes(method: str, _path: str) -> bool:
    """Tell whether a request changes something, for which devices and servers are waited."""
    return method not in ("GET", "HEAD", "OPTIONS")


class Server:
    """One application on one unix socket.

    :param path: of the socket; its directory is made. Who finds it can connect at once.
    :param group: whom the socket belongs to, by name; "" leaves that to the process.
    :param threads: for what is quick.
    :param slow_threads: for what is slow; when all of them hang, what is quick is still answered.
    :param is_instant: waits for nothing and nobody: whoever has read it answers it, since to wake
        another thread takes longer.
    :param inherited: a socket that listens already, as systemd hands them over; it isn't removed.
    """

    def __init__(
        self,
        application: Application,
        path: str,
        *,
        group: str = "",
        mode: int = MODE,
        threads: int = 4,
        slow_threads: int = 8,
        is_slow: Is = changes,
        is_instant: Is = lambda method, path: False,
        inherited: socket.socket | None = None,
    ) -> None:
        self.path = path
        self._application = application
        self._group = group
        self._mode = mode
        self._threads = (threads, slow_threads)
        self._kinds = (is_slow, is_instant)
        self._inherited = inherited
        self._undo = contextlib.ExitStack()

    def start(self) -> Self:
        """Serve, in threads.

        :raises HostNotReady: the socket can't be made; nothing was changed.
        """
        with contextlib.ExitStack() as undo:
            listening = self._inherited or undo.enter_context(
                contextlib.closing(listen(self.path, self._group, self._mode))
            )
            if self._inherited is None:
                undo.callback(_remove, self.path, os.stat(self.path).st_ino)
            lanes = _Lanes(*self._threads, *self._kinds)
            server = _server(self._application, listening, lanes)
            loop = _Loop(server, lanes, self.path)
            undo.callback(_end, server, lanes, loop)
            loop.start()
            self._undo = undo.pop_all()
        return self

    def stop(self) -> None:
        """Finish what was asked for, for some seconds, and serve no more; idempotent."""
        self._undo.close()


def listen(path: str, group: str = "", mode: int = MODE) -> socket.socket:
    """Return a listening socket, which takes the place of what stood at its path.

    It comes there by one rename, with its group and mode: nobody else ever could connect.

    :raises HostNotReady: the path, or the group, can't be used.
    """
    directory = os.path.dirname(path)
    made = os.path.join(directory, f".{os.getpid()}-{threading.get_ident()}.new")
    found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        os.makedirs(directory, mode=0o755, exist_ok=True)
        # Connecting is refused until listen(), which comes after the mode.
        found.bind(made)
        os.chmod(made, mode)
        if group:
            os.chown(made, -1, grp.getgrnam(group).gr_gid)
        found.listen(128)
        os.rename(made, path)
    except (OSError, KeyError) as exc:
        found.close()
        with contextlib.suppress(OSError):
            os.unlink(made)
        why = f"there is no group {group}" if isinstance(exc, KeyError) else exc
        raise exceptions.HostNotReady(f"The socket {path} can't be made: {why}.") from exc
    return found


def _remove(path: str, inode: int) -> None:
    with contextlib.suppress(FileNotFoundError):
        if os.stat(path).st_ino == inode:  # else another daemon has come
            os.unlink(path)


def _server(application: Application, listening: socket.socket, lanes: "_Lanes") -> Any:
    adjustments = waitress_server.Adjustments(
        sockets=[listening],
        ident="osd",
        connection_limit=1000,
        max_request_body_size=LARGEST_BODY,
        max_request_header_size=LARGEST_HEADER,
        # It is noticed while a request is answered that its sender has gone.
        channel_request_lookahead=1,
        # A list of many volumes stays in memory; only what is larger goes to a file.
        outbuf_overflow=2**23,
        log_socket_errors=False,
        # Nothing here looks at what proxies say.
        clear_untrusted_proxy_headers=False,
    )
    # Head and body of an answer leave together: half the work where threads wait for each other.
    adjustments.send_bytes = SMALL
    return waitress_server.UnixWSGIServer(
        application,
        _sock=listening,
        dispatcher=lanes,
        adj=adjustments,
        bind_socket=False,
        sockinfo=(listening.family, listening.type, listening.proto, listening.getsockname()),
    )


class _Loop(threading.Thread):
    """Polls a server's connections; only who polls them may close them."""

    def __init__(self, server: Any, lanes: "_Lanes", path: str) -> None:
        super().__init__(name=f"serve {path}", daemon=True)
        self._server = server
        self._lanes = lanes
        self._lock = threading.Lock()
        self._ended = False

    def run(self) -> None:
        """Poll until the end, and close."""
        while not self._ended:
            wasyncore.loop(timeout=1.0, use_poll=True, map=self._server._map, count=1)
            self._lanes.answer()
        with self._lock:
            wasyncore.close_all(self._server._map, ignore_all=True)

    def end(self) -> None:
        """End it, without waiting for something to happen on a connection."""
        with self._lock:
            self._ended = True
            self._server.pull_trigger()
        self.join(10)


def _end(server: Any, lanes: "_Lanes", loop: _Loop) -> None:
    server.accepting = False
    lanes.shutdown()
    _until(lambda: not any(c.total_outbufs_len for c in list(server.active_channels.values())))
    loop.end()


def _until(done: Callable[[], bool], seconds: float = 2.0) -> None:
    deadline = time.monotonic() + seconds
    while not done() and time.monotonic() < deadline:
        time.sleep(0.01)


class _Pool(waitress_task.ThreadedTaskDispatcher):  # type: ignore[misc]
    """Waitress's threads, without a line in the log for each request that waits."""

    def add_task(self, task: Any) -> None:
        with self.lock:
            self.queue.append(task)
            self.queue_cv.notify()


class _Lanes:
    """What waitress takes for a dispatcher: requests that are slow have threads of their own."""

    def __init__(self, threads: int, slow_threads: int, is_slow: Is, is_instant: Is) -> None:
        self._is_slow, self._is_instant = is_slow, is_instant
        self._instant: collections.deque[Any] = collections.deque()
        self._quick, self._slow = _Pool(), _Pool()
        self._quick.set_thread_count(threads)
        self._slow.set_thread_count(slow_threads)

    def add_task(self, channel: Any) -> None:
        """Take a connection of which a whole request was read."""
        request = channel.requests[0]
        method, path = getattr(request, "command", ""), getattr(request, "path", "")
        if self._is_instant(method, path):
            # Not yet: who read it holds the connection's lock.
            self._instant.append(channel)
        else:
            (self._slow if self._is_slow(method, path) else self._quick).add_task(channel)

    def answer(self) -> None:
        """Answer what is instant; the thread that polls does."""
        while self._instant:
            self._instant.popleft().service()

    def shutdown(self, cancel_pending: bool = True, timeout: float = 5) -> bool:
        """Wait for what runs."""
        ended = [pool.shutdown(cancel_pending, timeout) for pool in (self._slow, self._quick)]
        return any(ended)
