# SPDX-License-Identifier: Apache-2.0
"""Actions that are killed, or fail, at each of their steps in turn.

A step is a privileged command, its return, a request over HTTP, or a change to a file below the
state directory.
"""

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

from container_stack import exceptions
from container_stack.rootwrap import executor

_CHANGES = {"os.rename", "os.remove", "os.truncate", "fcntl.ioctl", "http.client.send"}


def kills(
    runner: executor.Executor, action: Callable[[], object], *, every: int = 1
) -> Iterator[int]:
    """Kill an action, in a process of its own, at its first step, then at its second, and so on.

    Yields the step's number after each kill; ends when the action survived to its end.

    :param every: kill at each n-th step alone, where steps take long.
    """
    step = 1
    while _killed_at(runner, action, step):
        yield step
        step += every
    assert step > 2, "the action has no steps to be killed at"


def _killed_at(runner: executor.Executor, action: Callable[[], object], step: int) -> bool:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            _count_down(runner, step)
            action()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    _pid, status = os.waitpid(pid, 0)
    assert not os.WIFEXITED(status) or os.WEXITSTATUS(status) == 0, "the action failed"
    return os.WIFSIGNALED(status)


def _count_down(runner: executor.Executor, steps: int) -> None:
    """Kill this process at a step to come; only for a child, since there is no way back."""
    state_dir = runner.state_dir + "/"
    left = steps

    def step() -> None:
        nonlocal left
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(event: str, args: tuple[Any, ...]) -> None:
        changes = event in _CHANGES or (event == "open" and _writes(args, state_dir))
        if changes and not _is_lock(args[0]):
            step()

    run = runner.run

    def run_and_count(*args: Any, **kwargs: Any) -> str:
        step()
        out = run(*args, **kwargs)
        step()
        return out

    sys.addaudithook(watch)
    runner.run = run_and_count  # type: ignore[method-assign]


def _writes(opened: tuple[Any, ...], below: str) -> bool:
    path, _mode, flags = opened
    inside = isinstance(path, str) and path.startswith(below)
    return inside and bool(flags & (os.O_WRONLY | os.O_RDWR))


def _is_lock(path: object) -> bool:
    return isinstance(path, str) and "/locks/" in path


def fails_at(runner: executor.Executor, step: int, action: Callable[[], object]) -> bool:
    """Return whether an action failed when its command of this number did."""
    run = runner.run
    left = step

    def run_or_fail(*args: Any, **kwargs: Any) -> str:
        nonlocal left
        left -= 1
        if not left:
            raise exceptions.CommandFailed("test", 1, "the test wants it so")
        return run(*args, **kwargs)

    runner.run = run_or_fail  # type: ignore[method-assign]
    try:
        action()
    except exceptions.ContainerStackError:
        return True
    finally:
        runner.run = run  # type: ignore[method-assign]
    return False


def write_within(path: os.PathLike[str], text: str, seconds: float = 20.0) -> None:
    """Write a file, from a process of its own: on a frozen file system it would never return."""
    pid = os.fork()
    if pid == 0:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.write(fd, text.encode())
        os.fsync(fd)
        os._exit(0)
    end = time.monotonic() + seconds
    while os.waitpid(pid, os.WNOHANG) == (0, 0):
        if time.monotonic() > end:
            os.kill(pid, signal.SIGKILL)
            raise AssertionError(f"nobody can write {path}")
        time.sleep(0.01)
