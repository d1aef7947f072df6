# SPDX-License-Identifier: Apache-2.0
"""What is mounted in another mount namespace, and whether we are told."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from container_stack import exceptions
from container_stack.host import propagation

CHECK = (
    "import os, sys; from container_stack.host import propagation as p; p.check(sys.argv[1], {})"
)


def run(directory: Path, pid: object, *before: str) -> subprocess.CompletedProcess[str]:
    command = [*before, sys.executable, "-c", CHECK.format(pid), str(directory)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_same_namespace_is_seen(tmp_path: Path) -> None:
    propagation.check(str(tmp_path), os.getpid())
    propagation.check(str(tmp_path), 1)


def test_same_namespace_is_seen_by_who_may_not_look_at_other_processes(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    done = run(tmp_path, 1, "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    assert "HostNotReady" not in done.stderr
    if "Permission" not in done.stderr:  # a virtual environment below /root
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("kind", ["private", "slave"])
def test_namespace_of_its_own_is_told(tmp_path: Path, kind: str) -> None:
    done = run(tmp_path, 1, "unshare", "--mount", "--propagation", kind)
    assert "isn't seen outside" in done.stderr


def test_shared_directory_of_a_namespace_is_seen(tmp_path: Path) -> None:
    script = (
        f"mount --bind {tmp_path} {tmp_path}; mount --make-shared {tmp_path}; "
        'unshare --mount --propagation "$KIND" "$@"; exit $?'
    )
    for kind, seen in (("unchanged", True), ("slave", False)):
        outer = ["unshare", "--mount", "--propagation", "private", "env", f"KIND={kind}"]
        # The one that looks is bash's child, whose namespace is the outer one.
        done = run(tmp_path, "os.getppid()", *outer, "bash", "-ec", script, "bash")
        assert (done.returncode == 0) is seen, done.stderr


def test_outside_is_reached_by_what_is_shared_only(tmp_path: Path) -> None:
    if not propagation.mounts.holding(str(tmp_path)).shared:
        with pytest.raises(exceptions.HostNotReady):
            propagation.check(str(tmp_path), propagation.OUTSIDE)


def test_silent_engine_stands_where_the_host_does(tmp_path: Path) -> None:
    assert propagation.engine_pid(f"unix://{tmp_path}/none.sock") == 1
    assert propagation.engine_pid("tcp://127.0.0.1:2375") == 1
