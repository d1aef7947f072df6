# SPDX-License-Identifier: Apache-2.0
"""Completion of what is typed, by bash, zsh and fish.

What a shell is given is short: it asks ``osd _complete WORD...`` with the words up to the cursor,
the last of them unfinished, and gets candidates, one in a line.
"""

import argparse
import contextlib
import glob
import os
from collections.abc import Iterator, Sequence

from container_stack import exceptions
from container_stack.cmd.osd import arguments, client, volumes

#: Seconds that a daemon may take to tell its volumes.
PATIENCE = 2.0

SCRIPTS = {
    "bash": """\
_osd() {
    local IFS=$'\\n'
    COMPREPLY=($(osd _complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o default -F _osd osd
""",
    "zsh": """\
#compdef osd
_osd() {
    local -a found
    found=("${(@f)$(osd _complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    compadd -a found
}
compdef _osd osd
""",
    "fish": """\
function __osd
    set -l words (commandline -opc) (commandline -ct)
    osd _complete $words[2..-1] 2>/dev/null
end
complete -c osd -f -a '(__osd)'
""",
}
GLOBAL = ("--json", "--daemon", "--file", "--driver", "--state-dir", "--help", "--version")
WORDS = ("driver", "cluster", "top", "completion", "help", "version")


def candidates(
    words: Sequence[str], driver_dir: str, rooms: dict[str, Sequence[arguments.Command]]
) -> Iterator[str]:
    """Yield what the last word may become.

    :param rooms: commands below ``driver`` and ``cluster``, and with "" those of every driver.
    """
    *before, last = words or ("",)
    before = [word for word in before if word not in ("-j", "--json")]
    names = sorted(os.path.basename(path)[:-5] for path in glob.glob(f"{driver_dir}/*.sock"))
    if not before:
        found = [*GLOBAL] if last.startswith("-") else [*WORDS, *names]
    elif before[0] == "completion":
        found = list(SCRIPTS)
    else:
        known = rooms.get(before[0], rooms[""])
        within = before if before[0] == "top" else before[1:]
        found = list(_within(known, within, last, f"{driver_dir}/{before[0]}.sock"))
    yield from (each for each in found if each.startswith(last))


def _within(
    known: Sequence[arguments.Command], before: Sequence[str], last: str, path: str
) -> Iterator[str]:
    if not before:
        yield from (command.name for command in known)
        return
    for command in known:
        if before[0] in (command.name, *command.aliases):
            parser = argparse.ArgumentParser(prog=command.name)
            command.add(parser)
            if last.startswith("-"):
                yield from _flags(parser)
            elif any(action.dest == "volume" for action in parser._actions):
                yield from _volumes(path)


def _flags(parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in parser._actions:
        yield from (each for each in action.option_strings if each.startswith("--"))


def _volumes(path: str) -> Iterator[str]:
    with contextlib.suppress(exceptions.ContainerStackError):
        for each in client.Client(path, PATIENCE).volumes(volumes.VOLUMES):
            yield volumes.name_of(each)
