# SPDX-License-Identifier: Apache-2.0
"""What ``osd`` prints of what tenants named."""

import json

import pytest

from container_stack.cmd.osd import output

#: To a terminal, "erase the screen": by one letter, and by two.
STEERS = ("\x9b2J", "\x1b[2J", "a\x7fb")


@pytest.mark.parametrize("text", STEERS)
def test_labels_do_not_steer_the_terminal(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = [{"Labels": {"say": text, "und": "Grüße"}}]
    for plain in (True, False):
        output.Printer(json=plain).found(found)
        said = capsys.readouterr().out
        assert all(each.isprintable() or each == "\n" for each in said)
        assert json.loads(said) == found
        assert "Grüße" in said


@pytest.mark.parametrize("text", STEERS)
def test_errors_do_not_steer_the_terminal(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    for plain in (True, False):
        output.Printer(json=plain).error(output.Failure("mount", f"{text} is busy", text))
        said = capsys.readouterr().err
        assert all(each.isprintable() or each == "\n" for each in said)
        assert " is busy" in said
