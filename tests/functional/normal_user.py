# SPDX-License-Identifier: Apache-2.0
"""A user who isn't root, may use the engine, and may become root through sudo as on a laptop."""

import contextlib
import os
import pwd
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

NAME = "cstest-demo"
SUDOERS = Path("/etc/sudoers.d") / NAME
SOCKET = Path("/var/run/docker.sock")


@contextlib.contextmanager
def normal_user(*, sudo: bool) -> Iterator[list[str]]:
    """Make the user, yield the words that run a command as him, and remove him.

    :param sudo: let sudo obey him without a password.
    """
    remove()
    with contextlib.ExitStack() as undo:
        undo.callback(remove)
        group = str(SOCKET.stat().st_gid)
        subprocess.run(["useradd", "--system", "--no-create-home", "-G", group, NAME], check=True)
        if sudo:
            draft = SUDOERS.with_suffix(".draft")
            draft.write_text(f"{NAME} ALL=(root) NOPASSWD: ALL\n", encoding="utf-8")
            draft.chmod(0o440)
            draft.rename(SUDOERS)
        user = pwd.getpwnam(NAME)
        words = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--init-groups"]
        yield [*words, *reading(words), "env", "HOME=/nonexistent"]


def remove() -> None:
    """Remove the user and what he may do, also when an earlier run was killed."""
    SUDOERS.unlink(missing_ok=True)
    end = time.monotonic() + 20
    while _exists() and subprocess.run(["userdel", NAME], check=False).returncode:
        assert time.monotonic() < end, f"{NAME} is still in use"
        time.sleep(0.2)  # a process of his is about to end


def _exists() -> bool:
    try:
        return bool(pwd.getpwnam(NAME))
    except KeyError:
        return False


def reading(words: list[str]) -> list[str]:
    """Let him read the Python under test where that lies in root's own home."""
    probe = [*words, "test", "-x", os.path.abspath(sys.executable)]
    if not subprocess.run(probe, check=False).returncode:
        return []
    return ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
