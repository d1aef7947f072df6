# SPDX-License-Identifier: Apache-2.0
"""One privileged command: its template, and the argv and the filter that come from it."""

import dataclasses
import functools
import re
import string
from collections.abc import Mapping

from container_stack import exceptions
from container_stack.rootwrap.commands.kinds import KINDS

#: Where volumes and mount points live unless an operator says otherwise, and drivers that have a
#: place of their own.
STATE_DIR = "/var/lib/container-stack"
STATE_DIRS: Mapping[str, str] = {"osd": "/var/lib/osd"}
#: Where pip puts console scripts unless it is that of a venv.
SCRIPTS = "/usr/local/bin"

_STATE_DIR = re.compile(r"(?:/[A-Za-z0-9_-][A-Za-z0-9._-]*)+")


@dataclasses.dataclass(frozen=True, slots=True)
class Command:
    """One privileged command.

    :param name: unique; names the filter, and the command in errors.
    :param template: the command line; words are separated by blanks.
    :param deadline: seconds after which it is killed, unless the caller gives another limit.
    :param long: it may take seconds, so it must not hold up the short ones.
    :param slow: it may take hours, so it must not hold up the long ones.
    :param idempotent: running it again after a lost answer does no harm.
    :param own: the program is a console script of this package: its filter holds its path, as
        pip may put it where rootwrap doesn't look.
    :param inside: there is no such program: root's daemon does it itself.
    """

    name: str
    template: str
    deadline: float = 30.0
    long: bool = False
    slow: bool = False
    idempotent: bool = True
    own: bool = False
    inside: bool = False

    def variant(self, field: str, kind: str) -> "Command":
        """Return the same command for another kind of thing, after which it is called, too."""
        template = re.sub(rf"{{{field}:[a-z0-9_]+}}", f"{{{field}:{kind}}}", self.template)
        return dataclasses.replace(self, name=f"{self.name}_{kind}", template=template)

    def argv(self, state_dir: str = STATE_DIR, /, **values: str | int) -> tuple[str, ...]:
        """Return the command line for these values.

        :raises InvalidRequest: a value is missing, unknown or of the wrong shape.
        """
        wanted = {name for word in self._words() for name, _kind in _fields(word)}
        if wanted != set(values):
            odd = ", ".join(sorted(wanted ^ set(values)))
            raise exceptions.InvalidRequest(f"{self.name}: missing or unknown values: {odd}.")
        return tuple(self._fill(word, state_dir, values) for word in self._words())

    def filter(self, state_dir: str = STATE_DIR, scripts: str = SCRIPTS) -> str:
        """Return the line that admits this command, and only this one, in a filters file."""
        patterns = [rf"{_pattern(word, state_dir)}\Z" for word in self._words()]
        program = f"{scripts}/{self.program}" if self.own else self.program
        return f"{self.name}: " + ", ".join(["RegExpFilter", program, "root", *patterns])

    @property
    def program(self) -> str:
        """The program's name, looked up in the ``exec_dirs`` of rootwrap.conf."""
        return self._words()[0]

    def _words(self) -> list[str]:
        return self.template.split()

    def _fill(self, word: str, state_dir: str, values: Mapping[str, str | int]) -> str:
        for name, kind in _fields(word):
            value = str(values[name])
            if not re.fullmatch(_shape(kind, state_dir), value):
                raise exceptions.InvalidRequest(
                    f"{self.name}: {value!r} is not acceptable as {name} ({kind})."
                )
            word = word.replace(f"{{{name}:{kind}}}", value)
        return word


@functools.cache
def _fields(word: str) -> tuple[tuple[str, str], ...]:
    parsed = string.Formatter().parse(word)
    return tuple((name, kind or "") for _, name, kind, _ in parsed if name)


def _pattern(word: str, state_dir: str) -> str:
    parts = []
    for text, name, kind, _conversion in string.Formatter().parse(word):
        parts.append(re.escape(text).replace(",", r"\x2c"))
        if name:
            parts.append(_shape(kind or "", state_dir))
    return "".join(parts)


@functools.lru_cache(1024)
def _shape(kind: str, state_dir: str) -> str:
    if not _STATE_DIR.fullmatch(state_dir) or "/.." in state_dir:
        raise exceptions.InvalidRequest(
            f"{state_dir!r} can't be the state directory: give an absolute path of letters, "
            "digits, '.', '_' and '-'."
        )
    return KINDS[kind].replace("<state>", re.escape(state_dir))
