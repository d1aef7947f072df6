# SPDX-License-Identifier: Apache-2.0
"""A service's own user, who has nothing but one line in sudoers and the shipped filters."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from container_stack import exceptions
from container_stack.rootwrap import commands, executor

from . import segments, service_account

pytestmark = pytest.mark.skipif(segments.needs_root, reason="makes a user and a rule for sudo")

#: A command that never ends by itself.
WAIT = commands.Command("test_wait", "tail --follow {file:image}")
DAEMON = service_account.DAEMON


@pytest.fixture(scope="module")
def account() -> Iterator[service_account.Account]:
    with service_account.account(more=[WAIT]) as made:
        yield made


def sudo(*words: str, environment: dict[str, str] | None = None) -> Callable[[], int]:
    def run() -> int:
        done = subprocess.run(
            ["sudo", "-n", *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            env={**os.environ, **(environment or {})},
        )
        return done.returncode

    return run


def test_a_volume_lives_its_life_by_a_normal_users_commands(account):
    image, mount = account.state / "volumes" / "v1.img", account.state / "mounts" / "v1"

    def life() -> tuple[int, str, bool]:
        assert os.geteuid() != 0
        with image.open("wb") as file:
            file.truncate(320 * 1024**2)
        mount.mkdir()
        run = executor.Executor(account.helper, state_dir=str(account.state))
        device = run.run(commands.loop.ATTACH, file=str(image)).strip()
        try:
            assert run.run(commands.loop.ATTACH, file=str(image)).strip() == device
            run.run(commands.fs.MAKE_XFS, device=device)
            run.run(commands.fs.MOUNT_XFS, device=device, path=str(mount), access="rw")
            mounted = f" {mount} " in Path("/proc/self/mountinfo").read_text()
            run.run(commands.fs.UNMOUNT, path=str(mount))
        finally:
            run.run(commands.loop.DETACH, device=device)
            run.close()
        return os.geteuid(), device, mounted

    euid, device, mounted = account.call(life)
    assert euid != 0
    assert device.startswith("/dev/loop")
    assert mounted
    attached = subprocess.run(["losetup", "-j", image], check=True, capture_output=True, text=True)
    assert attached.stdout == ""


def test_a_command_of_roots_is_killed_at_the_normal_users_deadline(account):
    image = account.state / "volumes" / "wait.img"
    image.touch()

    def wait() -> bool:
        run = executor.Executor(account.helper, state_dir=str(account.state))
        with pytest.raises(exceptions.CommandFailed) as caught:
            run.run(WAIT, timeout=0.5, file=str(image))
        run.close()
        return caught.value.timed_out

    assert account.call(wait)
    assert subprocess.run(["pgrep", "-f", str(image)], check=False).returncode == 1


def test_the_user_can_run_nothing_else_through_sudo(account, tmp_path):
    evil = account.state / "evil.conf"
    evil.write_text("[DEFAULT]\nfilters_path=/tmp\n")
    copy = account.state / "rootwrap.conf"
    daemon, configuration = str(DAEMON), str(account.config)
    attempts: Sequence[Callable[[], int]] = (
        sudo("id"),
        sudo("sh", "-c", "id"),
        sudo(sys.executable, "-c", "pass"),
        sudo(daemon),
        sudo(daemon, str(evil)),
        sudo(daemon, str(copy)),
        sudo(daemon, configuration, "more"),
        sudo(daemon, configuration + "x"),
        sudo("-u", "nobody", daemon, configuration),
        sudo("PYTHONPATH=/tmp", daemon, configuration),
        sudo("LD_PRELOAD=/tmp/evil.so", daemon, configuration),
        sudo("-E", daemon, configuration),
        sudo(str(DAEMON.with_name("container-stack-rootwrap")), configuration, "id"),
        sudo("-s"),
        sudo("-i"),
        sudo("-l", "-U", "root"),
    )
    for attempt in attempts:
        assert account.call(attempt) != 0
    assert account.call(sudo("-l", daemon, configuration)) == 0, "but this it can"


def test_the_users_environment_does_not_reach_the_daemon(account):
    directory = account.state / "python"
    directory.mkdir(exist_ok=True)
    for name in ("sitecustomize", "configparser", "oslo_rootwrap"):
        (directory / f"{name}.py").write_text(f"open('{account.state}/owned', 'w')\n")

    def start() -> None:
        os.environ.update(PYTHONPATH=str(directory), PYTHONHOME="", PYTHONSTARTUP=str(directory))
        os.chdir(directory)
        run = executor.Executor(account.helper, state_dir=str(account.state))
        with pytest.raises(exceptions.CommandFailed):
            run.run(commands.fs.UNMOUNT, path=str(account.state / "mounts" / "none"))
        run.close()

    account.call(start)
    assert not (account.state / "owned").exists()


def test_the_daemon_runs_nothing_that_the_filters_do_not_name(account):
    lines = (
        ["id"],
        ["sh", "-c", "id"],
        ["privsep-helper", "--help"],
        ["/sbin/losetup", "--find"],
        ["losetup", "--detach-all"],
        ["losetup", "--find", "--show", "--nooverlap", "/etc/shadow"],
        ["mount", "--bind", "/etc", f"{account.state}/mounts"],
        ["umount", "/"],
    )

    def ask() -> list[int]:
        client = executor._Client(tuple(account.helper.split()))
        codes = [client.execute(line)[0] for line in lines]
        client.close()
        return codes

    assert account.call(ask) == [99] * len(lines)


def test_without_a_rule_the_error_says_how_to_look(account):
    def ask() -> str:
        helper = f"sudo -n {DAEMON} {account.config}x"
        run = executor.Executor(helper, state_dir=str(account.state))
        with pytest.raises(exceptions.RootHelperUnavailable) as caught:
            run.run(commands.fs.UNMOUNT, path=str(account.state / "mounts" / "none"))
        return str(caught.value)

    said = account.call(ask)
    assert "a password is required" in said
    assert "sudo -nl" in said


def test_the_daemon_goes_with_its_users_process(account):
    def leave() -> None:
        run = executor.Executor(account.helper, state_dir=str(account.state))
        with pytest.raises(exceptions.CommandFailed):
            run.run(commands.fs.UNMOUNT, path=str(account.state / "mounts" / "none"))
        # No close(): the process just ends.

    account.call(leave)
    for _ in range(100):
        done = subprocess.run(["pgrep", "-f", str(account.config)], check=False)
        if done.returncode:
            return
        subprocess.run(["sleep", "0.05"], check=True)
    pytest.fail("a daemon of root outlived its user's process")
