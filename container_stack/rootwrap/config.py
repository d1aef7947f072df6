# SPDX-License-Identifier: Apache-2.0
"""The files that an operator installs so that commands may run as root."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from container_stack import exceptions
from container_stack.rootwrap import commands

#: Programs are looked up here and nowhere else: never in a venv or a user's directory.
EXEC_DIRS = "/sbin,/usr/sbin,/bin,/usr/bin"
#: Our filters among those of Glance's own rootwrap, by the name that its documentation uses.
IMAGES = "images.filters"


def texts(
    directory: str,
    drivers: Iterable[str],
    state_dir: str | None = None,
    scripts: str = commands.SCRIPTS,
) -> Mapping[str, str]:
    """Return the text of every file to install, keyed by its path below ``directory``.

    :param state_dir: None for each driver's own.
    :param scripts: the directory with this package's console scripts.
    :raises InvalidRequest: a driver has no filters, or the state directory is unusable.
    """
    files = {"rootwrap.conf": _rootwrap_conf(directory)}
    for driver in drivers:
        if driver not in commands.DRIVERS:
            known = ", ".join(sorted(commands.DRIVERS))
            raise exceptions.InvalidRequest(
                f"There are no filters for driver {driver!r}; there are: {known}."
            )
        files[f"rootwrap.d/{driver}.filters"] = commands.filters(driver, state_dir, scripts)
    return files


def install(
    directory: Path,
    drivers: Iterable[str],
    state_dir: str | None = None,
    scripts: str = commands.SCRIPTS,
) -> list[Path]:
    """Write the files, readable by all and writable by their owner, and return their paths."""
    found = texts(str(directory), drivers, state_dir, scripts).items()
    return write({directory / name: text for name, text in found})


def write(files: Mapping[Path, str]) -> list[Path]:
    """Write files as :func:`install` does, each in one step, and return their paths."""
    for path, text in files.items():
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        # Daemons start at any time, and leave out filters whose names begin with a dot.
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            draft.write_text(text, encoding="utf-8")
            draft.chmod(0o644)
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
    return list(files)


def sudoers(user: str, daemon: str, directory: str) -> str:
    """Return the sudoers line that lets a service's user start the daemon and nothing else."""
    return f"{user} ALL=(root) NOPASSWD: {daemon} {directory}/rootwrap.conf\n"


def brick_sudoers(user: str, rootwrap: str, directory: str) -> str:
    """Return the sudoers line that lets a service's user attach remote volumes."""
    words = " ".join(commands.programs.BRICK.argv())
    return f"{user} ALL=(root) NOPASSWD: {rootwrap} {directory}/rootwrap.conf {words}\n"


def _rootwrap_conf(directory: str) -> str:
    return (
        "# Configuration of container-stack-rootwrap. Root must own this file, its directory\n"
        "# and the filters: who can write them is root.\n"
        "[DEFAULT]\n"
        f"filters_path = {directory}/rootwrap.d\n"
        f"exec_dirs = {EXEC_DIRS}\n"
        "use_syslog = False\n"
        "# Seconds without a command after which a daemon goes; the next command starts another.\n"
        "daemon_timeout = 600\n"
        "rlimit_nofile = 1024\n"
    )
