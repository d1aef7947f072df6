# SPDX-License-Identifier: Apache-2.0
"""A service's own user, who has nothing but one line in sudoers and the shipped filters."""

import contextlib
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
from typing import Any, TypeVar

import pytest

from container_stack.rootwrap import commands, config

ETC = Path(__file__).parents[2] / "etc" / "container-stack"
DAEMON = Path(sys.executable).with_name("container-stack-rootwrap-daemon")
A = TypeVar("A", bound="Account")


@contextlib.contextmanager
def account(
    *,
    driver: str = "manila",
    more: Sequence[commands.Command] = (),
    groups: Sequence[int] = (),
) -> "Iterator[Account]":
    """Make a user with a directory of his own, and remove both."""
    with making(
        lambda name, directory: Account(name, directory, driver=driver, more=more, groups=groups)
    ) as made:
        yield made


@contextlib.contextmanager
def making(new: Callable[[str, Path], A]) -> Iterator[A]:
    """Make what is made of a new name and a new directory, and remove all of it."""
    if not DAEMON.exists():
        pytest.fail("Install the package: sudo is given its console script.")
    name = f"cstest{uuid.uuid4().hex[:8]}"
    directory = Path("/var/tmp") / name
    directory.mkdir(mode=0o755)
    made = new(name, directory)
    try:
        made.make()
        yield made
    finally:
        made.remove()
        shutil.rmtree(directory)


class Account:
    """A user without rights, with a state directory and the rule that our docs tell.

    :param more: commands that its filters admit besides the driver's.
    :param groups: that it is in, such as the engine's.
    """

    def __init__(
        self,
        name: str,
        directory: Path,
        *,
        driver: str = "manila",
        more: Sequence[commands.Command] = (),
        groups: Sequence[int] = (),
    ) -> None:
        self.name = name
        self._driver = driver
        self._more = more
        self._groups = list(groups)
        self.state = directory / "state"
        self.config = directory / "etc" / "rootwrap.conf"
        self.helper = f"sudo -n {DAEMON} {self.config}"
        self._rule = Path("/etc/sudoers.d") / name

    def make(self) -> None:
        subprocess.run(
            ["useradd", "--system", "--no-create-home", "--shell", "/bin/false", self.name],
            check=True,
        )
        rule = self.prepare()
        draft = self.config.parent / "sudoers"
        draft.write_text(rule)
        subprocess.run(["visudo", "-c", "-f", draft], check=True, capture_output=True)
        draft.chmod(0o440)
        shutil.move(draft, self._rule)
        subprocess.run(["visudo", "-c"], check=True, capture_output=True)

    def prepare(self) -> str:
        """Make his directories and configuration, and return what sudoers shall say of him."""
        for path in (self.state, self.state / "volumes", self.state / "mounts"):
            path.mkdir(mode=0o755)
            shutil.chown(path, self.name)
        # What an operator copies, for another state directory.
        shutil.copytree(ETC, self.config.parent)
        text = (ETC / "rootwrap.conf").read_text()
        self.config.write_text(text.replace("/etc/container-stack", str(self.config.parent)))
        shipped = self.config.parent / "rootwrap.d" / f"{self._driver}.filters"
        assert shipped.read_text() == commands.filters(self._driver)
        state = str(self.state)
        more = "".join(f"{each.filter(state)}\n" for each in self._more)
        shipped.write_text(commands.filters(self._driver, state, str(DAEMON.parent)) + more)
        return config.sudoers(self.name, str(DAEMON), str(self.config.parent))

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
            os.setgroups(self._groups)
            os.setgid(record.pw_gid)
            os.setuid(record.pw_uid)
            os.chdir("/")
            return function(), ""
        except BaseException:
            return None, traceback.format_exc()
