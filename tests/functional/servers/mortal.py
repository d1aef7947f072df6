# SPDX-License-Identifier: Apache-2.0
"""A service of servers that counts its steps, and in which one of them is the last."""

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from typing import Any

from container_stack import exceptions
from container_stack.host import containers
from container_stack.rootwrap import commands, executor
from container_stack.servers import assembly, lives, model

from . import server_host

#: The engine's calls that change something.
CHANGES = ("create", "start", "stop", "remove", "pause", "unpause", "rename", "restart")


class Fate:
    """Counts steps, and does something when one of them is done.

    :param last: the number of that step; 0 is none.
    """

    def __init__(self, last: int, act: Callable[[], None]) -> None:
        self.steps = 0
        self._last = last
        self._act = act
        self._guard = threading.Lock()

    def step(self) -> None:
        with self._guard:
            self.steps += 1
            is_last = self.steps == self._last
        if is_last:
            self._act()

    def bind(self, thing: object, *names: str) -> None:
        """Let every call of these methods be a step."""
        for name in names:
            setattr(thing, name, self._stepping(getattr(thing, name)))

    def _stepping(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def stepping(*args: Any, **kwargs: Any) -> Any:
            result = method(*args, **kwargs)
            self.step()
            return result

        return stepping


class RootExecutor(executor.Executor):
    """Runs the catalogue's commands at once: this process is root, and there are many of it."""

    def run(
        self,
        command: commands.Command,
        *,
        timeout: float | None = None,
        stdin: str | None = None,
        **values: str | int,
    ) -> str:
        argv = command.argv(self.state_dir, **values)
        done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False)
        if done.returncode:
            raise exceptions.CommandFailed(command.name, done.returncode, done.stderr)
        return done.stdout


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def fail() -> None:
    raise exceptions.CommandFailed("cstest", 1, "this step was the last")


def service(settings: assembly.Settings, fate: Fate) -> assembly.Service:
    """Return a service that counts its steps, each when it is done."""
    engine = containers.Engine(settings.docker_url)
    run = RootExecutor(state_dir=settings.state_dir)
    fate.bind(engine, *CHANGES)
    made = assembly.assemble(settings, engine, run)
    life: lives.Lives = made.servers.life
    fate.bind(life.records, "write", "remove")
    # Their own steps have tests of their own.
    fate.bind(life.interfaces, "plug", "unplug", "unplug_all")
    return made


@contextlib.contextmanager
def waiting(fate: Fate) -> Iterator[None]:
    """Wait for the network's events, of which one comes at once."""
    fate.step()
    yield
    fate.step()


def act(
    phase: str,
    settings: assembly.Settings,
    image_id: str,
    plan: model.Plan,
    second: model.Port,
    last: int,
) -> None:
    """Do a part of a server's life in this process, and be killed after a step."""
    fate = Fate(last, kill)
    servers = service(settings, fate).servers
    if phase == "boot":
        servers.spawn(plan, image_id, plugging=waiting(fate))
    elif phase == "power":
        servers.power_off(plan.id)
        servers.power_on(plan, plugging=waiting(fate))
    elif phase == "ports":
        servers.attach_port(plan.id, second)
        servers.detach_port(plan.id, second.id)
    else:
        servers.destroy(plan.id)


def second_port(host: server_host.Host) -> model.Port:
    return server_host.port(number=6, prefix=host.prefix)
