# SPDX-License-Identifier: Apache-2.0
"""What commands print, in the original's forms.

A text is for people: ids one in a line, or what was found as JSON. With ``--json`` everything is
JSON, errors too. Errors go to standard error, and the exit code is 1 then.
"""

import dataclasses
import json
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

#: Control characters that JSON doesn't escape: DEL, and those above ASCII (ECMA-48's C1).
_CONTROL = re.compile("[\x7f-\x9f]")


class Failure(Exception):
    """A command ends with an error.

    :param command: its name, as the original says it.
    :param text: what is wrong.
    :param description: more of it.
    """

    def __init__(self, command: str, text: str, description: str = "") -> None:
        super().__init__(text)
        self.command = command
        self.text = text
        self.description = description


def missing(
    command: str, parameter: str, description: str = "Invalid number of arguments"
) -> Failure:
    """Return the error of a command that wasn't told something."""
    return Failure(command, f'missing parameter "{parameter}"', description)


@dataclasses.dataclass(frozen=True, slots=True)
class Printer:
    """Prints to the standard streams.

    :param json: as the option says.
    """

    json: bool = False

    def ids(self, *ids: str) -> None:
        """Print what a command worked on."""
        self.write(_json({"uuid": ids}) if self.json else "\n".join(ids))

    def result(self, value: object) -> None:
        """Print what a command found."""
        self.write(_json({"result": value} if self.json else value))

    def path(self, text: str) -> None:
        """Print a path, as shells want it."""
        self.write(_json({"result": text}) if self.json else text)

    def found(self, value: object) -> None:
        """Print volumes, which are JSON either way."""
        self.write(_json(value))

    def cluster(self, value: object, text: str) -> None:
        """Print a cluster."""
        self.write(_json({"cluster": value}) if self.json else text)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Print a table, or as JSON one mapping for each row."""
        if self.json:
            names = [column.lower().replace(" ", "_") for column in columns]
            self.write(_json([dict(zip(names, row, strict=True)) for row in rows]))
        else:
            self.write(aligned(columns, rows))

    def error(self, failure: Failure) -> None:
        """Print what is wrong, to standard error."""
        said: Mapping[str, Any] = {"cmd": failure.command, "error": failure.text}
        if self.json:
            more = {"desc": failure.description} if failure.description else {}
            text = _json({**said, **more})
        else:
            more_text = f" - {failure.description}" if failure.description else ""
            text = _shown(f"{failure.command}: {failure.text}{more_text}")
        sys.stderr.write(f"{text}\n")

    def write(self, text: str) -> None:
        """Print a text as it is."""
        sys.stdout.write(f"{text}\n")


def aligned(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a table in columns, for people."""
    texts = [list(columns), *([_shown(value) for value in row] for row in rows)]
    widths = [max(len(row[n]) for row in texts) for n in range(len(columns))]
    return "\n".join(
        "  ".join(value.ljust(width) for value, width in zip(row, widths, strict=True)).rstrip()
        for row in texts
    )


def size(count: int) -> str:
    """Return bytes as people say them."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if amount < 1024:
            return (
                f"{amount:.0f} {unit}" if amount >= 100 or unit == "B" else f"{amount:.1f} {unit}"
            )
        amount /= 1024
    return f"{amount:.1f} PiB"


def _shown(value: object) -> str:
    # What tenants named must not steer the terminal.
    return "".join(each if each.isprintable() else "?" for each in str(value))


def _json(value: object) -> str:
    text = json.dumps(value, indent=1, ensure_ascii=False)
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
