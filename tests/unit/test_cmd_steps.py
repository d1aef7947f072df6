# SPDX-License-Identifier: Apache-2.0
"""Steps: what is shown, and what counts as failed."""

import io

import pytest

from container_stack.cmd.demo import steps


class Terminal(io.StringIO):
    def isatty(self):
        return True


def walk(stream):
    run = steps.Steps(stream)
    with run.step("first") as step:
        step.detail = "seen"
    with pytest.raises(steps.BrokenPromiseError), run.step("second"):
        run.promise(False, "it\nisn't so")
    return run


def test_a_broken_promise_fails_its_step_and_the_walk():
    run = walk(io.StringIO())
    assert [(s.title, s.result, s.detail) for s in run.done] == [
        ("first", "ok", "seen"),
        ("second", "FAILED", "it isn't so"),
    ]
    assert run.failed


def test_an_interrupted_step_is_a_failed_one():
    run = steps.Steps(io.StringIO())
    with pytest.raises(KeyboardInterrupt), run.step("first"):
        raise KeyboardInterrupt
    assert run.failed
    assert run.done[0].detail == "KeyboardInterrupt"


def test_every_step_is_one_plain_line_where_there_is_no_terminal():
    stream = io.StringIO()
    walk(stream)
    assert len(stream.getvalue().splitlines()) == 2
    assert not {"\x1b", "\r"} & set(stream.getvalue())


def test_colours_are_for_terminals_whose_user_wants_them(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    stream = Terminal()
    walk(stream)
    assert "\x1b[31mFAILED" in stream.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    stream = Terminal()
    walk(stream)
    assert "\x1b" not in stream.getvalue()
