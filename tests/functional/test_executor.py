# SPDX-License-Identifier: Apache-2.0
"""Privileged commands through real daemons: filters, deadlines, lost daemons and clients."""

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path

import pytest

from container_stack import exceptions
from container_stack.rootwrap import commands, executor
from container_stack.testing import privilege

from . import segments

pytestmark = pytest.mark.skipif(segments.needs_root, reason="reads what daemons of root do")

# Programs of these tests' own. Each writes a line when it starts, and perhaps more.
TICK = """#!/usr/bin/python3 -I
import sys, time
with open(sys.argv[1], "a", buffering=1) as file:
    end = time.monotonic() + float(sys.argv[2]) / 1000
    print("start", file=file)
    while time.monotonic() < end:
        print("tick", file=file)
        time.sleep(0.02)
    print("end", file=file)
print("told")
"""
WORK = commands.Command("test_work", "cs-tick {file:mountpoint} {milliseconds:size}")
WORK_ONCE = commands.Command("test_once", WORK.template, idempotent=False)
WORK_LONG = commands.Command("test_long", WORK.template, long=True)
REFUSED = commands.Command("test_refused", "touch {file:mountpoint}")

CLIENT = """
import sys
from container_stack.rootwrap import commands, executor
command = commands.Command("test_work", "cs-tick {file:mountpoint} {milliseconds:size}")
run = executor.Executor(sys.argv[1], state_dir=sys.argv[2])
run.run(command, file=sys.argv[3], milliseconds=1000)
"""

FORKING_CLIENT = f"""{CLIENT}
import os
print("ran", flush=True)
sys.stdin.readline()
if not os.fork():
    sys.exit()
print("the child has ended:", os.wait()[1], flush=True)
sys.stdin.readline()
"""


class Lab:
    """A state directory whose filters admit the tests' own commands as well."""

    def __init__(self, directory: Path) -> None:
        self.state = directory / "state"
        (self.state / "mounts").mkdir(parents=True)
        self._made = privilege.make_executor(self.state)
        self.config = directory / "state.rootwrap" / "rootwrap.conf"
        # Short, for a socket's name, and nobody else's.
        self.sockets = Path(tempfile.mkdtemp(prefix="cs-"))
        self.helper = (
            f"env TMPDIR={self.sockets} {sys.executable} -m container_stack.rootwrap.cmd "
            f"{self.config}"
        )
        filters = self.config.parent / "rootwrap.d" / "manila.filters"
        filters.write_text(filters.read_text() + WORK.filter(str(self.state)) + "\n")
        programs = directory / "bin"
        programs.mkdir()
        (programs / "cs-tick").write_text(TICK)
        (programs / "cs-tick").chmod(0o755)
        text = self.config.read_text()
        self.config.write_text(text.replace("exec_dirs = ", f"exec_dirs = {programs},"))
        self._executors: list[executor.Executor] = []
        self.killed = 0

    def executor(self, **values: int) -> executor.Executor:
        self._executors.append(
            executor.Executor(self.helper, state_dir=str(self.state), **values)  # type: ignore[arg-type]
        )
        return self._executors[-1]

    def file(self, name: str) -> str:
        return str(self.state / "mounts" / name)

    def lines(self, name: str) -> list[str]:
        path = Path(self.file(name))
        return path.read_text().splitlines() if path.exists() else []

    def daemons(self) -> set[int]:
        return processes(str(self.config))

    def workers(self) -> set[int]:
        return processes(str(self.state / "mounts"))

    def kill_daemons(self) -> None:
        for pid in self.daemons():
            os.kill(pid, signal.SIGKILL)
            self.killed += 1

    def close(self) -> None:
        for each in self._executors:
            each.close()


def processes(word: str) -> set[int]:
    """Return the processes, but for this one, that have a text in their command line."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if word in (entry / "cmdline").read_text(errors="replace"):
                    found.add(int(entry.name))
    return found


def wait_until(condition: object, seconds: float = 20.0) -> float:
    start = time.monotonic()
    while not condition():  # type: ignore[operator]
        assert time.monotonic() - start < seconds, "it didn't come true in time"
        time.sleep(0.01)
    return time.monotonic() - start


def forked(work: Callable[[], object]) -> int:
    """Do something in a forked child, and return the child's status.

    If a thread of this process starts or ends just then, the child may never leave os.fork():
    Python before 3.11.10 waits in it for a lock that nobody has any more (its issue gh-112275).
    Such a child has done nothing yet, and another takes its place.
    """
    for _ in range(3):
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            # No handler of Python's: where it isn't called, the wait would have no end.
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(60)
            os.write(writer, b".")
            with contextlib.suppress(BaseException):
                work()
                os._exit(0)
            os._exit(1)
        os.close(writer)
        began = select.select([reader], [], [], 20)[0]
        os.close(reader)
        if not began:
            os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        if began:
            return status
    raise AssertionError("no child left os.fork()")


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    made = Lab(tmp_path)
    yield made
    made.close()
    wait_until(lambda: not made.daemons() and not made.workers())
    left = list(made.sockets.iterdir())
    shutil.rmtree(made.sockets)
    assert len(left) <= made.killed, "a daemon left its directory"


@pytest.fixture
def run(lab: Lab) -> executor.Executor:
    return lab.executor()


def test_a_command_returns_what_it_wrote(run, lab):
    assert run.run(WORK, file=lab.file("a"), milliseconds=1) == "told\n"
    assert lab.lines("a")[0] == "start"


def test_a_failed_command_tells_its_name_code_and_last_line(run, lab):
    with pytest.raises(exceptions.CommandFailed) as caught:
        run.run(commands.fs.UNMOUNT, path=lab.file("none"))
    assert caught.value.command == "unmount"
    assert caught.value.exit_code == 32
    assert "no mount point specified" in caught.value.stderr
    assert not caught.value.timed_out


def test_as_root_the_filters_apply(run, lab):
    assert os.geteuid() == 0
    with pytest.raises(exceptions.RootHelperUnavailable, match="filters refuse test_refused"):
        run.run(REFUSED, file=lab.file("a"))
    assert not Path(lab.file("a")).exists()
    assert run.run(WORK, file=lab.file("b"), milliseconds=1), "the daemon is still well"


def test_a_program_that_is_not_installed_is_told_by_name(lab, run):
    command = commands.Command("test_absent", "cs-absent {file:mountpoint}")
    filters = lab.config.parent / "rootwrap.d" / "manila.filters"
    filters.write_text(filters.read_text() + command.filter(str(lab.state)) + "\n")
    with pytest.raises(exceptions.RootHelperUnavailable, match="cs-absent is not installed"):
        run.run(command, file=lab.file("a"))


def test_who_has_closed_an_executor_holds_nothing_of_it_open(lab):
    for _turn in range(3):
        before = os.listdir("/proc/self/fd")
        run = lab.executor()
        run.run(WORK, file=lab.file("a"), milliseconds=1)
        assert len(os.listdir("/proc/self/fd")) > len(before)
        run.close()
        assert len(os.listdir("/proc/self/fd")) == len(before)


def test_privsep_helper_is_admitted_by_no_filter_of_ours(lab):
    client = executor._Client(tuple(lab.helper.split()))
    assert client.execute(["privsep-helper", "--help"])[0] == 99
    client.close()


def test_programs_of_the_callers_path_are_never_run(lab, tmp_path, monkeypatch):
    evil = tmp_path / "evil"
    evil.mkdir()
    for program in ("cs-tick", "umount", "python3"):
        (evil / program).write_text(f"#!/bin/sh\ntouch {tmp_path}/owned\n")
        (evil / program).chmod(0o755)
    monkeypatch.setenv("PATH", f"{evil}:{os.environ['PATH']}")
    run = lab.executor()
    with pytest.raises(exceptions.CommandFailed):
        run.run(commands.fs.UNMOUNT, path=lab.file("none"))
    run.run(WORK, file=lab.file("a"), milliseconds=1)
    daemon = next(iter(lab.daemons()))
    assert str(evil) in Path(f"/proc/{daemon}/environ").read_text(), "it was given that PATH"
    assert not (tmp_path / "owned").exists()


def test_a_command_past_its_deadline_is_killed_and_its_effect_ends(run, lab):
    start = time.monotonic()
    with pytest.raises(exceptions.CommandFailed, match="overran its deadline") as caught:
        run.run(WORK, timeout=0.4, file=lab.file("a"), milliseconds=60_000)
    assert 0.4 <= time.monotonic() - start < 20
    assert caught.value.timed_out
    wait_until(lambda: not lab.workers())
    lines = lab.lines("a")
    time.sleep(0.2)
    assert lab.lines("a") == lines
    assert lines.count("start") == 1, "a killed command is not run again"
    assert run.run(WORK, file=lab.file("b"), milliseconds=1) == "told\n"


def test_the_catalogues_deadline_holds_without_a_timeout(run, lab):
    hasty = commands.Command("test_hasty", WORK.template, 0.3)
    with pytest.raises(exceptions.CommandFailed, match="test_hasty overran"):
        run.run(hasty, file=lab.file("a"), milliseconds=60_000)


def test_a_deadline_that_passes_disturbs_no_other_command(run, lab):
    with futures.ThreadPoolExecutor(4) as pool:
        late = pool.submit(run.run, WORK, timeout=0.7, file=lab.file("l"), milliseconds=60_000)
        wait_until(lambda: lab.lines("l"))
        others = [
            pool.submit(run.run, WORK, file=lab.file(f"o{i}"), milliseconds=60) for i in range(40)
        ]
        assert {each.result(20) for each in others} == {"told\n"}
        with pytest.raises(exceptions.CommandFailed):
            late.result(20)
    assert all(lab.lines(f"o{i}").count("start") == 1 for i in range(40))


def test_long_commands_do_not_hold_up_short_ones(lab):
    run = lab.executor(short=1, long=1)
    with futures.ThreadPoolExecutor(1) as pool:
        long = pool.submit(run.run, WORK_LONG, file=lab.file("long"), milliseconds=2500)
        wait_until(lambda: lab.lines("long"))
        run.run(WORK, file=lab.file("short"), milliseconds=1)
        assert not long.done()
        assert long.result(10) == "told\n"


def test_a_killed_clients_daemon_goes_when_its_command_has_ended(lab):
    client = subprocess.Popen(
        [sys.executable, "-c", CLIENT, lab.helper, str(lab.state), lab.file("a")]
    )
    wait_until(lambda: lab.lines("a"))
    client.kill()
    client.wait()
    wait_until(lambda: not lab.daemons(), 20)
    assert lab.lines("a")[-1] == "end"


def test_after_an_idle_daemon_was_killed_the_next_command_works(run, lab):
    run.run(WORK_ONCE, file=lab.file("a"), milliseconds=1)
    lab.kill_daemons()
    assert run.run(WORK_ONCE, file=lab.file("b"), milliseconds=1) == "told\n"
    assert lab.lines("b").count("start") == 1


def test_a_command_that_must_not_be_repeated_is_not_when_its_daemon_dies(run, lab):
    with futures.ThreadPoolExecutor(1) as pool:
        lost = pool.submit(run.run, WORK_ONCE, file=lab.file("a"), milliseconds=500)
        wait_until(lambda: lab.lines("a"))
        lab.kill_daemons()
        with pytest.raises(exceptions.CommandFailed, match=r"test_once.*daemon went away"):
            lost.result(10)
    wait_until(lambda: not lab.workers())
    assert lab.lines("a").count("start") == 1
    assert run.run(WORK_ONCE, file=lab.file("b"), milliseconds=1) == "told\n"


def test_a_command_that_may_be_repeated_is_when_its_daemon_dies(run, lab):
    with futures.ThreadPoolExecutor(1) as pool:
        lost = pool.submit(run.run, WORK, file=lab.file("a"), milliseconds=500)
        wait_until(lambda: lab.lines("a"))
        lab.kill_daemons()
        assert lost.result(10) == "told\n"
    assert lab.lines("a").count("start") == 2


def test_sixteen_threads_get_their_own_answers(run, lab):
    def work(number: int) -> None:
        for turn in range(4):
            run.run(WORK, file=lab.file(f"{number}-{turn}"), milliseconds=number + 1)

    with futures.ThreadPoolExecutor(16) as pool:
        list(pool.map(work, range(16)))
    assert all(
        lab.lines(f"{number}-{turn}")[-1] == "end" for number in range(16) for turn in range(4)
    )
    assert len(lab.daemons()) <= 4


def test_a_forked_child_has_daemons_of_its_own_and_the_parents_live_on(run, lab):
    run.run(WORK, file=lab.file("before"), milliseconds=1)
    parents = lab.daemons()
    with futures.ThreadPoolExecutor(1) as pool:
        busy = pool.submit(run.run, WORK, file=lab.file("busy"), milliseconds=1200)
        wait_until(lambda: lab.lines("busy"))
        child = os.fork()
        if child == 0:
            with contextlib.suppress(BaseException):
                run.run(WORK, file=lab.file("child"), milliseconds=300)
                os._exit(0)
            os._exit(1)
        wait_until(lambda: lab.lines("child"))
        assert len(lab.daemons()) > len(parents), "the child started daemons"
        assert os.waitpid(child, 0)[1] == 0
        assert busy.result(10) == "told\n"
    wait_until(lambda: lab.daemons() == parents, 20)
    assert lab.lines("child")[-1] == "end"
    assert run.run(WORK, file=lab.file("after"), milliseconds=1) == "told\n"
    assert lab.daemons() == parents


def test_a_forked_child_that_ends_leaves_the_parents_daemons_alone(lab):
    words = [sys.executable, "-c", FORKING_CLIENT, lab.helper, str(lab.state), lab.file("a")]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as client:
        assert client.stdout.readline() == b"ran\n"
        parents = lab.daemons()
        client.stdin.write(b"fork\n")
        client.stdin.flush()
        assert client.stdout.readline() == b"the child has ended: 0\n"
        time.sleep(0.5)
        assert lab.daemons() == parents != set()


def test_a_child_that_is_forked_while_a_thread_starts_the_daemons_does_not_hang(lab):
    run = lab.executor()
    threads = [
        threading.Thread(
            target=run.run, args=(WORK,), kwargs={"file": lab.file(f"t{i}"), "milliseconds": 1}
        )
        for i in range(4)
    ]
    for thread in threads:
        thread.start()
    assert forked(lambda: run.run(WORK, file=lab.file("child"), milliseconds=1)) == 0
    for thread in threads:
        thread.join(10)
    assert lab.lines("child")[-1] == "end"


@pytest.mark.parametrize(
    ("helper", "said"),
    [
        ("/nonexistent/daemon", "No such file"),
        ("/bin/false", "without a word"),
        ("/bin/echo hello", "without a word"),
        ("sh -c 'echo it is broken >&2; exit 3'", "it is broken"),
        (
            f"{sys.executable} -m container_stack.rootwrap.cmd /nonexistent.conf",
            "/nonexistent.conf",
        ),
        (f"{sys.executable} -m container_stack.rootwrap.cmd /etc/hostname", "/etc/hostname"),
        (f"{sys.executable} -m container_stack.rootwrap.cmd", "Usage"),
        ("sudo -n -u nobody sudo -n true", "password is required"),
    ],
)
def test_a_root_helper_that_does_not_start_is_told_with_what_to_check(helper, said, lab):
    run = executor.Executor(helper, state_dir=str(lab.state))
    with pytest.raises(exceptions.RootHelperUnavailable) as caught:
        run.run(WORK, file=lab.file("a"), milliseconds=1)
    assert said in str(caught.value)
    assert "root helper" in str(caught.value)
    assert "sudo -nl" in str(caught.value)
    run.close()


def test_close_leaves_nothing_and_the_executor_works_again(run, lab):
    with futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda i: run.run(WORK, file=lab.file(f"{i}"), milliseconds=100), range(4)))
    run.run(WORK_LONG, file=lab.file("long"), milliseconds=1)
    assert len(lab.daemons()) >= 2
    run.close()
    assert not lab.daemons()
    run.close()
    assert run.run(WORK, file=lab.file("again"), milliseconds=1) == "told\n"


def test_a_daemon_ends_though_whoever_started_it_blocks_signals(run, lab):
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        assert run.run(WORK, file=lab.file("one"), milliseconds=1) == "told\n"
        assert lab.daemons()
        run.close()
        assert not lab.daemons()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


SIGNALLED = """
import _thread, os, signal, sys, time
from container_stack.rootwrap import cmd
sys.setswitchinterval(1e-7)
def storm():
    time.sleep(0.2)
    for _ in range(20000):
        os.kill(os.getpid(), signal.SIGINT)
_thread.start_new_thread(storm, ())
cmd.daemon()
"""


def test_a_daemon_that_is_told_twice_to_end_ends_and_leaves_nothing(lab):
    # A thread switch within the signal's handler, which a busy machine makes by itself.
    for _ in range(10):
        argv = [sys.executable, "-c", SIGNALLED, str(lab.config)]
        pipe = subprocess.PIPE
        environment = os.environ | {"TMPDIR": str(lab.sockets)}
        with subprocess.Popen(argv, stdin=pipe, stdout=pipe, env=environment) as daemon:
            assert daemon.stdout is not None
            assert daemon.stdout.readline()
            assert daemon.wait(20) == 0
        assert not list(lab.sockets.iterdir())
