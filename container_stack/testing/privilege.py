# SPDX-License-Identifier: Apache-2.0
"""A throw-away state directory in which privileged commands work, through real filters."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from container_stack.rootwrap import commands, config, executor


def make_executor(
    state_dir: Path,
    *,
    drivers: Iterable[str] = tuple(commands.DRIVERS),
    more: Sequence[commands.Command] = (),
    sudo: bool = False,
) -> executor.Executor:
    """Install filters for ``state_dir`` beside it and return an executor that obeys them.

    The configuration goes to ``<state_dir>.rootwrap``. Close the executor when done.

    :param more: commands of your own.
    :param sudo: start the daemon through sudo, as a service's own user does.
    """
    state_dir.mkdir(parents=True, exist_ok=True)
    directory = state_dir.with_name(state_dir.name + ".rootwrap")
    scripts = str(Path(sys.executable).parent)
    config.install(directory, drivers, str(state_dir), scripts)
    if more:
        lines = "\n".join(command.filter(str(state_dir), scripts) for command in more)
        own = directory / "rootwrap.d" / "own.filters"
        own.write_text(f"[Filters]\n{lines}\n", encoding="utf-8")
    daemon = (
        sys.executable,
        "-m",
        "container_stack.rootwrap.cmd",
        str(directory / "rootwrap.conf"),
    )
    helper = ("sudo", "-n", *daemon) if sudo else daemon
    return executor.Executor(helper, state_dir=str(state_dir))
