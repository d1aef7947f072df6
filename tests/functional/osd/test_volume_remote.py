# SPDX-License-Identifier: Apache-2.0
"""Volumes that other hosts keep, through the service, by a user who isn't root."""

import json
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from contract import ec2_world

from .. import segments, service_account

pytestmark = pytest.mark.skipif(segments.needs_root, reason="makes a user and a rule for sudo")

# The Python under test may lie in root's own home.
READING = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")


@pytest.fixture
def account() -> Iterator[service_account.Account]:
    with service_account.account(driver="osd") as made:
        yield made


def test_directories_live_through_the_service(account: service_account.Account) -> None:
    kept = account.state.parent / "kept"
    kept.mkdir()
    shutil.chown(kept, account.name)
    live(account, name="nfs", settings={"path": str(kept)})
    assert [*kept.iterdir()] == []


def test_ebs_lives_through_the_service(
    account: service_account.Account, tmp_path: pathlib.Path
) -> None:
    with ec2_world.cloud(tmp_path / "cloud") as cloud:
        devices, unit = str(cloud.directory / "devices"), ec2_world.UNIT
        live(account, name="aws", settings=cloud.settings(), devices=devices, unit=unit)
        assert cloud.left() == (set(), set())


def live(account: service_account.Account, **told: Any) -> None:
    """Let a process of the user's do all that can be done."""
    told = {**told, "state": str(account.state), "helper": account.helper}
    words = ["setpriv", f"--reuid={account.name}", "--regid=65534", "--clear-groups", *READING]
    program = [sys.executable, str(pathlib.Path(__file__).with_name("remote_life.py"))]
    done = subprocess.run(
        [*words, "env", "HOME=/nonexistent", *program, json.dumps(told)],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
