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
from collections.abc import Iterator, Sequence
from pathlib import Path

from cliff import command, lister

from container_stack import exceptions
from container_stack.rootwrap import commands, config

DAEMON = "container-stack-rootwrap-daemon"
ROOTWRAP = "container-stack-rootwrap"
DIRECTORY = "/etc/container-stack"
SUDOERS = "/etc/sudoers.d"
#: By driver: the option that names the root helper in its service's configuration.
HELPER_OPTIONS = {
    "manila": "container_stack_root_helper",
    "nova": "root_helper",
    "osd": "root_helper",
}
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
        text = commands.filters(parsed_args.driver, parsed_args.state_dir, scripts())
        self.app.stdout.write(text)


class Install(lister.Lister):
    """Install rootwrap.conf, the drivers' filters, and with --user the lines for sudo."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "--driver",
            action="append",
            choices=sorted(commands.DRIVERS),
            help="repeat for several; default: every driver",
        )
        parser.add_argument("--directory", default=DIRECTORY, help="default: %(default)s")
        parser.add_argument(
            "--glance-directory",
            help="also put images.filters there, for Glance's own rootwrap: such as "
            "/etc/glance/rootwrap.d",
        )
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
        files = _files(directory, drivers, parsed_args.state_dir)
        if parsed_args.glance_directory:
            place = Path(os.path.abspath(parsed_args.glance_directory))
            text = commands.filters("glance", parsed_args.state_dir, scripts())
            files[place / config.IMAGES] = text
        rule = None
        if parsed_args.user:
            # One file for each, as several services may share a host.
            rule = Path(parsed_args.sudoers_directory, f"container-stack-{parsed_args.user}")
            text = sudoers(parsed_args.user, daemon(), directory, drivers)
        states = [(str(path), _state(path, text)) for path, text in files.items()]
        if rule:
            states.append((str(rule), _state(rule, text)))
        if not parsed_args.dry_run:
            with _as_root():
                config.write(files)
                if rule:
                    install_sudoers(rule, text)
        if rule:
            self.app.stderr.write(_advice(daemon(), directory, drivers))
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


def scripts() -> str:
    """Return the directory of this package's console scripts."""
    return os.path.dirname(daemon())


def sudoers(user: str, program: str, directory: Path, drivers: Sequence[str] = ("manila",)) -> str:
    """Return the text that lets ``user`` start what the drivers need, with our configuration.

    :param program: the daemon.
    :raises InvalidRequest: there is no such user, or a path means something else to sudo.
    """
    with contextlib.suppress(KeyError):
        if _USER.fullmatch(user) and pwd.getpwnam(user):
            for path in (program, str(directory)):
                if not _PATH.fullmatch(path):
                    raise exceptions.InvalidRequest(f"sudo can't take the path {path!r} literally.")
            rootwrap = os.path.join(os.path.dirname(program), ROOTWRAP)
            rules = {
                driver: config.brick_sudoers(user, rootwrap, str(directory))
                if driver == "glance"
                else config.sudoers(user, program, str(directory))
                for driver in drivers
            }
            return "".join(dict.fromkeys(rules.values()))
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


def _advice(program: str, directory: Path, drivers: Sequence[str]) -> str:
    """Return the options to set, and what to know about a place where others may write."""
    lines = []
    if "glance" in drivers:
        rootwrap = os.path.join(os.path.dirname(program), ROOTWRAP)
        lines.append(f"Set datera_glance_rootwrap_path = sudo -n {rootwrap}\n")
        lines.append(f"Set datera_glance_rootwrap_config = {directory}/rootwrap.conf\n")
    if os.path.dirname(program) not in SECURE_PATH or str(directory) != DIRECTORY:
        helper = f"sudo -n {program} {directory}/rootwrap.conf"
        options = dict.fromkeys(HELPER_OPTIONS[each] for each in drivers if each in HELPER_OPTIONS)
        lines += [f"Set {option} = {helper}\n" for option in options]
    places = (program, os.path.dirname(program))
    if any(os.stat(place).st_uid for place in places):
        lines.append(f"{program} doesn't belong to root alone: who can change it is root.\n")
    return "".join(lines)


def _files(directory: Path, drivers: Sequence[str], state_dir: str | None) -> dict[Path, str]:
    texts = config.texts(str(directory), drivers, state_dir, scripts())
    return {directory / name: text for name, text in texts.items()}


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
        help="directory that the commands are confined to; default: "
        f"{commands.STATE_DIR}, for osd {commands.STATE_DIRS['osd']}",
    )
