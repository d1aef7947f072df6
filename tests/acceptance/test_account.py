# SPDX-License-Identifier: Apache-2.0
"""The processes and the user that the tests make go without a trace."""

import stat
import subprocess
from pathlib import Path

import pytest

from . import account, process


def test_what_is_awaited_from_a_dead_service_fails_at_once(tmp_path: Path) -> None:
    with (
        process.Process("brief", ["sh", "-c", "echo farewell"], tmp_path) as brief,
        pytest.raises(AssertionError, match=r"(?s)brief ended.*farewell"),
    ):
        process.wait_for("the tide", lambda: None, timeout=60, processes=[brief])


def test_a_stopped_process_leaves_no_children(tmp_path: Path) -> None:
    script = "trap '' TERM; sleep 600 & sleep 601"
    with process.Process("stubborn", ["sh", "-c", script], tmp_path) as stubborn:
        process.wait_for("children", lambda: process.mentioning(str(tmp_path)))
        stubborn.stop(grace=0.2)

    assert process.mentioning(str(tmp_path)) == []


def test_the_normal_user_may_start_one_daemon_and_goes_without_a_trace(tmp_path: Path) -> None:
    before = stat.S_IMODE(tmp_path.stat().st_mode)
    home, rootwrap = tmp_path / "home", tmp_path / "rootwrap"
    home.mkdir()

    with account.reachable(home), account.normal_user(home=home, rootwrap=rootwrap) as identity:
        allowed = subprocess.run(
            ["sudo", "-n", "-l", "-U", account.NAME], capture_output=True, text=True, check=True
        )
        refused = subprocess.run(
            ["sudo", "-n", str(account.DAEMON), "/etc/other.conf"],
            user=identity.user,
            group=identity.group,
            capture_output=True,
            text=True,
            check=False,
        )

    assert allowed.stdout.splitlines()[-1].split(maxsplit=2)[2] == (
        f"{account.DAEMON} {rootwrap}/rootwrap.conf"
    )
    assert refused.returncode != 0
    assert not account.exists()
    assert stat.S_IMODE(tmp_path.stat().st_mode) == before
