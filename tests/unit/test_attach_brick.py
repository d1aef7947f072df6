# SPDX-License-Identifier: Apache-2.0
"""The kernel's initiator from the service's side, beside a helper that only says that it obeyed."""

import os
import pathlib
from typing import Any

import pytest

from container_stack import exceptions
from container_stack.host import attach, attach_brick, brick_helper
from container_stack.rootwrap import brick_wire

TARGET = attach.Target("iqn.2026-11.example:one", ("192.0.2.7:3260",))


class _Helper:
    """Hands out a file that is no device, as one that has just gone isn't any more."""

    def __init__(self, file: pathlib.Path) -> None:
        self._file = file
        self.asked: list[str] = []
        self.handed: list[int] = []

    def ask(self, request: brick_wire.Request) -> tuple[dict[str, Any], list[int]]:
        self.asked.append(request.action)
        if request.action == "connect":
            self.handed = [os.open(self._file, os.O_RDWR | os.O_CREAT) for _ in range(2)]
        return {}, self.handed


def test_a_device_that_is_gone_at_once_is_given_back(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    helper = _Helper(tmp_path / "gone")
    monkeypatch.setattr(brick_helper, "shared", lambda _command: helper)
    monkeypatch.setattr(attach_brick, "_need_programs", lambda: None)
    attacher = attach_brick.BrickAttacher(attach.Options())
    with pytest.raises(exceptions.ArrayUnavailable, match=TARGET.iqn):
        attacher.attach(TARGET)
    assert helper.asked == ["connect", "disconnect"]
    for each in helper.handed:
        with pytest.raises(OSError, match="descriptor"):
            os.fstat(each)
