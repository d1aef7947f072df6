# SPDX-License-Identifier: Apache-2.0
"""The service's own user as an operator makes him: with one command of sudo, and the engine."""

import contextlib
import os
import pwd
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import container_stack
from container_stack.rootwrap import config

from . import process

NAME = "cstest-manila"
#: Where the Docker Engine listens.
ENGINE = os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"


#: The one program that he may start through sudo, and where his own programs come from.
DAEMON = Path(sys.prefix) / "bin/container-stack-rootwrap-daemon"
CODE = (
    Path(sys.prefix),
    Path(sys.base_prefix),
    Path(container_stack.__file__).parent,
    Path(__file__).parent,
)


@contextlib.contextmanager
def normal_user(*, home: Path, rootwrap: Path, name: str = NAME) -> Iterator[process.Identity]:
    """Create the user, and remove him in the end; what he wrote is below ``home``.

    :param rootwrap: the directory of ``rootwrap.conf``, the only argument he may give.
    """
    remove(name)
    with contextlib.ExitStack() as undo:
        undo.callback(remove, name)
        _run("useradd", "--system", "--user-group", "--no-create-home", f"--home-dir={home}", name)
        _allow_sudo(config.sudoers(name, str(DAEMON), str(rootwrap)), home, sudoers(name))
        entry = pwd.getpwnam(name)
        # Of users who had this number before.
        others = _owned_files(entry.pw_uid)
        yield process.Identity(entry.pw_uid, entry.pw_gid, _engine_groups())
    left = _owned_files(entry.pw_uid) - others
    strays = [each for each in left if not Path(each).is_relative_to(home)]
    assert not strays, f"Left outside {home}: {strays}"


@contextlib.contextmanager
def reachable(*paths: Path) -> Iterator[None]:
    """Let other users pass through the directories above these paths, for a while."""
    with contextlib.ExitStack() as undo:
        for directory in {parent for path in paths for parent in (path, *path.resolve().parents)}:
            mode = stat.S_IMODE(directory.stat().st_mode)
            if directory.is_dir() and not mode & stat.S_IXOTH:
                undo.callback(directory.chmod, mode)
                directory.chmod(mode | stat.S_IXOTH)
        yield


def sudoers(name: str = NAME) -> Path:
    """Return the file with what sudo lets the user do."""
    return Path("/etc/sudoers.d") / name


def exists(name: str = NAME) -> bool:
    """Tell whether there is anything of the user."""
    return sudoers(name).exists() or name in [entry.pw_name for entry in pwd.getpwall()]


def remove(name: str = NAME) -> None:
    """Remove the user and what he may do, also when an earlier run was killed."""
    sudoers(name).unlink(missing_ok=True)
    if exists(name):
        _run("userdel", name)


def _engine_groups() -> tuple[int, ...]:
    scheme, _, path = ENGINE.partition("://")
    return (Path(path).stat().st_gid,) if scheme == "unix" else ()


def _allow_sudo(line: str, directory: Path, target: Path) -> None:
    draft = directory / "sudoers"
    draft.write_text(line)
    draft.chmod(0o440)
    # A broken file in sudoers.d breaks sudo for everybody: it is checked before it gets there.
    _run("visudo", "--check", "--file", str(draft))
    _run("install", "--mode=0440", str(draft), str(target))
    _run("visudo", "--check")


def _owned_files(uid: int) -> set[str]:
    """Return the files of this user in the places where services write."""
    found = set()
    for directory in ("/etc", "/run", "/tmp", "/var/cache", "/var/log", "/var/mail", "/var/tmp"):
        for folder, folders, files in os.walk(directory):
            for name in (*folders, *files):
                path = os.path.join(folder, name)
                with contextlib.suppress(OSError):
                    if os.lstat(path).st_uid == uid:
                        found.add(path)
    return found


def _run(*argv: str) -> None:
    result = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert result.returncode == 0, f"{' '.join(argv)}: {result.stdout}{result.stderr}"
