# SPDX-License-Identifier: Apache-2.0
"""Arguments of commands: the original's flags, with one dash or two."""

import argparse
import dataclasses
import re
from collections.abc import Callable
from typing import NoReturn

from container_stack import exceptions
from container_stack.cmd.osd import client, output

MIB = 1024**2
_UNITS = {"": MIB, "k": 1024, "m": MIB, "g": 1024**3, "t": 1024**4}


class Parser(argparse.ArgumentParser):
    """Reports wrong usage in the command's own form."""

    def error(self, message: str) -> NoReturn:
        raise output.Failure(self.prog.split()[-1], "incorrect usage", message)


@dataclasses.dataclass(frozen=True, slots=True)
class Context:
    """What a command works with.

    :param client: talks to the daemon.
    """

    client: client.Client
    printer: output.Printer
    driver: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Command:
    """A command.

    :param add: adds its arguments.
    :param run: does it; may raise :class:`output.Failure` or what the library raises.
    :param said: how the original names it in its errors, where it doesn't say ``name``.
    """

    name: str
    help: str
    run: Callable[[Context, argparse.Namespace], None]
    add: Callable[[argparse.ArgumentParser], None] = lambda parser: None
    aliases: tuple[str, ...] = ()
    said: str = ""


def flag(parser: argparse.ArgumentParser, *names: str, **options: object) -> None:
    """Let a command take ``--name`` and, as Go's programs do, ``-name``."""
    long = [name for name in names if len(name) > 1]
    spelled = [f"--{name}" for name in long] + [f"-{name}" for name in names]
    dest = long[0].replace("-", "_")
    parser.add_argument(*spelled, dest=dest, **options)  # type: ignore[arg-type]


def add_labels(parser: argparse.ArgumentParser) -> None:
    """Let a command take labels."""
    flag(parser, "label", "l", default="", metavar="NAME=VALUE,...", help="labels")


def labels(text: str) -> dict[str, str]:
    """Return what ``name=value,...`` says.

    :raises InvalidRequest: it says something else, or something twice.
    """
    found: dict[str, str] = {}
    for pair in filter(None, text.split(",")):
        name, equals, value = pair.partition("=")
        if not equals or not name or "=" in value:
            raise exceptions.InvalidRequest(f"Malformed label: {pair}")
        if name in found:
            raise exceptions.InvalidRequest(f"Duplicate label: {pair}")
        found[name] = value
    return found


def settings(text: str) -> dict[str, str]:
    """Return what ``name=value,...`` says of a driver; values may have equals signs.

    :raises InvalidRequest: it says something else; no value is shown.
    """
    found: dict[str, str] = {}
    for number, pair in enumerate(filter(None, text.split(",")), 1):
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise exceptions.InvalidRequest(f"Option {number} isn't NAME=VALUE.")
        found[name.strip()] = value
    return found


def size(text: str) -> int:
    """Return the bytes that a size means: MiB, or with a unit 500M, 20G, 1T."""
    match = re.fullmatch(r"([0-9]{1,15})([kmgt]?)(?:i?b)?", text.lower(), re.ASCII)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is no size: use MiB, or 500M, 20G, 1T")
    return int(match[1]) * _UNITS[match[2]]
