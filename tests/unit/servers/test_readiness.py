# SPDX-License-Identifier: Apache-2.0
"""Engines that lack something are refused, or what they can't do is said."""

from collections.abc import Mapping
from typing import Any

import pytest

from container_stack import exceptions
from container_stack.host import containers
from container_stack.servers import readiness

GOOD = {
    **dict.fromkeys(readiness.LIMITS, True),
    "SecurityOptions": ["name=seccomp,profile=default", "name=userns"],
    "Runtimes": {"runc": {}, "runsc": {}},
}


class Engine(containers.Engine):
    """An engine that says this of itself."""

    def __init__(self, **info: Any) -> None:
        super().__init__()
        self._info = {**GOOD, **info}

    def info(self) -> Mapping[str, Any]:
        return self._info


def test_engine_that_has_all_is_silently_taken() -> None:
    assert readiness.check(Engine(), user_namespaces=True, runtime="runsc") == []


def test_engine_without_user_namespaces_is_refused_where_they_must_be() -> None:
    plain = Engine(SecurityOptions=["name=seccomp,profile=userns"])
    with pytest.raises(exceptions.HostNotReady, match="userns-remap"):
        readiness.check(plain, user_namespaces=True, runtime=None)
    assert readiness.check(plain, user_namespaces=False, runtime=None) == []


def test_unknown_runtime_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(exceptions.HostNotReady, match=r"kata.*runc, runsc"):
        readiness.check(Engine(), user_namespaces=False, runtime="kata")


def test_what_can_not_be_limited_is_said() -> None:
    weak = Engine(PidsLimit=False, SecurityOptions=None)
    said = readiness.check(weak, user_namespaces=False, runtime=None)
    assert said == [
        "The engine can't limit processes.",
        "The engine filters no system calls (seccomp).",
    ]
