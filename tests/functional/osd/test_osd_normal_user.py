# SPDX-License-Identifier: Apache-2.0
"""The daemon as a normal user, with one line in sudoers and the shipped filters."""

import pwd
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from container_stack.host import mounts

from .. import normal_user, segments, service_account
from . import osd_daemon

pytestmark = pytest.mark.skipif(segments.needs_root, reason="makes a user and a rule for sudo")


@pytest.fixture
def daemon() -> Iterator[osd_daemon.Daemon]:
    with service_account.account(driver="osd") as account:
        user = pwd.getpwnam(account.name)
        words = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
        place = account.state.parent / "osd"
        place.mkdir()
        shutil.chown(place, account.name)
        with osd_daemon.daemon(
            place,
            {"loop": None},
            # He may have no right to read the tests, where others' backends are.
            within=[*words, *normal_user.reading(words), "env", "HOME=/nonexistent", "PYTHONPATH="],
            state_dir=str(account.state),
            root_helper=account.helper,
        ) as made:
            yield made
        await_end_of_all(user.pw_uid)


def await_end_of_all(uid: int) -> None:
    """Wait until helpers have noticed that their daemon is gone."""
    end = time.monotonic() + 60
    while subprocess.run(["pgrep", "-U", str(uid)], check=False, capture_output=True).stdout:
        assert time.monotonic() < end
        time.sleep(0.1)


def test_volume_lives_its_life(daemon: osd_daemon.Daemon) -> None:
    daemon.start()
    status = Path(f"/proc/{daemon.pid}/status").read_text(encoding="utf-8")
    assert "\nUid:\t0\t" not in status
    daemon.run("loop", "create", "hold", "-s", "330")
    path = daemon.run("loop", "mount", "hold")
    assert mounts.at(path) is not None
    Path(path, "cargo").write_text("tea", encoding="utf-8")
    daemon.run("loop", "snap", "hold", "--name", "monday", "--readonly")
    daemon.run("loop", "grow", "hold", "-s", "400")
    daemon.kill()
    daemon.start()
    daemon.run("loop", "unmount", "hold")
    daemon.run("loop", "restore", "hold", "--snapshot", "monday")
    path = daemon.run("loop", "mount", "hold")
    assert Path(path, "cargo").read_text(encoding="utf-8") == "tea"
    daemon.run("loop", "unmount", "hold")
    daemon.run("loop", "delete", "monday")
    daemon.run("loop", "delete", "hold")
    assert mounts.below(str(daemon.state_dir)) == []


def test_state_directory_that_is_not_his_is_refused(daemon: osd_daemon.Daemon) -> None:
    shutil.chown(daemon.state_dir, "root")
    shutil.chown(daemon.state_dir / "mounts", "root")
    assert str(daemon.state_dir) in daemon.refused()
