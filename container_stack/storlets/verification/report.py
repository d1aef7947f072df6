# SPDX-License-Identifier: Apache-2.0
"""The report of a verification: what each check saw, and how to cure what it didn't like."""

import dataclasses
import enum
from collections.abc import Mapping, Sequence
from typing import Any, Self


class State(enum.StrEnum):
    """What came out of a check."""

    PASSED = "passed"
    FAILED = "FAILED"
    WARNING = "warning"
    #: Not made, since one before it failed, or since the image doesn't need it.
    SKIPPED = "skipped"


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """One check.

    :param number: 1 to 12, in the order of the documentation.
    :param check: its short name: "digests", "layers", "sandbox".
    :param detail: what was seen.
    :param cure: what to do; empty when it passed.
    """

    number: int
    check: str
    state: State
    detail: str = ""
    cure: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
    """All checks of one image.

    :param image_id: sha256:...; empty when the archive doesn't even tell.
    :param size: bytes of the archive.
    :param created: seconds since 1970.
    :param seconds: what it took.
    """

    account: str
    image_id: str
    size: int
    created: float
    seconds: float
    findings: Sequence[Finding]

    @property
    def passed(self) -> bool:
        """Whether the image may be deployed."""
        return bool(self.findings) and all(each.state != State.FAILED for each in self.findings)

    def to_json(self) -> dict[str, Any]:
        """Return what :meth:`from_json` reads."""
        return dataclasses.asdict(self) | {
            "findings": [dataclasses.asdict(f) for f in self.findings]
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Return a report from its JSON form."""
        findings = [Finding(**each | {"state": State(each["state"])}) for each in data["findings"]]
        return cls(**dict(data) | {"findings": findings})
