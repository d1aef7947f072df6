# SPDX-License-Identifier: Apache-2.0
"""An account's Dockerfile: read, checked before anything is built, and tied to the base's ID.

The parser is a port of BuildKit's, heredocs and all. An engine's own builder may be older and
read an odd line in another way; :mod:`container_stack.storlets.workbench.build` looks at what it
built.
"""

import dataclasses
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence

import e2b_dockerfile_utils as syntax

from container_stack import exceptions
from container_stack.storlets.workbench import dockerfile_rules as rules
from container_stack.storlets.workbench.dockerfile_rules import Finding as Finding

#: Characters; what is longer is no Dockerfile.
LIMIT = 1024 * 1024

_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
_ID = re.compile(r"(?:sha256:)?([0-9a-f]{12,64})")


@dataclasses.dataclass(frozen=True, slots=True)
class Parent:
    """The image that the account downloaded, and must build from.

    :param image_id: sha256:...
    :param names: what people call it: its object's Image-Name, its references in the engine.
    """

    image_id: str
    names: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What to write after FROM."""
        return (*self.names, self.image_id)[0]

    def is_meant_by(self, reference: str) -> bool:
        """Tell whether a FROM means this image.

        A registry before the name makes no difference: storlets' guide loads
        localhost:5001/NAME and builds from 127.0.0.1:5001/NAME, and what is built from is the ID
        anyway.
        """
        found = _ID.fullmatch(reference)
        if found and self.image_id.removeprefix("sha256:").startswith(found[1]):
            return True
        return _plain(reference) in {_plain(name) for name in self.names}


@dataclasses.dataclass(frozen=True, slots=True)
class Stage:
    """A FROM and what follows.

    :param image: what it is built from, with the values of variables.
    :param name: in lower case; "" when it has none.
    """

    start: syntax.DockerfileInstruction
    image: str
    name: str
    body: tuple[syntax.DockerfileInstruction, ...]


class Dockerfile:
    """A Dockerfile that can be read.

    :param arguments: what the build gives for ARG.
    :raises InvalidRequest: it is none; the text names the line.
    """

    def __init__(self, text: str, arguments: Mapping[str, str] | None = None) -> None:
        if len(text) > LIMIT:
            raise exceptions.InvalidRequest(f"The Dockerfile is longer than {LIMIT} characters.")
        try:
            instructions = syntax.parse_dockerfile_ast(text).instructions
        except (ValueError, RecursionError) as exc:
            raise exceptions.InvalidRequest(f"{exc}; correct the Dockerfile.") from exc
        self._text = text
        self._instructions = instructions
        self._stages = tuple(_stages(instructions, arguments or {}))

    def check(self, parent: Parent, *, offline: bool = False) -> Sequence[Finding]:
        """Return what it should not say, in the order of its lines; nothing is built.

        Each stage must begin with the base or a stage before it, and copy from no other image:
        so the last one, which becomes the image, stands on the base. Rules hold in all stages.

        :param offline: the build gets no network.
        """
        found = [*self._check_stages(parent), *rules.check_maintainer(self._instructions)]
        for each in self._instructions:
            found += rules.check(each, offline=offline)
        if self._stages:
            found += rules.check_user(self._stages[-1].body)
        return sorted(found, key=lambda finding: finding.line or 0)

    def over(self, parent: Parent) -> str:
        """Return the same Dockerfile with the base's ID in place of its names.

        An image that bears the same name can't slip in. Lines keep their numbers.
        """
        lines = self._text.removeprefix("\ufeff").split("\n")
        for number, stage in enumerate(self._stages):
            if self._is_stage(stage.image, number):
                continue
            first, last = stage.start.start_line - 1, stage.start.end_line
            text = " ".join(["FROM", parent.image_id, *stage.start.args[1:]])
            lines[first:last] = [text] + [""] * (last - first - 1)
        return "\n".join(lines)

    def _is_stage(self, image: str, before: int) -> bool:
        return image.lower() in {each.name for each in self._stages[:before] if each.name}

    def _check_stages(self, parent: Parent) -> Iterator[Finding]:
        if not self._stages:
            yield rules.failed(None, "there is no FROM", f"begin with FROM {parent.name}")
        for number, stage in enumerate(self._stages):
            line = stage.start.start_line
            if stage.start.flags:
                yield rules.failed(line, "FROM has options", f"write FROM {parent.name}")
            if not (parent.is_meant_by(stage.image) or self._is_stage(stage.image, number)):
                detail = f"FROM {stage.image or 'nothing'} is not the base image"
                yield rules.failed(line, detail, f"write FROM {parent.name}")
            yield from self._check_sources(stage, number)

    def _check_sources(self, stage: Stage, number: int) -> Iterator[Finding]:
        stages = {str(each) for each in range(number)}
        for each in stage.body:
            source = rules.option(each, "from") if each.name == "COPY" else None
            if not (source is None or source in stages or self._is_stage(source, number)):
                yield rules.failed(
                    each.start_line,
                    f"COPY --from={source} takes files from another image",
                    "copy from a stage of this Dockerfile, or from the directory",
                )


def _stages(
    instructions: Sequence[syntax.DockerfileInstruction], arguments: Mapping[str, str]
) -> Iterator[Stage]:
    starts = [n for n, each in enumerate(instructions) if each.name == "FROM"]
    values = _values(instructions[: starts[0]] if starts else (), arguments)
    for first, after in itertools.pairwise([*starts, len(instructions)]):
        start = instructions[first]
        image, *alias = start.args or [""]
        name = alias[1].lower() if len(alias) == 2 and alias[0].upper() == "AS" else ""
        yield Stage(start, _expand(image, values), name, tuple(instructions[first + 1 : after]))


def _values(
    instructions: Sequence[syntax.DockerfileInstruction], given: Mapping[str, str]
) -> dict[str, str]:
    """Return what FROM may refer to: the ARGs before the first one."""
    values: dict[str, str] = {}
    for each in instructions:
        for word in each.args if each.name == "ARG" else ():
            name, _, default = word.partition("=")
            values[name] = given.get(name, _expand(default.strip("\"'"), values))
    return values


def _expand(text: str, values: Mapping[str, str]) -> str:
    """Replace $NAME and ${NAME}; anything cleverer stays, and is no base's name."""
    return _VARIABLE.sub(lambda found: values.get(found[1] or found[2], ""), text)


def _plain(reference: str) -> str:
    """Return name:tag of a reference, without the registry."""
    name, colon, tag = reference.rpartition(":")
    if not colon or "/" in tag:
        name, tag = reference, "latest"
    first, slash, rest = name.partition("/")
    is_registry = slash and (first == "localhost" or "." in first or ":" in first)
    return f"{rest if is_registry else name}:{tag}"
