# SPDX-License-Identifier: Apache-2.0
"""A service's own user, who has nothing but one line in sudoers and the shipped filters."""

import os
import pickle
import pwd
import shutil
import subprocess
import sys
import traceback
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from container_stack import exceptions
from container_stack.rootwrap import commands, config, executor

from . import segments

pytestmark = pytest.mark.skipif(segments.needs_root, reason="makes a user and a rule for sudo")

ETC = Path(__file__).parents[2] / "etc" / "container-stack"
#: A command that never ends by itself.
WAIT = commands.Command("test_wait", "tail --follow {file:image}")
DAEMON = Path(sys.executable).with_name("container-stack-rootwrap-daemon")


class Account:
    """A user without rights, with a state directory and the rule that our docs tell."""

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self.state = directory / "state"
        self.config = directory / "etc" / "rootwrap.conf"
        self.helper = f"sudo -n {DAEMON} {self.config}"
        self._rule = Path("/etc/sudoers.d") / name

    def make(self) -> None:
        subprocess.run(
            ["useradd", "--system", "--no-create-home", "--shell", "/bin/false", self.name],
            check=True,
        )
        for path in (self.state, self.state / "volumes", self.state / "mounts"):
            path.mkdir(mode=0o755)
            shutil.chown(path, self.name)
        # What an operator copies, for another state directory.
        shutil.copytree(ETC, self.config.parent)
        text = (ETC / "rootwrap.conf").read_text()
        self.config.write_text(text.replace("/etc/container-stack", str(self.config.parent)))
        shipped = self.config.parent / "rootwrap.d" / "manila.filters"
        assert shipped.read_text() == commands.filters("manila")
        state = str(self.state)
        shipped.write_text(commands.filters("manila", state) + WAIT.filter(state) + "\n")
        draft = self.config.parent / "sudoers"
        draft.write_text(config.sudoers(self.name, str(DAEMON), str(self.config.parent)))
        subprocess.run(["visudo", "-c", "-f", draft], check=True, capture_output=True)
        draft.chmod(0o440)
        shutil.move(draft, self._rule)
        subprocess.run(["visudo", "-c"], check=True, capture_output=True)

    def remove(self) -> None:
        self._rule.unlink(missing_ok=True)
        subprocess.run(["userdel", self.name], check=True)

    def call(self, function: Callable[[], Any]) -> Any:
        """Call a function as this user, in a child, and return what it returns.

        The child is forked: this user may have no right to read the Python that runs here.
        """
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            with os.fdopen(writer, "wb") as file:
                file.write(pickle.dumps(self._outcome(function)))
            os._exit(0)
        os.close(writer)
        with os.fdopen(reader, "rb") as file:
            value, problem = pickle.loads(file.read())
        os.waitpid(child, 0)
        assert not problem, problem
        return value

    def _outcome(self, function: Callable[[], Any]) -> tuple[Any, str]:
        try:
            record = pwd.getpwnam(self.name)
            os.setgroups([])
            os.setgid(record.pw_gid)
            os.setuid(record.pw_uid)
            os.chdir("/")
            return function(), ""
        except BaseException:
            return None, traceback.format_exc()


@pytest.fixture(scope="module")
def account() -> Iterator[Account]:
    if not DAEMON.exists():
        pytest.fail("Install the package: sudo is given its console script.")
    name = f"cstest{uuid.uuid4().hex[:8]}"
    directory = Path("/var/tmp") / name
    directory.mkdir(mode=0o755)
    made = Account(name, directory)
    try:
        made.make()
        yield made
    finally:
        made.remove()
        shutil.rmtree(directory)


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
        device = run.run(commands.LOOP_ATTACH, file=str(image)).strip()
        try:
            assert run.run(commands.LOOP_ATTACH, file=str(image)).strip() == device
            run.run(commands.MAKE_XFS, device=device)
            run.run(commands.MOUNT_XFS, device=device, path=str(mount), access="rw")
            mounted = f" {mount} " in Path("/proc/self/mountinfo").read_text()
            run.run(commands.UNMOUNT, path=str(mount))
        finally:
            run.run(commands.LOOP_DETACH, device=device)
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
            run.run(commands.UNMOUNT, path=str(account.state / "mounts" / "none"))
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
            run.run(commands.UNMOUNT, path=str(account.state / "mounts" / "none"))
        return str(caught.value)

    said = account.call(ask)
    assert "a password is required" in said
    assert "sudo -nl" in said


def test_the_daemon_goes_with_its_users_process(account):
    def leave() -> None:
        run = executor.Executor(account.helper, state_dir=str(account.state))
        with pytest.raises(exceptions.CommandFailed):
            run.run(commands.UNMOUNT, path=str(account.state / "mounts" / "none"))
        # No close(): the process just ends.

    account.call(leave)
    for _ in range(100):
        done = subprocess.run(["pgrep", "-f", str(account.config)], check=False)
        if done.returncode:
            return
        subprocess.run(["sleep", "0.05"], check=True)
    pytest.fail("a daemon of root outlived its user's process")
