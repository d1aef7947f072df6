# SPDX-License-Identifier: Apache-2.0
"""Commands inside containers."""

import hashlib
import os
import time
from collections.abc import Callable

import pytest

from container_stack import exceptions
from container_stack.host import containers

from .conftest import MakeSpec
from .test_containers import run_forked

Engine = containers.Engine

#: A whole second beyond what killing takes on a busy machine.
SLACK = 3.0


def processes(engine: Engine, container: str) -> list[str]:
    listed = engine.exec(container, ["ps", "-o", "args"]).stdout.decode().splitlines()
    return [line.strip() for line in listed[1:]]


def overrun(engine: Engine, container: str, script: str, **options: object) -> float:
    """Run a script that doesn't end within a second; return the seconds until it was given up."""
    started = time.monotonic()
    with pytest.raises(exceptions.CommandFailed) as failure:
        engine.exec(container, ["sh", "-c", script], timeout=1.0, **options)  # type: ignore[arg-type]
    assert failure.value.timed_out
    assert failure.value.command == "sh"
    return time.monotonic() - started


def test_streams_stay_apart_and_binary(engine: Engine, container: str) -> None:
    made = (
        "head -c 300000 /dev/urandom > /tmp/%s; cat /tmp/%s >&%d; sha256sum < /tmp/%s > /tmp/%s.sum"
    )
    script = "; ".join(made % (n, n, fd, n, n) for n, fd in (("out", 1), ("err", 2)))
    result = engine.exec(container, ["sh", "-c", f"{script}; exit 9"])
    assert result.exit_code == 9
    for name, data in (("out", result.stdout), ("err", result.stderr)):
        told = engine.exec(container, ["cat", f"/tmp/{name}.sum"]).stdout.split()[0]
        assert len(data) == 300000
        assert hashlib.sha256(data).hexdigest().encode() == told


def test_5_mb_of_input_come_back_while_they_go_in(engine: Engine, container: str) -> None:
    data = os.urandom(5_000_003)
    result = engine.exec(container, ["sh", "-c", "tee /dev/stderr"], stdin=data)
    assert result.stdout == data
    assert result.stderr == data


def test_input_ends(engine: Engine, container: str) -> None:
    assert engine.exec(container, ["wc", "-c"], stdin=b"12345").stdout.strip() == b"5"
    assert engine.exec(container, ["wc", "-c"], timeout=5).stdout.strip() == b"0"


def test_command_that_wants_no_input_still_gives_its_output(engine: Engine, container: str) -> None:
    for _ in range(5):
        result = engine.exec(
            container, ["sh", "-c", "echo done; exit 4"], stdin=b"x" * 5_000_000, timeout=10
        )
        assert (result.exit_code, result.stdout) == (4, b"done\n")


def test_many_short_outputs_lose_no_byte(engine: Engine, container: str) -> None:
    for number in range(40):
        result = engine.exec(container, ["sh", "-c", f"echo {number}; echo {number} >&2"])
        assert (result.stdout, result.stderr) == (b"%d\n" % number, b"%d\n" % number)


def test_environment_and_user_are_the_commands_own(engine: Engine, container: str) -> None:
    result = engine.exec(
        container,
        ["sh", "-c", 'echo "$NAME" $(id -u)'],
        environment={"NAME": "a = 'b'\n c"},
        user="guest",
    )
    assert result.stdout == b"a = 'b'\n c 1000\n"


@pytest.mark.parametrize("argv", [["no-such-program"], ["/tmp"]])
def test_what_cannot_run_has_the_shells_exit_code(
    engine: Engine, container: str, argv: list[str]
) -> None:
    assert engine.exec(container, argv).exit_code in (126, 127)


def test_death_by_signal_is_told(engine: Engine, container: str) -> None:
    assert engine.exec(container, ["sh", "-c", "kill -TERM $$"]).exit_code == 143


def test_command_may_close_its_streams_and_work_on(engine: Engine, container: str) -> None:
    started = time.monotonic()
    result = engine.exec(container, ["sh", "-c", "exec >&- 2>&-; sleep 0.7; exit 5"])
    assert result.exit_code == 5
    assert time.monotonic() - started > 0.6


@pytest.mark.parametrize(
    ("script", "bystanders"),
    [
        ("exec sleep 1000", "sleep 1000"),
        ("trap '' TERM INT HUP; sleep 1001; sleep 1001", "sleep 1001"),
        ("(sleep 1002 & sleep 1002) & sleep 1002", "sleep 1002"),
        ("setsid sleep 1003 & wait", "sleep 1003"),
        ("exec >&- 2>&-; sleep 1004", "sleep 1004"),
        ("exec yes endless", "yes endless"),
        ("exec sleep 1005 <&0", "sleep 1005"),
    ],
)
def test_deadline_kills_the_command_and_its_children(
    engine: Engine, container: str, script: str, bystanders: str
) -> None:
    other = run_forked(lambda: sleep_elsewhere(engine, container))
    time.sleep(0.3)
    assert 1.0 <= overrun(engine, container, script) < 1.0 + SLACK
    left = processes(engine, container)
    assert bystanders not in left
    assert "sleep 3" in left, "a command that had time left was killed too"
    assert os.waitpid(other, 0)[1] == 0


def sleep_elsewhere(engine: Engine, container: str) -> None:
    assert engine.exec(container, ["sleep", "3"]).exit_code == 0


def test_deadline_kills_an_unprivileged_users_command(engine: Engine, container: str) -> None:
    overrun(engine, container, "sleep 1000", user="guest")
    assert "sleep 1000" not in processes(engine, container)


def test_deadline_kills_where_little_is_granted(engine: Engine, make_spec: MakeSpec) -> None:
    spec = make_spec(
        read_only_root=True, limits=containers.Limits(memory=16 * 1024**2, pids=8), user="guest"
    )
    container_id = engine.run(spec)
    forks = "for n in 1 2 3 4 5 6 7 8 9; do sleep 1000 & done; wait; sleep 1000"
    overrun(engine, container_id, forks)
    left = processes(engine, container_id)
    engine.remove(container_id)
    assert "sleep 1000" not in left


def test_deadline_holds_while_input_is_not_read(engine: Engine, container: str) -> None:
    assert overrun(engine, container, "sleep 1000", stdin=b"x" * 5_000_000) < 1.0 + SLACK
    assert "sleep 1000" not in processes(engine, container)


@pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")
def test_normal_user_in_the_docker_group_can_kill(engine: Engine, container: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("becoming another user needs root")
    path = engine.connection.url.removeprefix("unix://")
    group = os.stat(path).st_gid

    def as_nobody() -> None:
        os.setgroups([group])
        os.setgid(65534)
        os.setuid(65534)
        overrun(Engine(engine.connection.url), container, "sleep 1000 & sleep 1000")

    assert os.waitpid(run_forked(as_nobody), 0)[1] == 0
    assert "sleep 1000" not in processes(engine, container)


def test_overrun_tells_what_the_command_said_last(engine: Engine, container: str) -> None:
    with pytest.raises(exceptions.CommandFailed) as failure:
        engine.exec(container, ["sh", "-c", "echo waiting for godot >&2; sleep 99"], timeout=1)
    assert failure.value.stderr == "waiting for godot"


def test_container_without_busybox_is_warned_of(
    engine: Engine, container: str, caplog: pytest.LogCaptureFixture
) -> None:
    # Where an engine starts commands in the wrong root, this must not cost the machine its busybox.
    remove = "test -e /.dockerenv && cp /bin/busybox /tmp/sleep && rm /bin/busybox"
    engine.exec(container, ["sh", "-c", remove])
    started = time.monotonic()
    with pytest.raises(exceptions.CommandFailed):
        engine.exec(container, ["/tmp/sleep", "50"], timeout=0.5)
    assert "can't be killed; restart the container" in caplog.text
    assert time.monotonic() - started < 0.5 + 5.0 + SLACK


@pytest.mark.parametrize("end", [Engine.kill, Engine.remove])
def test_container_that_goes_away_ends_its_commands(
    engine: Engine, container: str, end: Callable[[Engine, str], None]
) -> None:
    pid = run_forked(lambda: expect_end(engine, container))
    time.sleep(0.5)
    end(engine, container)
    started = time.monotonic()
    assert os.waitpid(pid, 0)[1] == 0
    assert time.monotonic() - started < 5


def expect_end(engine: Engine, container: str) -> None:
    try:
        exit_code = engine.exec(container, ["sleep", "60"], timeout=60).exit_code
    except exceptions.CommandFailed as exc:
        exit_code = -1 if "stopped while it ran" in str(exc) and not exc.timed_out else 0
    assert exit_code in (137, -1)


def test_stopped_and_missing_containers_are_told_apart(
    engine: Engine, make_spec: MakeSpec, name: str
) -> None:
    with pytest.raises(exceptions.NotFound, match=name):
        engine.exec(name, ["true"])
    with engine.creating(make_spec()) as container_id:
        with pytest.raises(exceptions.Busy, match="not running"):
            engine.exec(container_id, ["true"])
        engine.remove(container_id)
