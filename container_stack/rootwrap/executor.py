# SPDX-License-Identifier: Apache-2.0
"""Running privileged commands through oslo.rootwrap daemons.

A daemon answers in about the time of the command itself, where sudo and rootwrap started anew
take some 150 ms. One daemon serves one command at a time, so there is a pool of them, and long
commands have a pool of their own, as have slow ones.

As root there is no sudo, and the filters apply all the same: what works for root works for the
service's own user.
"""

import ast
import contextlib
import logging
import os
import queue
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from multiprocessing import managers
from typing import Any

from oslo_rootwrap import client as rootwrap_client
from oslo_rootwrap import cmd as rootwrap_cmd

from container_stack import exceptions
from container_stack.rootwrap import commands, deadlines

LOG = logging.getLogger(__name__)

#: Where `container-stack rootwrap install` puts the configuration.
CONFIG = "/etc/container-stack/rootwrap.conf"
#: One byte on the daemon's standard input: kill what you run, then go.
KILL = b"K"
#: What says that the daemon went without having read the command. (A Unix socket is "reset" only
#: if its other end closed with something unread: net/unix/af_unix.c, unix_release_sock().)
_UNREAD = (BrokenPipeError, ConnectionRefusedError, ConnectionResetError, FileNotFoundError)


def default_helper(config: str = CONFIG) -> tuple[str, ...]:
    """Return the root helper for this process: sudo, or as root the daemon itself."""
    if os.geteuid() == 0:
        return (sys.executable, "-m", "container_stack.rootwrap.cmd", config)
    return ("sudo", "-n", "container-stack-rootwrap-daemon", config)


class Executor:
    """Runs the catalogue's commands as root; safe under threads, and in forked children.

    :param helper: the command that starts a daemon; default :func:`default_helper`.
    :param state_dir: the directory that the filters were made for.
    :param short: daemons for quick commands, started when needed.
    :param long: daemons for commands marked long.
    :param slow: daemons for commands marked slow.
    """

    def __init__(
        self,
        helper: str | Sequence[str] | None = None,
        *,
        state_dir: str = commands.STATE_DIR,
        short: int = 4,
        long: int = 2,
        slow: int = 4,
    ) -> None:
        words = shlex.split(helper) if isinstance(helper, str) else helper
        self._helper = tuple(words or default_helper())
        self._sizes = (short, long, slow)
        self.state_dir = state_dir
        # By process: a forked child must not use its parent's daemons. And no lock, which one of
        # the parent's threads might hold as it forks.
        self._pools: dict[int, tuple[_Pool, ...]] = {}

    def run(
        self,
        command: commands.Command,
        *,
        timeout: float | None = None,
        stdin: str | None = None,
        **values: str | int,
    ) -> str:
        """Run a command to its end and return what it wrote to standard output.

        :param timeout: seconds, instead of the command's own deadline.
        :param stdin: what it reads, secrets too; it appears nowhere else.
        :raises InvalidRequest: a value has the wrong shape; nothing was run.
        :raises CommandFailed: it failed, or overran its deadline and was killed.
        :raises RootHelperUnavailable: the daemon can't be started or refuses the command.
        """
        argv = command.argv(self.state_dir, **values)
        deadline = command.deadline if timeout is None else timeout
        if LOG.isEnabledFor(logging.DEBUG):
            LOG.debug("Running %(command)s", {"command": shlex.join(argv)})
        with self._pool(command).client() as client:
            code, out, err = client.call(command, argv, deadline, stdin)
        if code in (rootwrap_cmd.RC_UNAUTHORIZED, rootwrap_cmd.RC_NOEXECFOUND) and not err:
            raise exceptions.RootHelperUnavailable(_refusal(command, code))
        if code:
            raise exceptions.CommandFailed(command.name, code, err)
        return out

    def close(self) -> None:
        """Stop the daemons. The executor can be used again and starts new ones."""
        for pool in self._pools.pop(os.getpid(), ()):
            pool.close()

    def _pool(self, command: commands.Command) -> "_Pool":
        pid = os.getpid()
        pools = self._pools.get(pid)
        if pools is None:
            made = tuple(_Pool(self._helper, size) for size in self._sizes)
            pools = self._pools.setdefault(pid, made)
        return pools[2 if command.slow else int(command.long)]


def _refusal(command: commands.Command, code: int) -> str:
    if code == rootwrap_cmd.RC_NOEXECFOUND:
        return f"{command.program} is not installed in rootwrap's exec_dirs; install it."
    return (
        f"rootwrap's filters refuse {command.name}; "
        "install the filters of this version with `container-stack rootwrap install`."
    )


class _Pool:
    """Daemon clients, lent out one caller each, the last returned first (it is warm)."""

    def __init__(self, helper: tuple[str, ...], size: int) -> None:
        self._free: queue.LifoQueue[_Client] = queue.LifoQueue()
        due = deadlines.Deadlines()
        self._clients = [_Client(helper, due) for _ in range(size)]
        for client in self._clients:
            self._free.put(client)

    @contextlib.contextmanager
    def client(self) -> "Iterator[_Client]":
        client = self._free.get()
        try:
            yield client
        finally:
            self._free.put(client)

    def close(self) -> None:
        for client in self._clients:
            client.close()


class _DaemonLostError(Exception):
    """The daemon went away in the middle of a command that must not be run twice."""


class _Client(rootwrap_client.Client):
    """A daemon client with a deadline, which repeats only what may be repeated."""

    def __init__(self, helper: tuple[str, ...], due: deadlines.Deadlines | None = None) -> None:
        super().__init__(helper)
        self._deadlines = due or deadlines.Deadlines()
        self._guard = threading.Lock()
        self._running: commands.Command | None = None
        self._deadline = 0.0
        self._overran = False

    def call(
        self,
        command: commands.Command,
        argv: Sequence[str],
        deadline: float,
        stdin: str | None = None,
    ) -> tuple[int, str, str]:
        """Run one command and return its exit code, standard output and standard error.

        :raises CommandFailed: it overran its deadline, or its outcome is unknown.
        """
        with self._guard:
            self._running, self._deadline, self._overran = command, deadline, False
        try:
            # A daemon that idled out is no reason to doubt a command that it never saw.
            self._need_restart |= self._process is not None and self._process.poll() is not None
            result = self.execute(list(argv), stdin)
        except (_DaemonLostError, managers.RemoteError) as exc:
            if not self._overran:
                raise exceptions.CommandFailed(command.name, -1, f"rootwrap: {exc}") from exc
            result = (-9, "", "")
        finally:
            with self._guard:
                self._running = None
        if self._overran:
            raise exceptions.CommandFailed(command.name, result[0], timed_out=True)
        return result

    def close(self) -> None:
        """Stop the daemon and wait until it is gone, though not for ever."""
        with self._exec_sem, self._mutex:
            process = self._process
            if self._initialized and self._finalize is not None and process is not None:
                self._finalize()
                self._initialized = False
                # Its end of the connection goes with the last reference.
                self._manager = self._proxy = None
                if process.stdin is not None:
                    process.stdin.close()
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    LOG.warning("The root helper, process %d, doesn't end.", process.pid)
                for pipe in (process.stdout, process.stderr):
                    if pipe is not None:
                        pipe.close()

    # The parent class has it done at the end of every process that has a copy of this object.
    @staticmethod
    def _shutdown(
        process: "subprocess.Popen[bytes]", manager: managers.BaseManager, *_: Any, **__: Any
    ) -> None:
        """Stop a daemon, unless it is the parent's of this forked process."""
        with contextlib.suppress(ChildProcessError):
            if process.returncode is None:
                os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            rootwrap_client.Client._shutdown(process, manager)

    def _kill(self) -> None:
        with self._guard:
            process = self._process
            if self._running is None or process is None or process.stdin is None:
                return
            self._overran = self._need_restart = True
            with contextlib.suppress(OSError):
                process.stdin.write(KILL)
                process.stdin.flush()

    # The parent class repeats a command whose answer was lost; EOFError, OSError and an answer
    # of None tell it so.
    def _run_one_command(
        self, proxy: object, cmd: list[str], stdin: str | None
    ) -> tuple[int, str, str]:
        try:
            # The start of a daemon, which was before, doesn't count.
            with self._deadlines.within(self._deadline, self._kill):
                result: tuple[int, str, str] | None = super()._run_one_command(proxy, cmd, stdin)
            if result is None:
                raise EOFError
        except (EOFError, OSError) as exc:
            seen = not isinstance(exc, _UNREAD)
            repeatable = self._running is not None and self._running.idempotent
            if self._overran or (seen and not repeatable):
                raise _DaemonLostError("the daemon went away while the command ran") from exc
            raise
        return result

    def _initialize(self) -> None:
        self._process = None
        try:
            super()._initialize()
        except Exception as exc:
            raise exceptions.RootHelperUnavailable(
                f"The root helper {shlex.join(self._start_command)!r} doesn't start: "
                f"{self._last_words(exc)}. Check the root helper's option, and sudo by `sudo -nl`."
            ) from exc
        self._need_restart = False

    def _last_words(self, exc: Exception) -> str:
        process = self._process
        if process is None or process.stdin is None or process.stderr is None:
            return str(exc)
        # It ends by itself when its input does: as another user's it can't be killed.
        process.stdin.close()
        # What a helper that was quick to end said, the parent class has read: it quotes that.
        quoted = str(exc).partition("stderr:\n")[2]
        said: bytes = ast.literal_eval(quoted) if quoted else process.stderr.read()
        lines = said.decode(errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else "it ended without a word"
