# SPDX-License-Identifier: Apache-2.0
"""How os-brick's connectors run commands here: without a shell, and without its own helper.

oslo.concurrency, which os-brick takes otherwise, forks the whole process for each of the thirty
commands of an attachment; here the kernel makes them by vfork, which takes a tenth of the time.
"""

import subprocess
import time
from collections.abc import Collection

from oslo_concurrency import processutils

#: Seconds before the first repetition; each further one waits twice as long.
PAUSE = 0.2


def execute(
    *argv: object,
    check_exit_code: bool | int | Collection[int] = True,
    process_input: str | bytes | None = None,
    attempts: int = 1,
    **_options: object,
) -> tuple[str, str]:
    """Run a command and return its standard output and standard error.

    It takes what os-brick passes; who started this process is root, and limits its time.

    :param check_exit_code: those that mean success; True: 0, False: any.
    :raises ProcessExecutionError: it failed, ``attempts`` times, or isn't installed.
    """
    words = [str(word) for word in argv]
    data = process_input.encode() if isinstance(process_input, str) else process_input
    for attempt in range(attempts):
        if attempt:
            time.sleep(PAUSE * 2 ** (attempt - 1))
        try:
            done = subprocess.run(words, input=data or b"", capture_output=True, check=False)
        except OSError as exc:
            raise processutils.ProcessExecutionError(
                cmd=words[0], exit_code=127, description=str(exc)
            ) from exc
        out, err = (each.decode(errors="replace") for each in (done.stdout, done.stderr))
        if _good(done.returncode, check_exit_code):
            return out, err
    raise processutils.ProcessExecutionError(
        stdout=out, stderr=err, exit_code=done.returncode, cmd=words[0]
    )


def _good(code: int, accepted: bool | int | Collection[int]) -> bool:
    if isinstance(accepted, bool):
        return not accepted or code == 0
    return code == accepted if isinstance(accepted, int) else code in accepted
