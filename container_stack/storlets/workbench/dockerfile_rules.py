# SPDX-License-Identifier: Apache-2.0
"""What single instructions of an account's Dockerfile may say.

ENTRYPOINT, CMD and the maintainer are rules of storlets' own guide; the others keep away what
makes a sandbox fail on a node, or surprises there.
"""

import dataclasses
import posixpath
import re
from collections.abc import Iterable, Iterator

import e2b_dockerfile_utils as syntax

from container_stack.storlets.verification import checks_config, report

#: Whom the guide's Dockerfile names, to be left as it is.
MAINTAINER = "root"

#: Options that the engine's own builder has; others need BuildKit.
_OPTIONS = {
    "ADD": {"chown"},
    "COPY": {"chown", "from"},
    "HEALTHCHECK": {"interval", "timeout", "start-period", "retries"},
}
_REMOTE = re.compile(r"[a-z+]+://|git@|github\.com/", re.IGNORECASE)
_ROOT = ("root", "0")

Instruction = syntax.DockerfileInstruction


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """Something that a Dockerfile, or the image made of it, should not have.

    :param line: of the Dockerfile, from 1; None when it isn't about one line.
    :param cure: what to do.
    """

    line: int | None
    state: report.State
    detail: str
    cure: str


def failed(line: int | None, detail: str, cure: str) -> Finding:
    """Return a finding that stands against the build."""
    return Finding(line, report.State.FAILED, detail, cure)


def warning(line: int | None, detail: str, cure: str) -> Finding:
    """Return a finding that doesn't."""
    return Finding(line, report.State.WARNING, detail, cure)


def check(instruction: Instruction, *, offline: bool) -> Iterator[Finding]:
    """Yield what one instruction should not say, whatever stands around it."""
    line, name = instruction.start_line, instruction.name
    yield from _check_dialect(instruction)
    if name in ("ENTRYPOINT", "CMD"):
        yield failed(line, f"{name} is the runtime's own matter", "remove it")
    elif name == "ONBUILD":
        yield failed(line, "ONBUILD would act on whoever builds over this image", "remove it")
    elif name == "HEALTHCHECK" and instruction.args[:1] != ["NONE"]:
        yield warning(
            line, "HEALTHCHECK runs on and on in every sandbox, within its limits", "remove it"
        )
    elif name == "VOLUME":
        yield from check_volumes(line, instruction.args)
    elif name == "ENV":
        yield from check_variables(line, instruction.args[::3])
    elif name == "ADD":
        yield from _check_add(instruction, offline)


def check_volumes(line: int | None, volumes: Iterable[str]) -> Iterator[Finding]:
    """Yield what stands against volumes at these places."""
    for volume in volumes:
        place = posixpath.normpath(posixpath.join("/", volume.strip("\"'")))
        if any(_nested(place, mount) for mount in checks_config.MOUNTS):
            yield failed(
                line, f"VOLUME {place} lies across what the runtime mounts", "choose another place"
            )
        else:
            yield warning(
                line,
                f"VOLUME {place} takes disk of the node, without limit, in every sandbox",
                "remove it; a storlet keeps nothing between requests",
            )


def check_variables(line: int | None, names: Iterable[str]) -> Iterator[Finding]:
    """Yield what stands against setting these variables."""
    if "PYTHONHOME" in names:
        yield failed(line, "with PYTHONHOME set no storlet starts", "remove it")


def check_maintainer(instructions: Iterable[Instruction]) -> Iterator[Finding]:
    """Look for the guide's MAINTAINER root, or for today's LABEL maintainer=root.

    Nothing on a node reads it, so it is no reason to refuse.
    """
    named = [(each, who) for each in instructions for who in _maintainers(each)]
    cure = f"leave it as it is: LABEL maintainer={MAINTAINER}"
    for each, who in named:
        if who != MAINTAINER:
            yield warning(each.start_line, f"the maintainer is {who}", cure)
    if not named:
        yield warning(None, "no maintainer is named", f"add LABEL maintainer={MAINTAINER}")


def check_user(instructions: Iterable[Instruction]) -> Iterator[Finding]:
    """Look at whom the last stage ends as; the runtime takes Swift's user whatever it is.

    :param instructions: of the last stage.
    """
    users = [each for each in instructions if each.name == "USER"]
    if users and "".join(users[-1].args).partition(":")[0] not in _ROOT:
        yield warning(
            users[-1].start_line,
            "USER has no effect in a sandbox, which runs as Swift's own user",
            "end with USER root, and let everybody read what storlets need",
        )


def option(instruction: Instruction, name: str) -> str | None:
    """Return the value of an option such as --from=."""
    for flag in instruction.flags:
        key, _, value = flag.partition("=")
        if key == f"--{name}":
            return value
    return None


def _check_dialect(instruction: Instruction) -> Iterator[Finding]:
    """Look for what only BuildKit understands; the engine's API offers the older builder."""
    line, name = instruction.start_line, instruction.name
    if instruction.heredocs:
        yield failed(line, f"{name} has a here-document, which needs BuildKit", "COPY a file")
    if name == "FROM":
        return
    for flag in instruction.flags:
        if flag.removeprefix("--").partition("=")[0] not in _OPTIONS.get(name, ()):
            yield failed(line, f"{name} {flag} needs BuildKit", "write it without that option")


def _check_add(instruction: Instruction, offline: bool) -> Iterator[Finding]:
    for source in instruction.args[:-1]:
        if _REMOTE.match(source.strip("\"'")):
            yield (failed if offline else warning)(
                instruction.start_line,
                f"ADD {source} takes what that address gives on the day",
                "put the file into the directory and COPY it",
            )


def _maintainers(instruction: Instruction) -> Iterator[str]:
    if instruction.name == "MAINTAINER":
        yield "".join(instruction.args).strip("\"'")
    if instruction.name == "LABEL":
        for key, value in zip(instruction.args[::3], instruction.args[1::3], strict=True):
            if key.strip("\"'") == "maintainer":
                yield value.strip("\"'")


def _nested(one: str, other: str) -> bool:
    return posixpath.commonpath([one, other]) in (one, other)
