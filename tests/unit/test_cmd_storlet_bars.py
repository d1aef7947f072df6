# SPDX-License-Identifier: Apache-2.0
import contextlib
import io

import pytest

from container_stack.cmd.storlet import bars

MIB = 1024**2


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def transfer(progress, clock, *, mib, seconds):
    for done in range(mib + 1):
        progress("downloading base.tar", done * MIB, mib * MIB)
        clock.now += seconds / mib


def test_without_a_terminal_a_line_comes_every_few_seconds_with_rate_and_time_left(clock):
    stream = io.StringIO()
    with bars.Bars(stream, clock) as progress:
        transfer(progress, clock, mib=60, seconds=30)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 6
    assert lines[1] == "downloading base.tar:  33% 20.0M/60.0M [00:10<00:20, 2.10MB/s]"
    assert lines[-1].startswith("downloading base.tar: 100%")
    assert "\r" not in stream.getvalue()


def test_what_was_there_before_does_not_count_for_the_rate(clock):
    stream = io.StringIO()
    with bars.Bars(stream, clock) as progress:
        progress("resuming", 900 * MIB, 1000 * MIB)
        clock.now += 10
        progress("resuming", 950 * MIB, 1000 * MIB)
    assert "[00:10<00:10, 5.24MB/s]" in stream.getvalue()


def test_while_nobody_knows_the_end_only_the_rate_is_told(clock):
    stream = io.StringIO()
    with bars.Bars(stream, clock) as progress:
        progress("saving", 0, None)
        clock.now += 8
        progress("saving", 16 * MIB, None)
    assert stream.getvalue() == "saving: 16.0MB [00:08, 2.10MB/s]\n"


def test_each_of_several_things_has_lines_of_its_own(clock):
    stream = io.StringIO()
    with bars.Bars(stream, clock) as progress:
        for node in ("n1", "n2"):
            progress(node, 0, 10)
        for node in ("n2", "n1"):
            progress(node, 10, 10)
    assert [line.partition(":")[0] for line in stream.getvalue().splitlines()] == ["n2", "n1"]


def test_a_terminal_gets_a_bar_that_moves(clock):
    stream = Terminal()
    with bars.Bars(stream, clock) as progress:
        transfer(progress, clock, mib=8, seconds=4)
    last = stream.getvalue().rpartition("\r")[2]
    assert last.startswith("downloading base.tar: 100%|")
    assert "8.00M/8.00M" in last
    assert stream.getvalue().endswith("\n")


def test_a_bar_that_is_not_full_when_work_ends_is_left_as_it_is(clock):
    stream = Terminal()
    with contextlib.suppress(KeyboardInterrupt), bars.Bars(stream, clock) as progress:
        progress("staging", 3 * MIB, 8 * MIB)
        raise KeyboardInterrupt
    assert "3.00M/8.00M" in stream.getvalue()
    assert stream.getvalue().endswith("\n")


def test_something_that_begins_anew_goes_back(clock):
    stream = Terminal()
    with bars.Bars(stream, clock) as progress:
        for done in (5, 0, 8):
            progress("staging", done * MIB, 8 * MIB)
    assert "8.00M/8.00M" in stream.getvalue().rpartition("\r")[2]


def test_what_has_ended_is_not_told_twice(clock):
    stream = io.StringIO()
    with bars.Bars(stream, clock) as progress:
        for done in (0, 8, 8):
            progress("uploading", done * MIB, 8 * MIB)
    assert len(stream.getvalue().splitlines()) == 1


def test_nodes_are_counted_as_such(clock):
    stream = io.StringIO()
    with bars.Bars(stream, clock) as progress:
        for done in range(31):
            progress.count("asking", done, 30)
            clock.now += 0.5
    assert stream.getvalue().splitlines()[0] == "asking:  33% 10/30 [00:05<00:10,  2.00node/s]"


def test_a_line_that_is_said_leaves_the_bars_whole(clock):
    stream = Terminal()
    with bars.Bars(stream, clock) as progress:
        progress("staging", 3 * MIB, 8 * MIB)
        progress.say("node1: it is down")
    written = stream.getvalue()
    assert "\r" + " " * 10 in written.partition("node1: it is down\n")[0]
    assert "3.00M/8.00M" in written.partition("node1: it is down\n")[2]
