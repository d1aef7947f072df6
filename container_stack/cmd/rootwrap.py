# SPDX-License-Identifier: Apache-2.0
"""``container-stack rootwrap``: what lets a service's user run the catalogue's commands as root."""

import argparse
import contextlib
import os
import pwd
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from cliff import command, lister

from container_stack import exceptions
from container_stack.rootwrap import commands, config

DAEMON = "container-stack-rootwrap-daemon"
DIRECTORY = "/etc/container-stack"
SUDOERS = "/etc/sudoers.d"
#: Where sudo looks for a program that is named without its directory, as Debian sets it up.
SECURE_PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")

_USER = re.compile(r"[a-z_][a-z0-9_-]*")
_PATH = re.compile(r"(?:/[A-Za-z0-9._+-]+)+")


class Filters(command.Command):
    """Print the filters file of a driver: every command that it may run as root."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("driver", choices=sorted(commands.DRIVERS))
        _add_state_dir(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        self.app.stdout.write(commands.filters(parsed_args.driver, parsed_args.state_dir))


class Install(lister.Lister):
    """Install rootwrap.conf, the drivers' filters, and with --user the line for sudo."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "--driver",
            action="append",
            choices=sorted(commands.DRIVERS),
            help="repeat for several; default: every driver",
        )
        parser.add_argument("--directory", default=DIRECTORY, help="default: %(default)s")
        parser.add_argument("--user", help="the service's user, such as manila")
        parser.add_argument("--sudoers-directory", default=SUDOERS, help="default: %(default)s")
        parser.add_argument("--dry-run", action="store_true", help="change nothing")
        _add_state_dir(parser)
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[tuple[str, str], list[tuple[str, str]]]:
        directory = Path(os.path.abspath(parsed_args.directory))
        drivers = parsed_args.driver or sorted(commands.DRIVERS)
        files = dict(_files(directory, drivers, parsed_args.state_dir))
        rule = None
        if parsed_args.user:
            rule = Path(parsed_args.sudoers_directory, "container-stack")
            files[rule] = sudoers(parsed_args.user, daemon(), directory)
        states = [(str(path), _state(path, text)) for path, text in files.items()]
        if not parsed_args.dry_run:
            with _as_root():
                config.install(directory, drivers, parsed_args.state_dir)
                if rule:
                    install_sudoers(rule, files[rule])
        if rule:
            self.app.stderr.write(_advice(daemon(), directory))
        return ("File", "State"), states


def daemon() -> str:
    """Return the path of the daemon's console script: beside this Python, or in PATH.

    :raises HostNotReady: it isn't installed.
    """
    beside = os.path.join(os.path.dirname(sys.executable), DAEMON)
    found = beside if os.access(beside, os.X_OK) else shutil.which(DAEMON)
    if not found:
        raise exceptions.HostNotReady(f"{DAEMON} isn't installed; install this package with pip.")
    return found


def sudoers(user: str, program: str, directory: Path) -> str:
    """Return the text that lets ``user`` start the daemon with our configuration.

    :raises InvalidRequest: there is no such user, or a path means something else to sudo.
    """
    with contextlib.suppress(KeyError):
        if _USER.fullmatch(user) and pwd.getpwnam(user):
            for path in (program, str(directory)):
                if not _PATH.fullmatch(path):
                    raise exceptions.InvalidRequest(f"sudo can't take the path {path!r} literally.")
            return config.sudoers(user, program, str(directory))
    raise exceptions.InvalidRequest(f"There is no user {user!r} on this host; make it first.")


def install_sudoers(path: Path, text: str) -> None:
    """Put a file into sudo's directory after visudo has found it good; it is whole or not there.

    :raises HostNotReady: sudo isn't installed.
    :raises CommandFailed: visudo refuses the text; nothing was changed.
    """
    visudo = shutil.which("visudo", path=config.EXEC_DIRS.replace(",", os.pathsep))
    if not visudo:
        raise exceptions.HostNotReady("visudo is missing; install sudo.")
    # sudo skips files with a dot in their name.
    draft = path.with_name(f"{path.name}.{os.getpid()}.draft")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.chmod(0o440)
        checked = subprocess.run(
            [visudo, "-cf", draft], capture_output=True, text=True, check=False
        )
        if checked.returncode:
            raise exceptions.CommandFailed("visudo", checked.returncode, checked.stderr)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _advice(program: str, directory: Path) -> str:
    """Return what the operator should know about a daemon that isn't in the usual place."""
    lines = []
    if os.path.dirname(program) not in SECURE_PATH or str(directory) != DIRECTORY:
        helper = f"sudo -n {program} {directory}/rootwrap.conf"
        lines.append(f"Set container_stack_root_helper = {helper}\n")
    places = (program, os.path.dirname(program))
    if any(os.stat(place).st_uid for place in places):
        lines.append(f"{program} doesn't belong to root alone: who can change it is root.\n")
    return "".join(lines)


def _files(directory: Path, drivers: list[str], state_dir: str) -> Iterator[tuple[Path, str]]:
    for name, text in config.texts(str(directory), drivers, state_dir).items():
        yield directory / name, text


def _state(path: Path, text: str) -> str:
    try:
        return "current" if path.read_text(encoding="utf-8") == text else "changed"
    except FileNotFoundError:
        return "new"
    except PermissionError:
        return "unknown"


@contextlib.contextmanager
def _as_root() -> Iterator[None]:
    try:
        yield
    except PermissionError as exc:
        raise exceptions.HostNotReady(f"{exc.filename}: run this as root.") from exc


def _add_state_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--state-dir",
        default=commands.STATE_DIR,
        help="directory that the commands are confined to; default: %(default)s",
    )
