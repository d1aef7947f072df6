# SPDX-License-Identifier: Apache-2.0
"""Images tried by hand, on real terminals and on pipes."""

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator, Sequence

import pytest

from container_stack import exceptions
from container_stack.host import console, containers
from container_stack.storlets import gateway
from container_stack.storlets.workbench import run

LIMITS = {
    "container_mem_limit": str(64 * 1024**2),
    "container_pids_limit": "20",
    "container_cpu_period": "100000",
    "container_cpu_quota": "50000",
}
#: What `container-stack storlet run` does, without Swift.
CHILD = f"""
import signal, sys
# A shell starts what is in its background with this signal ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
from container_stack.host import console, containers
from container_stack.storlets import gateway
from container_stack.storlets.workbench import run
engine = containers.Engine(sys.argv[1])
made = gateway.Gateway.of({LIMITS!r})
sys.exit(run.run(engine, made, sys.argv[2], sys.argv[3:], user="1000", console=console.Console()))
"""

Start = Callable[..., "subprocess.Popen[bytes]"]


def ours(engine: containers.Engine) -> list[containers.Container]:
    return list(engine.list({run.LABEL: None}))


def await_none(engine: containers.Engine) -> None:
    deadline = time.monotonic() + 20
    while ours(engine):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def argv(engine: containers.Engine, busybox_image: str) -> list[str]:
    return [sys.executable, "-c", CHILD, engine.connection.url, busybox_image]


@pytest.fixture(autouse=True)
def nothing_runs(engine: containers.Engine) -> Iterator[None]:
    yield
    run.sweep(engine)
    await_none(engine)


def once(argv: Sequence[str], *command: str, stdin: bytes = b"") -> tuple[int, bytes, bytes]:
    done = subprocess.run([*argv, *command], input=stdin, capture_output=True, timeout=60)
    return done.returncode, done.stdout, done.stderr


class Terminal:
    """A terminal with `run` in it, as a person has it."""

    def __init__(self, argv: Sequence[str], *, size: tuple[int, int] = (33, 77)) -> None:
        self.master, slave = pty.openpty()
        self.before = termios.tcgetattr(slave)
        self.resize(*size)
        self.process = subprocess.Popen(
            argv, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
        )
        self._slave = slave
        self.seen = b""

    def resize(self, lines: int, columns: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def type(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def expect(self, text: bytes, timeout: float = 20) -> None:
        """Wait until this is on the screen, after what was expected before."""
        deadline = time.monotonic() + timeout
        while text not in self.seen:
            left = deadline - time.monotonic()
            assert left > 0, f"no {text!r} in {self.seen!r}"
            if select.select([self.master], [], [], left)[0]:
                self.seen += os.read(self.master, 65536)
        self.seen = self.seen.partition(text)[2]

    def attributes(self) -> list[object]:
        return list(termios.tcgetattr(self._slave))

    def hang_up(self) -> None:
        os.close(self._slave)
        os.close(self.master)
        self.master = -1

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(20)
        if self.master >= 0:
            self.hang_up()


@pytest.fixture
def terminal(argv: list[str]) -> Iterator[Callable[..., Terminal]]:
    with contextlib.ExitStack() as undo:

        def make(*command: str) -> Terminal:
            made = Terminal([*argv, *command])
            undo.callback(made.close)
            return made

        yield make


# Pipes -------------------------------------------------------------------------------------


def test_streams_and_exit_code_come_back(argv: list[str]) -> None:
    script = "cat; echo error >&2; exit 7"
    assert once(argv, "sh", "-c", script, stdin=b"in\0put") == (7, b"in\0put", b"error\n")


def test_much_goes_through_unchanged(argv: list[str]) -> None:
    data = os.urandom(5_000_000)
    assert once(argv, "cat", stdin=data) == (0, data, b"")


def test_files_serve_as_well_as_pipes(argv: list[str], tmp_path: object) -> None:
    with open(f"{tmp_path}/in", "w+b") as given, open(f"{tmp_path}/out", "w+b") as taken:
        given.write(b"from a file")
        given.seek(0)
        done = subprocess.run([*argv, "cat"], stdin=given, stdout=taken, timeout=60)
        assert done.returncode == 0
        taken.seek(0)
        assert taken.read() == b"from a file"
    done = subprocess.run([*argv, "cat"], stdin=subprocess.DEVNULL, timeout=60)
    assert done.returncode == 0


def test_command_that_takes_no_input_ends_all_the_same(argv: list[str]) -> None:
    assert once(argv, "true", stdin=b"x" * 1_000_000)[0] == 0


def test_last_words_of_a_quick_command_are_heard(argv: list[str]) -> None:
    for _ in range(3):
        assert once(argv, "echo", "quick") == (0, b"quick\n", b"")


def test_it_is_a_sandbox(argv: list[str]) -> None:
    script = """
        id -u; ls /sys/class/net; grep -c . /proc/net/route
        cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/pids.max /sys/fs/cgroup/cpu.max
        grep CapEff /proc/self/status; test -e /mnt/channels || echo no mounts
    """
    code, out, err = once(argv, "sh", "-c", script)
    lines = out.decode().split("\n")
    assert lines[:2] == ["1000", "lo"]
    if "No such file" not in err.decode():  # one hierarchy of cgroups
        assert lines[3:6] == [str(64 * 1024**2), "20", "50000 100000"]
    assert "CapEff:\t0000000000000000" in lines
    assert "no mounts" in lines
    assert code == 0


def test_limits_are_set(
    engine: containers.Engine, argv: list[str], terminal: Callable[..., Terminal]
) -> None:
    made = terminal("sh")
    made.expect(b"$ ")
    (container,) = ours(engine)
    with engine.connection.use() as client:
        host = client.inspect_container(container.id)["HostConfig"]
    assert host["Memory"] == 64 * 1024**2
    assert (host["PidsLimit"], host["CpuPeriod"], host["CpuQuota"]) == (20, 100_000, 50_000)
    assert (host["NetworkMode"], host["AutoRemove"]) == ("none", True)
    assert not host.get("Mounts")
    assert not host["Binds"]


def test_missing_image_and_program_are_told(argv: list[str], engine: containers.Engine) -> None:
    made = gateway.Gateway.of({})
    with pytest.raises(exceptions.NotFound, match="no image cstest-none"):
        run.run(engine, made, "cstest-none:1", user="1000", console=console.Console())
    with pytest.raises(exceptions.InvalidRequest, match="no-such-program"):
        run.run(engine, made, argv[-1], ["no-such-program"], user="1", console=console.Console())


def test_reader_that_goes_away_ends_it(argv: list[str], engine: containers.Engine) -> None:
    with subprocess.Popen(
        [*argv, "yes"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.read(100_000)
        child.stdout.close()
        assert child.wait(30) != 0
    assert not ours(engine)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_signal_removes_the_container(
    argv: list[str], engine: containers.Engine, number: signal.Signals
) -> None:
    with subprocess.Popen(
        [*argv, "sh", "-c", "echo up; sleep 1000"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"up\n"
        child.send_signal(number)
        code = child.wait(30)
    if number != signal.SIGINT:
        assert code == 128 + number
    assert not ours(engine)


def test_next_run_removes_what_a_killed_one_left(
    argv: list[str], engine: containers.Engine, terminal: Callable[..., Terminal]
) -> None:
    living = terminal("sh")
    living.expect(b"$ ")
    killed = terminal("sh", "-c", "echo up; exec sleep 1000")
    killed.expect(b"up")
    killed.process.kill()
    killed.process.wait()
    assert len(ours(engine)) == 2
    assert once(argv, "echo", "next") == (0, b"next\n", b"")
    assert len(ours(engine)) == 1
    living.type(b"exit 3\r")
    assert living.process.wait(20) == 3


def test_containers_of_other_hosts_and_odd_labels_are_let_be(
    engine: containers.Engine, make_spec: Callable[..., containers.ContainerSpec]
) -> None:
    for label in ("elsewhere 0 1 2", "nonsense", "", "a b c d e"):
        made = engine.create(make_spec(labels={run.LABEL: label}))
        run.sweep(engine)
        assert engine.inspect(made).id == made
        engine.remove(made)


# Terminals ---------------------------------------------------------------------------------


def test_shell_on_a_terminal(terminal: Callable[..., Terminal]) -> None:
    made = terminal("sh")
    made.expect(b"$ ")
    assert not int(str(made.attributes()[3])) & termios.ICANON
    made.type(b"tty; echo $((6*7))\r")
    made.expect(b"/dev/pts/0")
    made.expect(b"42")
    made.type(b"exit 5\r")
    assert made.process.wait(20) == 5
    assert made.attributes() == list(made.before)


def test_size_is_the_terminals_and_follows_it(terminal: Callable[..., Terminal]) -> None:
    made = terminal("sh", "-c", "trap 'stty size' WINCH; stty size; while :; do sleep 0.05; done")
    made.expect(b"33 77")
    made.resize(40, 132)
    made.process.send_signal(signal.SIGWINCH)  # the pty isn't the child's controlling terminal
    made.expect(b"40 132")
    made.type(b"\x03")
    assert made.process.wait(20) == 130


def test_control_keys_reach_the_container(terminal: Callable[..., Terminal]) -> None:
    made = terminal("sh")
    made.expect(b"$ ")
    # Of a child: a shell that is still forking keeps the interrupt to itself.
    made.type(b"sh -c 'echo st\"\"art; exec sleep 1000'\r")
    made.expect(b"start")
    made.type(b"\x03")
    made.expect(b"$ ")
    made.type(b"cat -v\r")
    made.expect(b"cat -v")
    made.type(b"\x10\x11\x10\x11x\r")  # what the engine would leave at
    made.expect(b"x")
    made.type(b"\x04")
    made.expect(b"$ ")
    made.type(b"\x04")
    assert made.process.wait(20) in (0, 130)


def test_lost_terminal_removes_the_container(
    engine: containers.Engine, terminal: Callable[..., Terminal]
) -> None:
    made = terminal("sh")
    made.expect(b"$ ")
    made.hang_up()
    assert made.process.wait(20) != 0
    assert not ours(engine)


def test_terminal_is_restored_after_a_signal(terminal: Callable[..., Terminal]) -> None:
    made = terminal("sh")
    made.expect(b"$ ")
    made.process.terminate()
    assert made.process.wait(20) == 128 + signal.SIGTERM
    assert made.attributes() == list(made.before)


def test_console_of_pipes_is_no_terminal() -> None:
    master, slave = pty.openpty()
    try:
        tty.setcbreak(slave)
        assert console.Console(slave, slave, slave).is_terminal
        with open(os.devnull, "r+b") as null:
            assert not console.Console(null.fileno(), slave, slave).is_terminal
            assert not console.Console(slave, null.fileno(), slave).is_terminal
    finally:
        os.close(master)
        os.close(slave)
