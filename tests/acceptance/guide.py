# SPDX-License-Identifier: Apache-2.0
"""The commands of a guide, as its code blocks have them.

A block is for a user whom its class names; a line that begins with ``>`` goes on with the one
before it, as a shell would ask for it.
"""

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

_BLOCK = re.compile(
    r"^\.\. code-block:: console\n(?P<options>(?:   :.*\n)*)\n(?P<body>(?:(?:   .*)?\n)+)", re.M
)
_CLASS = re.compile(r":class: (.+)")


@dataclasses.dataclass(frozen=True, slots=True)
class Block:
    """Commands that somebody types one after the other.

    :param who: the class that it has.
    :param line: of the guide.
    """

    who: str
    line: int
    script: str

    @property
    def programs(self) -> set[str]:
        """What is called, by the first words of its lines."""
        return {line.split()[0] for line in self.script.splitlines() if line}


def blocks(path: Path) -> Iterator[Block]:
    """Yield a guide's blocks in their order."""
    text = path.read_text(encoding="utf-8")
    for found in _BLOCK.finditer(text):
        named = _CLASS.search(found["options"])
        line = text.count("\n", 0, found.start()) + 1
        yield Block(named[1] if named else "", line, _script(found["body"], line))


def _script(body: str, line: int) -> str:
    words = [each[3:] for each in body.splitlines() if each.strip()]
    odd = [each for each in words if not each.startswith(("$ ", ">"))]
    assert not odd, f"Block in line {line}: no command: {odd}"
    return "".join(
        f"{each.removeprefix('>').removeprefix('$').removeprefix(' ')}\n" for each in words
    )
