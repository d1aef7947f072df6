# SPDX-License-Identifier: Apache-2.0
"""An sshd of a test's own on the loopback, behind which there is a Docker Engine."""

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

SSHD = "/usr/sbin/sshd"
#: Where sshd wants an empty directory.
PRIVSEP = Path("/run/sshd")


@contextlib.contextmanager
def running(directory: Path, engine: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Run an sshd that this process's ssh knows, and lend the URL of the engine behind it.

    :param engine: URL of the engine as programs that come by ssh see it.
    """
    if not os.path.exists(SSHD):
        pytest.fail("These tests need openssh-server; apt-get install openssh-server.")
    port = _free_port()
    for key in ("host_key", "user_key"):
        argv = ("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", directory / key)
        subprocess.run(argv, check=True)
    host_key = (directory / "host_key.pub").read_text()
    (directory / "known_hosts").write_text(f"[127.0.0.1]:{port} {host_key}")
    shutil.copy(directory / "user_key.pub", directory / "authorized_keys")
    (directory / "sshd_config").write_text(
        f"""
        Port {port}
        ListenAddress 127.0.0.1
        HostKey {directory}/host_key
        PidFile none
        AuthorizedKeysFile {directory}/authorized_keys
        StrictModes no
        UsePAM no
        PasswordAuthentication no
        PermitRootLogin prohibit-password
        MaxStartups 100
        MaxSessions 100
        SetEnv DOCKER_HOST={engine}
        """
    )
    use(directory, monkeypatch)
    made = not PRIVSEP.exists()
    PRIVSEP.mkdir(exist_ok=True)
    with (directory / "log").open("wb") as log:
        argv = (SSHD, "-D", "-e", "-f", directory / "sshd_config")
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=log)
    try:
        _await_port(port)
        yield f"ssh://{getpass.getuser()}@127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)
        if made:
            PRIVSEP.rmdir()


def use(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process's ssh have keys and known hosts of the test's own."""
    (directory / "ssh_config").write_text(
        f"""
        IdentityFile {directory}/user_key
        IdentitiesOnly yes
        UserKnownHostsFile {directory}/known_hosts
        GlobalKnownHostsFile /dev/null
        StrictHostKeyChecking yes
        """
    )
    programs = directory / "bin"
    programs.mkdir(exist_ok=True)
    ssh = programs / "ssh"
    ssh.write_text(f'#!/bin/sh\nexec /usr/bin/ssh -F {directory}/ssh_config "$@"\n')
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")


def clients() -> list[int]:
    """Return the ssh processes that this process has started and that still run."""
    argv = ("pgrep", "--runstates", "DRST", "--parent", str(os.getpid()), "--exact", "ssh")
    found = subprocess.run(argv, capture_output=True, text=True, check=False).stdout.split()
    return [int(pid) for pid in found]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _await_port(port: int) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            assert time.monotonic() < deadline, "sshd doesn't listen"
            time.sleep(0.05)
