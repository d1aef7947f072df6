# SPDX-License-Identifier: Apache-2.0
"""The service, the engine or Samba is killed in the middle of everything, and clients go on.

What, and where in an operation, is drawn anew each day, and stays when failures are repeated.
FAULTS_SEED repeats a day, and FAULTS_EACH=N tries every N-th step of each operation.
"""

import os
import random
import time
from collections.abc import Sequence

import pytest

from acceptance.faults import steps, trial

SEED = os.environ.get("FAULTS_SEED") or time.strftime("%Y-%m-%d", time.gmtime())
EACH = int(os.environ.get("FAULTS_EACH") or 0)
#: How many operations each victim is killed in, of all that there are.
VICTIMS = {"manila-share": len(steps.OPERATIONS), "dockerd": 4, "smbd": 4}


def _cases() -> Sequence[tuple[str, str]]:
    draw, all_of_them = random.Random(SEED), list(steps.OPERATIONS)
    return [
        (victim, operation)
        for victim, count in VICTIMS.items()
        for operation in (all_of_them if EACH else sorted(draw.sample(all_of_them, count)))
    ]


@pytest.mark.parametrize(("victim", "operation"), _cases())
def test_what_was_acknowledged_is_kept_and_no_orphan_is_left(
    trials: trial.Trial, victim: str, operation: str
) -> None:
    for step in _steps(trials, victim, operation):
        asked = trials.prepare(operation)
        with trials.recording(f"{victim}-{operation}-{step}") as written:
            moment = _kill(trials, victim, operation, step, asked)
            print(f"FAULTS_SEED={SEED}: {victim} killed at {moment}")
            written.wait_for_more()
        trials.check_asked(operation, asked, forgotten=victim == "manila-share")
        trials.check_share(written, reverted=operation == "revert")
        trials.clear(asked)
        assert trials.left() == []


def _steps(trials: trial.Trial, victim: str, operation: str) -> Sequence[int]:
    """Return at which steps the operation is to be held."""
    hold = trials.world.hold
    if not hold.steps(operation):
        asked = trials.prepare(operation)
        trials.ask(operation, asked)
        trials.settled(operation, asked)
        trials.clear(asked)
    last = hold.steps(operation)
    assert last > 1, f"{operation} has more steps than {last}; were they counted?"
    if EACH:
        return range(1, last + 1, EACH)
    return [random.Random(f"{SEED} {victim} {operation}").randint(1, last)]


def _kill(trials: trial.Trial, victim: str, operation: str, step: int, asked: trial.Asked) -> str:
    """Kill at this step of the operation, bring back what was killed, and say when it was."""
    made, service = trials.world, trials.world.cifs.backend
    made.hold.at(operation, step)
    try:
        trials.ask(operation, asked)
        made.client.wait(f"step {step} of {operation}", made.hold.reached.exists)
        moment = made.hold.reached.read_text()
        if victim == "manila-share":
            service.service.kill()
        elif victim == "dockerd":
            made.engine.crash()
        else:
            made.engine.kill_samba(made.cifs.owner)
    finally:
        made.hold.release()
    if victim == "manila-share":
        service.restart()
        if operation == "rule":
            # The one thing that Manila takes up again.
            trials.settled(operation, asked)
    else:
        if victim == "dockerd":
            made.engine.start()
        trials.settled(operation, asked)
    return moment
