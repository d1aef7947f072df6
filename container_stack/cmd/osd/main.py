# SPDX-License-Identifier: Apache-2.0
"""The program ``osd``: the daemon with ``-d``, and else the command line that talks to it."""

import argparse
import os
import sys
import warnings
from collections.abc import Mapping, Sequence

from container_stack import exceptions
from container_stack.cmd.osd import (
    arguments,
    client,
    cluster,
    completion,
    drivers,
    more,
    output,
    top,
    volumes,
)
from container_stack.conf import osd_options

#: Names the daemon's state directory to who has another than the usual one.
STATE_DIR_VARIABLE = "OSD_STATE_DIR"

ROOMS: Mapping[str, Sequence[arguments.Command]] = {
    "driver": drivers.COMMANDS,
    "cluster": cluster.COMMANDS,
    "top": (top.COMMAND,),
    "": (*volumes.COMMANDS, *more.COMMANDS),
}
_SHORT = {"d": "driver", "c": "cluster", "h": "help"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the daemon to its end, or one command, and return the exit code."""
    if not sys.warnoptions:
        # Other projects' deprecations are no news for who types a command.
        warnings.simplefilter("ignore")
    words = list(sys.argv[1:] if argv is None else argv)
    printer = output.Printer("-j" in words or "--json" in words)
    try:
        args = _parser().parse_args(words)
        printer = output.Printer(args.json)
        if args.daemon:
            return _daemon(args)
        _command(args, printer)
    except output.Failure as exc:
        printer.error(exc)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = arguments.Parser(
        prog="osd",
        description="Open Storage: volumes for containers.",
        usage="osd [global options] DRIVER COMMAND ...\n       osd -d -f FILE",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=_epilog(),
        allow_abbrev=False,
    )
    parser.add_argument("--json", "-json", "-j", action="store_true", help="output in JSON")
    parser.add_argument("--daemon", "-daemon", "-d", action="store_true", help="be the daemon")
    parser.add_argument(
        "--driver",
        "-driver",
        action="append",
        default=[],
        metavar="name=NAME,OPTION=VALUE,...",
        help="with -d: a driver beside those of the file; again for another",
    )
    parser.add_argument(
        "--file", "-file", "-f", metavar="FILE", help=f"configuration; with -d: {osd_options.FILE}"
    )
    parser.add_argument(
        "--state-dir",
        metavar="DIRECTORY",
        help=f"where the daemon's sockets are; default: what ${STATE_DIR_VARIABLE} names, or "
        f"{osd_options.STATE_DIR}",
    )
    parser.add_argument(
        "--version", "-version", "-v", action="store_true", help="print the version"
    )
    parser.add_argument("words", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser


def _epilog() -> str:
    lines = [
        "commands:",
        "  driver, d        list, add",
        "  cluster, c       " + ", ".join(each.name for each in cluster.COMMANDS),
        "  top              " + top.COMMAND.help,
        "  completion       bash, zsh, fish",
        "  version          print the version",
        "  help, h          this, or `help COMMAND`",
        "  DRIVER           such as btrfs, nfs or loop, with one of:",
    ]
    lines += [f"    {', '.join((each.name, *each.aliases)):<26} {each.help}" for each in ROOMS[""]]
    return "\n".join(lines)


def _version() -> str:
    from importlib import metadata

    return f"osd version {metadata.version('container-stack')}"


def _daemon(args: argparse.Namespace) -> int:
    # Imported late: commands don't need what only the daemon does.
    from container_stack.cmd.osd import daemon

    try:
        return daemon.run(args.file, args.driver)
    except exceptions.ContainerStackError as exc:
        raise output.Failure("osd", str(exc)) from exc


def _command(args: argparse.Namespace, printer: output.Printer) -> None:
    words = [_SHORT.get(args.words[0], args.words[0]), *args.words[1:]] if args.words else ["help"]
    room, rest = words[0], words[1:]
    if room == "help" and not args.version:
        _help(rest, printer)
    elif room == "version" or args.version:
        printer.write(_version())
    elif room == "completion":
        _completion(rest, printer)
    elif room == "_complete":
        found = completion.candidates(rest, _places(args)[0], dict(ROOMS))
        printer.write("\n".join(found))
    else:
        # It is the only one in its room.
        _run(room, ["top", *rest] if room == "top" else rest, args, printer)


def _help(rest: Sequence[str], printer: output.Printer) -> None:
    named = [_named(room, rest[-1]) for room in ROOMS] if rest else []
    found = next((each for each in named if each), None)
    room = "top" if found is top.COMMAND else "DRIVER"
    printer.write((_command_parser(room, found) if found else _parser()).format_help().rstrip())


def _completion(rest: Sequence[str], printer: output.Printer) -> None:
    if len(rest) != 1 or rest[0] not in completion.SCRIPTS:
        raise output.Failure("completion", "incorrect usage", "bash, zsh or fish")
    printer.write(completion.SCRIPTS[rest[0]].rstrip())


def _run(room: str, rest: Sequence[str], args: argparse.Namespace, printer: output.Printer) -> None:
    commands = ROOMS.get(room, ROOMS[""])
    if not rest or rest[0] in ("help", "h", "-h", "--help"):
        printer.write("\n".join(f"{each.name:<16} {each.help}" for each in commands))
        return
    command = _named(room if room in ROOMS else "", rest[0])
    if command is None:
        names = ", ".join(each.name for each in commands)
        raise output.Failure(room, f"no command {rest[0][:60]!r}", f"there are {names}")
    parsed = _command_parser(room, command).parse_args(list(rest[1:]))
    driver_dir, cluster_socket = _places(args)
    path = cluster_socket if room in ROOMS else f"{driver_dir}/{_checked(room)}.sock"
    context = arguments.Context(
        client.Client(path), output.Printer(printer.json or parsed.json), room
    )
    try:
        command.run(context, parsed)
    except exceptions.ContainerStackError as exc:
        raise output.Failure(command.said or command.name, str(exc)) from exc


def _named(room: str, word: str) -> arguments.Command | None:
    return next((each for each in ROOMS[room] if word in (each.name, *each.aliases)), None)


def _command_parser(room: str, command: arguments.Command) -> argparse.ArgumentParser:
    parser = arguments.Parser(
        prog=f"osd {room} {command.name}".replace("top top", "top"),
        description=command.help,
        allow_abbrev=False,
    )
    parser.add_argument("--json", action="store_true", help="output in JSON")
    command.add(parser)
    return parser


def _checked(driver: str) -> str:
    try:
        return osd_options.check_driver(driver)
    except exceptions.InvalidRequest as exc:
        raise output.Failure("osd", str(exc)) from exc


def _places(args: argparse.Namespace) -> tuple[str, str]:
    """Return the directory of the drivers' sockets, and the cluster's socket."""
    state_dir = args.state_dir or os.environ.get(STATE_DIR_VARIABLE) or osd_options.STATE_DIR
    if args.file:
        # Imported late: few commands read a file.
        from container_stack.conf import osd as conf

        try:
            state_dir = conf.read(args.file).state_dir
        except exceptions.InvalidRequest as exc:
            raise output.Failure("osd", str(exc)) from exc
    return os.path.join(state_dir, "driver"), os.path.join(state_dir, "cluster", "osd.sock")


if __name__ == "__main__":
    sys.exit(main())
