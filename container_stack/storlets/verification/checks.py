# SPDX-License-Identifier: Apache-2.0
"""The twelve checks by number and name, and what their findings are made of."""

from collections.abc import Iterable

from container_stack.storlets.verification import report

(
    ARCHIVE,
    NAMES,
    BASE,
    COMMAND,
    ENVIRONMENT,
    MODULES,
    LOGGER,
    PROGRAMS,
    SANDBOX,
    IDENTITY,
    LIMITS,
    STORLET,
) = range(1, 13)

NAME = {
    ARCHIVE: "archive",
    NAMES: "names",
    BASE: "base",
    COMMAND: "command",
    ENVIRONMENT: "environment",
    MODULES: "modules",
    LOGGER: "logger",
    PROGRAMS: "programs",
    SANDBOX: "sandbox",
    IDENTITY: "identity",
    LIMITS: "limits",
    STORLET: "storlet",
}

#: Those that run the image.
RUNNING = (SANDBOX, IDENTITY, STORLET)

#: Characters of what an image says that a finding repeats.
_QUOTED = 200


def passed(number: int, detail: str = "") -> report.Finding:
    return report.Finding(number, NAME[number], report.State.PASSED, detail)


def failed(number: int, detail: str, cure: str) -> report.Finding:
    return report.Finding(number, NAME[number], report.State.FAILED, detail, cure)


def warning(number: int, detail: str, cure: str) -> report.Finding:
    return report.Finding(number, NAME[number], report.State.WARNING, detail, cure)


def skipped(numbers: Iterable[int], why: str) -> list[report.Finding]:
    """Return findings for checks that weren't made."""
    return [report.Finding(each, NAME[each], report.State.SKIPPED, why) for each in numbers]


def quoted(values: Iterable[object]) -> str:
    """Return what an image says, for people: printable and not too long."""
    text = ", ".join(ascii(each)[1:-1] if isinstance(each, str) else str(each) for each in values)
    return text if len(text) <= _QUOTED else f"{text[:_QUOTED]}..."
