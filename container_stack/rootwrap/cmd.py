# SPDX-License-Identifier: Apache-2.0
"""Console scripts that sudo starts: rootwrap, and its daemon.

The daemon is oslo.rootwrap's, with six things added that it lacks:

- its root logger has a handler, so that a refused command is an answer, not a crash (standard
  error is closed, and logging to it would raise);
- it goes when its client goes, kill -9 included, after the command under way has ended: it
  watches its standard input, a pipe held by the client;
- a byte on that pipe kills the command under way: how a deadline is kept by a client that has no
  right to signal root's processes;
- two signals at once end it: its own handler takes a lock that the interrupted code may hold;
- it starts a command without code of its own between fork and exec, so that Python can vfork:
  that saves two thirds of the time of a short command;
- what is a system call or two it does itself, if the filters admit it: that saves the rest.

Both run programs of the system's directories whatever the caller's PATH is, and obey the filters
alone: oslo.rootwrap of itself lets anybody run ``privsep-helper`` with any argument.
"""

import _thread
import configparser
import contextlib
import errno
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NoReturn

from oslo_rootwrap import cmd, wrapper
from oslo_rootwrap import daemon as rootwrap_daemon
from oslo_rootwrap import filters as rootwrap_filters

from container_stack import exceptions
from container_stack.rootwrap import limit, volume

#: Seconds in which killed commands must be gone before the daemon goes without them.
GRACE = 5.0
#: What the daemon does itself, by what stands for the program's name.
OWN = {limit.PROGRAM: limit.ACTIONS, volume.PROGRAM: volume.ACTIONS}


def rootwrap() -> None:
    """Run one command through the filters: ``container-stack-rootwrap CONFIG COMMAND...``."""
    if len(sys.argv) < 3:
        sys.exit("Usage: container-stack-rootwrap CONFIG COMMAND...")
    name, path, *command = sys.argv
    config, filters = _load(path)
    _set_environment(config)
    cmd.run_one_command(name, config, filters, command)


def daemon() -> None:
    """Serve commands through the filters: ``container-stack-rootwrap-daemon CONFIG``."""
    if len(sys.argv) != 2:
        sys.exit("Usage: container-stack-rootwrap-daemon CONFIG")
    config, filters = _load(sys.argv[1])
    _set_environment(config)
    logging.getLogger().addHandler(logging.NullHandler())
    # Whoever started this may wait for signals with sigwait(3), and blocked them for that.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    # oslo.rootwrap closes standard input; the copy stays.
    leash = os.dup(sys.stdin.fileno())
    os.set_inheritable(leash, False)
    # Not a threading.Thread: oslo.rootwrap joins those before it goes, and this one only reads.
    _thread.start_new_thread(_watch, (leash,))
    rootwrap_daemon.RootwrapClass = _Rootwrap  # type: ignore[misc]
    rootwrap_daemon.daemon_stop = _stop  # type: ignore[assignment]
    rootwrap_daemon.daemon_start(config, filters)


def _load(path: str) -> tuple[wrapper.RootwrapConfig, list[rootwrap_filters.CommandFilter]]:
    parser = configparser.RawConfigParser()
    try:
        with open(path, encoding="utf-8") as file:
            parser.read_file(file)
        config = wrapper.RootwrapConfig(parser)
    except (OSError, ValueError, configparser.Error) as exc:
        sys.exit(f"The configuration {path} is unusable: {exc}")
    if config.use_syslog:
        wrapper.setup_syslog(sys.argv[0], config.syslog_log_facility, config.syslog_log_level)
    filters = wrapper.load_filters(config.filters_path)
    return config, [each for each in filters if each.name != "privsep-helper"]


def _set_environment(config: wrapper.RootwrapConfig) -> None:
    os.environ["LC_ALL"] = "C"
    os.environ["PATH"] = ":".join(config.exec_dirs)


class _Rootwrap(rootwrap_daemon.RootwrapClass):
    """What the daemon serves: one method that runs one command through the filters."""

    @classmethod
    def cancel_timer(cls) -> None:
        # There is none before the first client comes.
        with contextlib.suppress(AttributeError):
            super().cancel_timer()

    def run_one_command(
        self, userargs: list[str], stdin: str | None = None
    ) -> tuple[int, str, str]:
        self.reset_timer()
        own = OWN.get(userargs[0]) if userargs else None
        if own is not None:
            admitted = any(each.match(userargs) for each in self.filters)
            return run_own(own, userargs[1:]) if admitted else (cmd.RC_UNAUTHORIZED, "", "")
        try:
            match = wrapper.match_filter(self.filters, userargs, self.config.exec_dirs)
        except wrapper.FilterMatchNotExecutable:
            return cmd.RC_NOEXECFOUND, "", ""
        except wrapper.NoFilterMatched:
            return cmd.RC_UNAUTHORIZED, "", ""
        if match.run_as != "root":
            return super().run_one_command(userargs, stdin)
        done = subprocess.run(
            match.get_command(userargs, self.config.exec_dirs),
            input=None if stdin is None else os.fsencode(stdin),
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            env=match.get_environment(userargs),
            check=False,
        )
        return done.returncode, os.fsdecode(done.stdout), os.fsdecode(done.stderr)


def run_own(
    actions: Mapping[str, Callable[..., None]], words: Sequence[str]
) -> tuple[int, str, str]:
    """Do what the words say; return what a program would: exit code, output, and error."""
    action, *values = words
    try:
        actions[action](*values)
    except OSError as exc:
        return 1, "", f"{action}: {os.strerror(exc.errno or errno.EIO)}"
    except exceptions.ContainerStackError as exc:
        return 1, "", f"{action}: {exc}"
    return 0, "", ""


def _stop(*_: object) -> NoReturn:
    # Once: what the main thread does next is to clean up, and nothing must interrupt that.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise SystemExit


def _watch(leash: int) -> None:
    word = b""
    with contextlib.suppress(OSError):
        word = os.read(leash, 1)
    if word:
        _kill_children()
    os.kill(os.getpid(), signal.SIGINT)


def _kill_children() -> None:
    end = time.monotonic() + GRACE
    while children := _children():
        for pid in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > end:
            return
        time.sleep(0.01)


def _children() -> list[int]:
    """Return the running children of this process (not those that only wait to be reaped)."""
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        with contextlib.suppress(OSError), open(f"/proc/{name}/stat", encoding="utf-8") as file:
            state, parent = file.read().rpartition(")")[2].split()[:2]
            if int(parent) == os.getpid() and state != "Z":
                found.append(int(name))
    return found


if __name__ == "__main__":
    daemon()
