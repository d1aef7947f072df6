# SPDX-License-Identifier: Apache-2.0
"""The power of a whole machine goes while shares on LVM are written to and worked on.

The machine is a guest of tools/uml-guest.sh, of which nothing is left but its disk: what its kernel
had not written there is lost.
"""

import contextlib
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from acceptance import process
from acceptance.faults import test_kills

_CHECKOUT = Path(__file__).parents[3]
_OPERATIONS = ("allow", "extend", "snapshot", "rule", "clone", "delete", "forget", "deny")


def test_after_a_loss_of_power_all_is_there_that_was_acknowledged(tmp_path: Path) -> None:
    draw = random.Random(f"{test_kills.SEED} power")
    operation, delay = draw.choice(_OPERATIONS), draw.uniform(0, 0.6)
    print(f"FAULTS_SEED={test_kills.SEED}: power off {delay:.2f} s after {operation} began")
    first = _guest("live", tmp_path)
    with first:
        process.wait_for(
            operation,
            lambda: _said(tmp_path / "doing") == operation,
            timeout=400,
            processes=[first],
        )
        time.sleep(delay)
        _power_off(first)
    assert (tmp_path / "acknowledged").stat().st_size > 0

    with _guest("look", tmp_path) as second:
        process.wait_for("a look", (tmp_path / "found").exists, timeout=400, processes=[second])
    found = json.loads((tmp_path / "found").read_text())
    assert found == {"failed": {}, "lost": [], "left": []}


def _guest(what: str, directory: Path) -> process.Process:
    """Return a guest that is to do something, not yet started."""
    shared = {str(directory), sys.prefix, str(_CHECKOUT)}
    kept = {name: os.environ[name] for name in os.environ if name.startswith("CONTAINER_STACK_")}
    environment = {
        **kept,
        "PYTHONPATH": str(_CHECKOUT / "tests"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "UML_GUEST_SHARE": " ".join(sorted(shared)),
        "UML_GUEST_TIMEOUT": "600",
    }
    python = [sys.executable, "-m", "guest.power", what, str(directory)]
    argv = [str(_CHECKOUT / "tools/uml-guest.sh"), *python]
    return process.Process(f"guest-{what}", argv, directory, environment=environment)


def _power_off(guest: process.Process) -> None:
    """Kill the guest's kernel, with all that it has in memory."""
    for line in process.mentioning(str(guest.log.parent)):
        number, _, command = line.partition(": ")
        if command.startswith("./linux "):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(number), signal.SIGKILL)
    process.wait_for("the end of the guest", lambda: not guest.running, timeout=60)


def _said(path: Path) -> str:
    return path.read_text() if path.exists() else ""
