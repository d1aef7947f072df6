# SPDX-License-Identifier: Apache-2.0
"""``osd top``: the volumes of this host that do the most, as they do it."""

import argparse
import contextlib
import dataclasses
import os
import select
import shutil
import sys
import termios
import time
import tty
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from container_stack import exceptions
from container_stack.cmd.osd import arguments, output, rates

ROUTE = "/v1/activity"
#: To the upper left corner; and from there, to a line's end or the screen's, nothing.
_HOME, _LINE, _REST = "\x1b[H", "\x1b[K", "\x1b[J"
#: Another screen than that of the shell, and back.
_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
_COLUMNS = (
    "DRIVER",
    "VOLUME",
    "STATE",
    "READS/S",
    "WRITES/S",
    "READ/S",
    "WRITTEN/S",
    "BUSY",
    "USED",
    "SIZE",
)


def _seconds(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0.1 <= found <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is no interval: 0.1 to 3600 seconds")
    return found


def _add(parser: argparse.ArgumentParser) -> None:
    arguments.flag(
        parser, "interval", "i", type=_seconds, default=2.0, help="seconds between two looks; 2"
    )
    arguments.flag(parser, "once", action="store_true", help="print one interval's figures and end")
    arguments.flag(parser, "number", "n", type=int, default=0, help="volumes at most; 0: all")


def top(context: arguments.Context, args: argparse.Namespace) -> None:
    """Show the volumes with the most reads and writes, again and again, until q or Ctrl-C."""
    shown = _looks(context, args)
    if args.once:
        _print(context.printer, next(shown), args.number)
    elif context.printer.json or not sys.stdout.isatty():
        for each in shown:
            _print(context.printer, each, args.number)
            sys.stdout.flush()
    else:
        with _screen():
            for each in shown:
                _draw(each, args)


def _looks(context: arguments.Context, args: argparse.Namespace) -> Iterator[list[rates.Rate]]:
    """Yield what volumes do in each interval; ends when somebody presses q."""
    before = _asked(context)
    while not _quit(args.interval):
        after = _asked(context)
        yield rates.between(before, after)
        before = after


def _asked(context: arguments.Context) -> Mapping[str, Any]:
    found = context.client.done("GET", ROUTE)
    if not isinstance(found.get("volumes"), list) or "seconds" not in found:
        raise exceptions.ServiceUnavailable("The daemon's answer isn't understood.")
    return found


def _quit(seconds: float) -> bool:
    """Wait, and tell whether q was pressed meanwhile."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        if not (sys.stdin.isatty() and sys.stdout.isatty()):
            time.sleep(left)
        elif select.select([sys.stdin], [], [], left)[0] and os.read(0, 100)[:1] in (b"q", b""):
            return True
    return False


def _print(printer: output.Printer, found: Sequence[rates.Rate], number: int) -> None:
    chosen = found[: number or None]
    if printer.json:
        printer.result([dataclasses.asdict(each) for each in chosen])
    else:
        printer.table(_COLUMNS, [_row(each) for each in chosen])


def _draw(found: Sequence[rates.Rate], args: argparse.Namespace) -> None:
    """Fill the screen, as large as it is now, and no more."""
    width, height = shutil.get_terminal_size()
    most = max(height - 3, 0)
    chosen = found[: min(args.number or most, most)]
    text = f"{_summary(found, args.interval)}\n\n"
    text += output.aligned(_COLUMNS, [_row(each) for each in chosen])
    lines = [line[: width - 1] + _LINE for line in text.split("\n")[:height]]
    sys.stdout.write(_HOME + "\n".join(lines) + _REST)
    sys.stdout.flush()


def _summary(found: Sequence[rates.Rate], interval: float) -> str:
    total = {what: rates.total(found, what) for what in rates.GROWING[:4]}
    return (
        f"osd top, every {interval:g} s: {len(found)} volumes, "
        f"{total['reads']:.0f} reads/s, {total['writes']:.0f} writes/s, "
        f"{output.size(int(total['read_bytes']))}/s read, "
        f"{output.size(int(total['write_bytes']))}/s written"
    )


def _row(rate: rates.Rate) -> tuple[object, ...]:
    return (
        rate.driver,
        rate.name,
        rate.state,
        _count(rate.reads),
        _count(rate.writes),
        _bytes(rate.read_bytes),
        _bytes(rate.write_bytes),
        "-" if rate.busy is None else f"{100 * rate.busy:.0f} %",
        output.size(rate.used),
        output.size(rate.size),
    )


def _count(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:.1f}"


def _bytes(rate: float | None) -> str:
    return "-" if rate is None else output.size(int(rate))


@contextlib.contextmanager
def _screen() -> Iterator[None]:
    """Have the terminal for oneself: keys come at once, and aren't shown."""
    keys = sys.stdin.isatty()
    before = termios.tcgetattr(0) if keys else []
    sys.stdout.write(_ENTER)
    sys.stdout.flush()
    try:
        if keys:
            tty.setcbreak(0)
        yield
    finally:
        if keys:
            termios.tcsetattr(0, termios.TCSADRAIN, before)
        sys.stdout.write(_LEAVE)
        sys.stdout.flush()


COMMAND = arguments.Command(
    "top", "show the volumes that do the most, until q or Ctrl-C", top, _add
)
