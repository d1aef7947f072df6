# SPDX-License-Identifier: Apache-2.0
"""The program that attaches targets as root, as far as a kernel without an initiator allows."""

import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from functional import segments

from container_stack import exceptions
from container_stack.host import attach, attach_brick, brick_helper
from container_stack.rootwrap import brick, brick_wire

pytestmark = pytest.mark.skipif(segments.needs_root, reason="the program's user is root")

PROGRAM = (sys.executable, "-m", "container_stack.rootwrap.brick")


@pytest.fixture
def helper() -> Iterator[brick_helper.Helper]:
    pytest.importorskip("os_brick")
    helper = brick_helper.Helper(PROGRAM)
    yield helper
    helper.close()


def running() -> list[int]:
    """Return the processes of the program that this process started."""
    words = ["pgrep", "--parent", str(os.getpid()), "-f", "container_stack.rootwrap.brick"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return [int(pid) for pid in done.stdout.split()]


def soon(what, seconds=20):
    deadline = time.monotonic() + seconds
    while not what():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def ask(helper):
    """Ask what this host has; whether it has all differs from one to the other."""
    try:
        return helper.ask(brick_wire.Request("check"))
    except exceptions.HostNotReady as exc:
        return str(exc)


def test_a_host_is_told_what_it_lacks(helper):
    said = ask(helper)
    assert isinstance(said, tuple) or "install" in said or "iSCSI" in said


def test_it_is_started_once_and_goes_when_it_is_closed(helper):
    ask(helper)
    first = running()
    ask(helper)
    assert running() == first
    assert len(first) == 1
    helper.close()
    assert running() == []


def test_another_is_started_after_it_was_killed(helper):
    ask(helper)
    (first,) = running()
    os.kill(first, signal.SIGKILL)
    soon(lambda: Path(f"/proc/{first}/status").read_text().count("Z (zombie)"))
    ask(helper)
    assert first not in running()


def test_it_outlives_what_ends_a_service_gently(helper):
    ask(helper)
    (pid,) = running()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(pid, number)
    ask(helper)
    assert running() == [pid]


def test_it_goes_with_its_caller(tmp_path):
    code = (
        "from container_stack.host import brick_helper\n"
        "from container_stack.rootwrap import brick_wire\n"
        "import os, signal, sys\n"
        f"helper = brick_helper.Helper({PROGRAM!r})\n"
        "try: helper.ask(brick_wire.Request('check'))\n"
        "except Exception: pass\n"
        "print(helper._process.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    pytest.importorskip("os_brick")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert soon(lambda: not Path(f"/proc/{done.stdout.strip()}").exists())


def test_an_attachment_is_ended_when_the_process_that_made_it_has_gone(monkeypatch, tmp_path):
    lock = str(tmp_path / "lock")

    def connect(_request):
        fcntl.flock(os.open(lock, os.O_CREAT | os.O_RDWR), fcntl.LOCK_SH)
        return {}, []

    def disconnect(_request):
        fcntl.flock(os.open(lock, os.O_RDWR), fcntl.LOCK_EX | fcntl.LOCK_NB)
        return {}, []

    def send_and_dawdle(*answer, send=brick._send):
        send(*answer)
        time.sleep(1)

    monkeypatch.setattr(brick.brick_target, "preload", lambda: None)
    monkeypatch.setattr(brick, "_ACTIONS", {"connect": connect, "disconnect": disconnect})
    monkeypatch.setattr(brick, "_send", send_and_dawdle)
    helper = brick_helper.Helper(PROGRAM)
    helper._control, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    helper._pid = os.getpid()
    serving = threading.Thread(target=brick._Helper(control).serve)
    serving.start()
    try:
        for action in ("connect", "disconnect"):
            asked = brick_wire.Request(action, iqn="iqn.2026-11.test:one", portals=("[::1]:3260",))
            assert helper.ask(asked) == ({}, [])
    finally:
        helper.close()
        serving.join()


def test_a_message_that_is_no_request_is_answered_with_a_refusal(helper, monkeypatch):
    monkeypatch.setattr(brick_wire.Request, "encode", lambda _request: b'{"action": "run"}')
    with pytest.raises(exceptions.InvalidRequest):
        helper.ask(brick_wire.Request("check"))


def test_a_message_without_a_place_for_the_answer_changes_nothing(helper):
    ask(helper)
    (pid,) = running()
    helper._control.send(brick_wire.Request("check").encode())
    ask(helper)
    assert running() == [pid]


def test_arguments_are_refused():
    done = subprocess.run([*PROGRAM, "x"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "Usage" in done.stderr


@pytest.mark.parametrize(
    ("command", "said"),
    [(("false",), "without a word"), (("sh", "-c", "echo no password >&2; exit 1"), "no password")],
)
def test_a_root_helper_that_does_not_start_is_told_with_its_last_words(command, said):
    with pytest.raises(exceptions.RootHelperUnavailable, match=said):
        brick_helper.Helper(command).ask(brick_wire.Request("check"))


def test_who_pretends_to_be_the_program_and_is_not_root_is_not_believed(tmp_path):
    impostor = (
        "import os, socket, sys\n"
        "path = sys.stdin.readline().strip()\n"
        "os.chmod(path, 0o777); os.chmod(os.path.dirname(path), 0o755)\n"
        "os.setresuid(65534, 65534, 65534)\n"
        "s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); s.connect(path); s.recv(1)\n"
    )
    with pytest.raises(exceptions.RootHelperUnavailable):
        brick_helper.Helper((sys.executable, "-c", impostor)).ask(brick_wire.Request("check"))


def test_an_initiators_name_that_the_kernel_does_not_have_is_refused(helper, monkeypatch):
    monkeypatch.setattr(
        brick_helper.Helper, "ask", lambda *_: ({"found": {}, "initiator": "iqn.2026-11.a:b"}, [])
    )
    monkeypatch.setattr(attach_brick, "_need_programs", lambda: None)
    options = attach.Options(initiator="iqn.2026-11.test:other")
    with pytest.raises(exceptions.HostNotReady, match="initiatorname"):
        attach_brick.BrickAttacher.open(options).check()


def test_sockets_and_directories_do_not_pile_up(helper):
    ask(helper)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        ask(helper)
    helper.close()
    assert len(os.listdir("/proc/self/fd")) < before
    assert not list(Path(os.environ.get("TMPDIR", "/tmp")).glob("cs-brick-*"))


def test_a_forked_child_waits_for_no_thread_of_its_parent():
    slow = brick_helper.Helper(("sleep", "4"))

    def start():
        with pytest.raises(exceptions.RootHelperUnavailable):
            slow.ask(brick_wire.Request("check"))

    starting = threading.Thread(target=start)
    starting.start()
    assert soon(lambda: _children("sleep"))
    child = os.fork()
    if not child:
        signal.alarm(20)
        slow.close()
        os._exit(0)
    starting.join()
    assert os.waitpid(child, 0)[1] == 0


def _children(name):
    words = ["pgrep", "--parent", str(os.getpid()), name]
    return subprocess.run(words, capture_output=True, check=False).stdout
