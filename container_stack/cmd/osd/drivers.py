# SPDX-License-Identifier: Apache-2.0
"""``osd driver ...``: which drivers the daemon has."""

import argparse
import sys
from typing import Any

from container_stack.cmd.osd import arguments, output

ROUTE = "/v1/drivers"
_ABILITIES = ("shared", "limits", "snapshots", "grow", "restore", "stats")


def list_(context: arguments.Context, args: argparse.Namespace) -> None:
    """Print the drivers and what each can do."""
    found: list[dict[str, Any]] = context.client.call("GET", ROUTE)
    if context.printer.json:
        context.printer.result(found)
        return
    rows = [
        (
            each["name"],
            each["backend"],
            each["type"],
            ",".join(each["filesystems"]) or "-",
            ",".join(name for name in _ABILITIES if each[name]) or "-",
        )
        for each in found
    ]
    context.printer.table(("NAME", "BACKEND", "TYPE", "FILE SYSTEMS", "ABILITIES"), rows)


def _add_add(parser: argparse.ArgumentParser) -> None:
    arguments.flag(parser, "name", "n", default="", help="the driver's name")
    arguments.flag(
        parser,
        "options",
        "o",
        default="",
        metavar="NAME=VALUE,...",
        help="its settings; '-' reads them from standard input, one NAME=VALUE in a line: what is "
        "secret doesn't belong on a command line",
    )


def add(context: arguments.Context, args: argparse.Namespace) -> None:
    """Let the daemon have one more driver, until it is restarted."""
    if not args.name:
        raise output.missing("add", "name", "Which driver")
    text = ",".join(sys.stdin.read().split("\n")) if args.options == "-" else args.options
    body = {"name": args.name, "options": arguments.settings(text)}
    context.client.done("POST", ROUTE, body)
    context.printer.ids(args.name)


COMMANDS = (
    arguments.Command("list", "show drivers", list_, aliases=("l",)),
    arguments.Command("add", "add a driver until the daemon's restart", add, _add_add, ("a",)),
)
