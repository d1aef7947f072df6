# SPDX-License-Identifier: Apache-2.0
"""``osd top`` beside the real daemon: for scripts, for pipes, and on a terminal."""

import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from . import osd_daemon


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[osd_daemon.Daemon]:
    drivers = {"memory": None, "memory_block": None}
    with osd_daemon.daemon(tmp_path_factory.mktemp("top"), drivers, plugins="false") as made:
        made.start()
        made.run("memory", "create", "plain", "-s", "7")
        made.run("memory", "mount", "plain")
        made.run("memory_block", "create", "device", "-s", "9")
        made.run("memory_block", "mount", "device")
        made.run("memory", "create", "unused")
        yield made


def _heed_interrupts() -> None:
    # A shell starts what is in its background with this signal ignored.
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Terminal:
    """A terminal with ``osd top`` on it."""

    def __init__(self, daemon: osd_daemon.Daemon, rows: int, columns: int) -> None:
        self._outside, inside = pty.openpty()
        self.resize(rows, columns)
        self.before = termios.tcgetattr(inside)
        self.inside = inside
        self.text = ""
        self.process = subprocess.Popen(
            [osd_daemon.OSD, "top", "-i", "0.2"],
            stdin=inside,
            stdout=inside,
            stderr=inside,
            env={key: value for key, value in daemon.environment.items()
                 if key not in ("COLUMNS", "LINES")},
            start_new_session=True,
            preexec_fn=_heed_interrupts,
        )  # fmt: skip

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._outside, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def press(self, keys: bytes) -> None:
        os.write(self._outside, keys)

    def until(self, text: str, after: int = 0) -> str:
        """Wait until something stands there, and return all since ``after``."""
        end = time.monotonic() + osd_daemon.PATIENCE
        while text not in self.text[after:]:
            assert time.monotonic() < end, self.text[-2000:]
            if select.select([self._outside], [], [], 1)[0]:
                self.text += os.read(self._outside, 65536).decode()
        return self.text[after:]

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._outside)
        os.close(self.inside)


@pytest.fixture
def terminal(daemon: osd_daemon.Daemon) -> Iterator[Terminal]:
    made = Terminal(daemon, 30, 120)
    yield made
    made.close()


def test_scripts_get_figures_of_one_interval(daemon: osd_daemon.Daemon) -> None:
    found = daemon.json("top", "--once", "-i", "0.3")["result"]
    assert {(each["driver"], each["name"], each["state"]) for each in found} == {
        ("memory", "plain", "mounted"),
        ("memory_block", "device", "mounted"),
    }
    device, plain = sorted(found, key=lambda each: str(each["name"]))
    assert (device["size"], device["reads"], device["busy"]) == (9 * 2**20, 0.0, 0.0)
    assert (plain["size"], plain["reads"]) == (7 * 2**20, None)
    assert len(daemon.json("top", "--once", "-i", "0.3", "-n", "1")["result"]) == 1


def test_text_has_no_control_characters(daemon: osd_daemon.Daemon) -> None:
    lines = daemon.run("top", "--once", "--interval", "0.3").split("\n")
    assert lines[0].split()[:3] == ["DRIVER", "VOLUME", "STATE"]
    assert len(lines) == 3
    assert "\x1b" not in "".join(lines)


def test_pipe_gets_one_table_after_the_other(daemon: osd_daemon.Daemon) -> None:
    command = [osd_daemon.OSD, "--json", "top", "-i", "0.2"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, env=daemon.environment, preexec_fn=_heed_interrupts
    ) as process:
        assert process.stdout is not None
        text = b""
        decoder = json.JSONDecoder()
        while text.count(b'"result"') < 3:
            text += process.stdout.readline()
        first, _ = decoder.raw_decode(text.decode())
        assert len(first["result"]) == 2
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        assert process.wait(osd_daemon.PATIENCE) == 130


def test_q_ends_it_and_the_terminal_is_as_before(terminal: Terminal) -> None:
    terminal.until("plain")
    assert termios.tcgetattr(terminal.inside) != terminal.before
    terminal.press(b"q")
    assert terminal.process.wait(osd_daemon.PATIENCE) == 0
    assert terminal.until("\x1b[?1049l").endswith("\x1b[?25h\x1b[?1049l")
    assert termios.tcgetattr(terminal.inside) == terminal.before


def test_interrupt_ends_it_and_the_terminal_is_as_before(terminal: Terminal) -> None:
    terminal.until("plain")
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.process.wait(osd_daemon.PATIENCE) == 130
    assert "Traceback" not in terminal.until("\x1b[?1049l")
    assert termios.tcgetattr(terminal.inside) == terminal.before


def test_it_fits_whatever_becomes_of_the_terminal(terminal: Terminal) -> None:
    terminal.until("plain")
    for rows, columns in ((4, 20), (1, 5), (30, 120)):
        terminal.resize(rows, columns)
        seen = len(terminal.text)
        for _ in range(4):
            terminal.until("\x1b[J", len(terminal.text))
        screen = terminal.text[seen:].split("\x1b[H")[-2].removesuffix("\x1b[J")
        lines = [line.removesuffix("\x1b[K") for line in screen.split("\r\n")]
        assert len(lines) <= rows
        assert max(map(len, lines)) < columns
    assert "plain" in screen


@pytest.mark.parametrize("interval", ["0", "-1", "nan", "soon"])
def test_interval_that_can_not_be_is_refused(daemon: osd_daemon.Daemon, interval: str) -> None:
    assert "interval" in daemon.failed("top", "--once", f"--interval={interval}")


def test_without_a_daemon_it_says_so(daemon: osd_daemon.Daemon, tmp_path: Path) -> None:
    assert "no socket" in daemon.failed("--state-dir", str(tmp_path), "top", "--once")


def test_it_is_completed_and_explained(daemon: osd_daemon.Daemon) -> None:
    assert daemon.run("_complete", "to") == "top"
    assert "--once" in daemon.run("_complete", "top", "--").split("\n")
    assert daemon.run("help", "top").startswith("usage: osd top ")
